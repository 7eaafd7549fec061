"""A plant in trouble calls for help: faults are made for real, and the alerts are awaited where a
person's pager would be.
"""

import contextlib
import json
import socket
import sys
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import (
    INVENTORY,
    curl,
    eventually,
    note,
    on,
    operator_context,
    playbook,
    rest,
    run,
)

HEARTBEATS = "plantline-anomaly-_heartbeat"
TOPIC = "alert-test"
JAVA = "JAVA_HOME=/opt/plantline/java KAFKA_HEAP_OPTS=-Xmx128m"
KAFKA_TOPICS = f"{JAVA} /opt/plantline/kafka/bin/kafka-topics.sh"
PROMETHEUS_FILE = "/etc/plantline/prometheus/prometheus.yml"

# What is done to the plant, and the alerts that must come of it: (name, what each is about).
FIRST = {
    ("HostDown", "node2"),
    ("PartitionsOffline", ""),
    ("PartitionsUnderReplicated", ""),
    ("TaskManagerMissing", ""),
    ("ExporterDown", "node1"),
    ("ConfigurationRefused", "node3"),
    ("JobNotRunning", HEARTBEATS),
    ("HeartbeatOld", ""),
}
SECOND = {("ServiceDown", "node3"), ("ControllerNotOne", "")}


@pytest.fixture(scope="module")
def inventory():
    return json.loads(run("ansible-inventory", "-i", INVENTORY, "--list").stdout)


@pytest.fixture(scope="module")
def address(inventory):
    """Address of the monitoring host."""
    (host,) = inventory["monitoring"]["hosts"]
    return inventory["_meta"]["hostvars"][host]["ansible_host"]


@pytest.fixture(scope="module")
def prometheus(plant, address):
    """Calling it asks Prometheus' HTTP API, as dashboards do."""

    def ask(path, **parameters):
        query = urllib.parse.urlencode(parameters)
        url = f"https://{address}:9090/api/v1/{path}?{query}"
        with urllib.request.urlopen(url, context=operator_context()) as answer:
            return json.load(answer)["data"]

    return ask


def value(prometheus, expression):
    """The single number that an expression comes to."""
    (found,) = prometheus("query", query=expression)["result"]
    return float(found["value"][1])


def about(labels):
    """What an alert is about: a job of Flink, a host, or the plant."""
    return labels["alertname"], labels.get("job_name", labels.get("instance", ""))


class Pager:
    """A receiver of Alertmanager's webhooks: when which alert came, and when it was resolved."""

    def __init__(self, address):
        self.fired, self.resolved, self.annotations, self.watchdogs = {}, {}, {}, 0
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/watchdog":
                    pager.watchdogs += 1
                else:
                    pager.take(body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                """Not among the tests' output."""

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self.url = f"http://{address}:{self._server.server_address[1]}"

    def take(self, alerts):
        for alert in alerts:
            seen = self.fired if alert["status"] == "firing" else self.resolved
            seen.setdefault(about(alert["labels"]), time.monotonic())
            self.annotations[about(alert["labels"])] = alert["annotations"]

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def pager(prometheus, address):
    """The plant's alerts come here, and to nobody again afterwards."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
        way.connect((address, 9))  # sends nothing: it only finds this machine's address there
        own = way.getsockname()[0]
    with Pager(own) as receiver:
        receivers = [{"name": "pager", "webhook_configs": [{"url": f"{receiver.url}/alerts"}]}]
        told = {
            "alertmanager_receivers": receivers,
            "alertmanager_watchdog_url": f"{receiver.url}/watchdog",
        }
        receiver.settings = ("--limit", "monitoring", "-e", json.dumps(told))
        playbook("playbooks/monitoring.yml", *receiver.settings)
        yield receiver
    playbook("playbooks/monitoring.yml", "--limit", "monitoring")


def test_every_target_of_the_inventory_is_up(prometheus, inventory):
    def members(group):
        content = inventory.get(group, {})
        below = (host for child in content.get("children", []) for host in members(child))
        return {*content.get("hosts", []), *below}

    expected = {
        *(("node", host) for host in inventory["_meta"]["hostvars"]),
        *(("kafka", host) for host in members("kafka")),
        *(("flink/taskmanager", host) for host in members("flink_workers")),
        ("flink/jobmanager", inventory["flink_masters"]["hosts"][0]),
        ("plant", inventory["flink_masters"]["hosts"][0]),
        *((job, host) for job in ["prometheus", "alertmanager"] for host in members("monitoring")),
    }

    def reached():
        found = prometheus("query", query="up == 1")["result"]
        labels = [series["metric"] for series in found]
        return expected == {
            ("/".join(filter(None, [one["job"], one.get("component")])), one["instance"])
            for one in labels
        }

    eventually("all targets are up", reached, 90)


def test_a_healthy_plant_calls_nobody_at_night(prometheus):
    def quiet():
        firing = prometheus("query", query='ALERTS{alertstate="firing",severity="critical"}')
        return not firing["result"]

    eventually("no critical alert fires", quiet, 120)


def test_what_monitoring_costs(prometheus):
    for series in prometheus("query", query="sum by (job) (scrape_samples_scraped)")["result"]:
        note(f"series of job {series['metric']['job']}: {series['value'][1]}")
    for job in ["prometheus", "alertmanager"]:
        size = value(prometheus, f'process_resident_memory_bytes{{job="{job}"}}')
        note(f"memory of {job}: {size / 2**20:.0f} MiB")
    per_host = value(prometheus, 'max(sum by (instance) (scrape_samples_scraped{job="node"}))')
    assert per_host < 600, "collectors were chosen so that many hosts cost little"


def kafka_topics(*arguments):
    admin = "/etc/plantline/kafka/admin.properties"
    servers = f"$(sed -n 's/^bootstrap.servers=//p' {admin})"
    command = f"{KAFKA_TOPICS} --bootstrap-server {servers} --command-config {admin}"
    on("node1", f"{command} {' '.join(arguments)}")


def hosts(verb, host):
    run(sys.executable, "tools/hosts.py", verb, INVENTORY, host)


def is_heartbeat(job):
    return job["name"] == HEARTBEATS and job["state"] == "RUNNING"


def awaited(alerts, seen, within_s):
    """Waits for all of them, and names those that do not come."""
    missing = set(alerts)

    def complete():
        missing.difference_update(list(seen))  # which another thread writes
        return not missing

    eventually(missing, complete, within_s)


def test_faults_reach_the_pager_and_their_end_does_too(pager):
    # Its only replica goes with node2.
    kafka_topics("--create", f"--topic {TOPIC}", "--replica-assignment 2")
    begin = time.monotonic()
    with contextlib.ExitStack() as repairs:
        repairs.callback(kafka_topics, "--delete", f"--topic {TOPIC}")

        repairs.callback(playbook, "playbooks/jobs.yml")
        (job,) = [job for job in rest("/jobs/overview")["jobs"] if is_heartbeat(job)]
        cancel = f"-X PATCH 'https://localhost:8081/jobs/{job['jid']}?mode=cancel'"
        curl("node1", "flink", cancel)

        repairs.callback(on, "node1", "systemctl start prometheus-node-exporter")
        on("node1", "systemctl stop prometheus-node-exporter")
        # By hand, as it should not be: the next run puts it right.
        repairs.callback(playbook, "playbooks/monitoring.yml", *pager.settings)
        on("node3", f"echo 'no setting' >> {PROMETHEUS_FILE} && systemctl reload prometheus")

        repairs.callback(hosts, "start", "node2")
        hosts("stop", "node2")
        awaited(FIRST, pager.fired, 120)

        # The second of three controllers: no quorum. A frozen process is there and does not answer.
        frozen = on("node3", "systemctl show -p MainPID --value kafka")
        repairs.callback(on, "node3", f"kill -CONT {frozen}")
        on("node3", f"kill -STOP {frozen}")
        awaited(SECOND, pager.fired, 90)
        mended = time.monotonic()
    awaited(FIRST | SECOND, pager.resolved, 180)

    for alert in sorted(pager.fired.keys() & pager.resolved.keys(), key=pager.fired.get):
        note(
            f"{' '.join(alert)}: at the pager after {pager.fired[alert] - begin:.0f} s, "
            f"resolved there {pager.resolved[alert] - mended:.0f} s after repairs began"
        )
    assert pager.watchdogs > 0
    told = pager.annotations["HostDown", "node2"]
    assert told["summary"] == "Host node2 is down"
    assert told["runbook_url"].endswith("#hostdown")
    of_node2 = {alert for alert in pager.fired if alert[1] == "node2"}
    assert of_node2 == {("HostDown", "node2")}, "one call for a host, not one for each service"
