"""What a client of the plant would see, asked over the inventory's own connections."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.plant import Plant

KAFKA = "/opt/plantline/kafka/bin"
ADMIN = "/etc/plantline/kafka/admin.properties"
SCRAPED_WITHIN_S = 60


def kafka(host, tool, *arguments):
    """Output of one of Kafka's own tools on a broker, with the broker's own certificate."""
    servers = host.check_output(f"sed -n 's/^bootstrap.servers=//p' {ADMIN}")
    return host.check_output(
        f"JAVA_HOME=/opt/plantline/java KAFKA_HEAP_OPTS=-Xmx128m {KAFKA}/{tool} "
        f"--bootstrap-server {servers} --command-config {ADMIN} {' '.join(arguments)}"
    )


ASK = """
import ssl, sys, urllib.request
identity, url = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/plantline/pki/ca.pem")
context.load_cert_chain(f"/etc/plantline/pki/{identity}/bundle.pem")
print(urllib.request.urlopen(url, context=context).read().decode())
"""


def rest(host, path, port=8081, identity="flink"):
    """A JSON answer of a service, by default of Flink's JobManager, asked on its own host."""
    url = f"https://localhost:{port}{path}"
    return json.loads(host.check_output("python3 -c %s %s %s", ASK, identity, url))


@pytest.fixture(scope="module")
def broker(plant, on):
    return on(plant["kafka_brokers"][0])


@pytest.fixture(scope="module")
def master(plant, on):
    return on(plant["flink_masters"][0])


def test_the_quorum_has_a_leader_and_all_voters(plant, broker):
    rows = kafka(broker, "kafka-metadata-quorum.sh", "describe", "--replication").splitlines()
    roles = [row.split()[-1] for row in rows[1:]]
    assert roles.count("Leader") == 1
    assert roles.count("Leader") + roles.count("Follower") == len(plant["kafka_controllers"])


def test_each_broker_holds_its_replicas(broker):
    assert kafka(broker, "kafka-topics.sh", "--describe", "--under-replicated-partitions") == ""
    assert kafka(broker, "kafka-topics.sh", "--describe", "--unavailable-partitions") == ""


def test_every_worker_offers_its_slots(plant, master):
    workers = rest(master, "/taskmanagers")["taskmanagers"]
    assert len(workers) == len(plant["flink_workers"])
    assert all(worker["slotsNumber"] > 0 for worker in workers)


def test_every_declared_job_runs_and_completes_checkpoints(master):
    declared = json.loads(master.check_output("cat /etc/plantline/jobs/declared.json"))
    wanted = {job["name"] for job in declared["jobs"] if job.get("state", "running") == "running"}
    running = [job for job in rest(master, "/jobs/overview")["jobs"] if job["state"] == "RUNNING"]
    assert sorted(job["name"] for job in running) == sorted(wanted)
    for job in running:
        assert rest(master, f"/jobs/{job['jid']}/checkpoints")["counts"]["completed"] > 0


def test_the_master_reaches_every_worker_without_a_prompt(plant, on, master):
    for name in plant["flink_workers"]:
        answer = master.run(f"runuser -u flink -- ssh -o BatchMode=yes {name} hostname")
        assert answer.rc == 0, answer.stderr
        assert answer.stdout.strip() == on(name).check_output("hostname")


def test_a_wrong_user_cannot_log_in(plant, master):
    name = plant["flink_workers"][-1]
    # Told in words: testinfra takes exit code 255 for a failure of its own connection.
    answer = master.run(f"runuser -u flink -- ssh -o BatchMode=yes root@{name} true; echo $?")
    assert answer.stdout.strip() == "255"
    assert "Permission denied" in answer.stderr


def test_prometheus_reaches_all_that_it_watches(inventory, plant, on):
    for name in plant.get("monitoring", []):
        port = Plant(Path(inventory)).value(name, "prometheus_port") or 9090
        # One that was just started is asked at the next scrape.
        deadline = time.monotonic() + SCRAPED_WITHIN_S
        while True:
            answer = rest(on(name), "/api/v1/targets?state=active", port, "prometheus")
            targets = answer["data"]["activeTargets"]
            lost = [
                (target["labels"]["job"], target["labels"]["instance"], target["lastError"])
                for target in targets
                if target["health"] != "up"
            ]
            if not lost or time.monotonic() > deadline:
                break
            time.sleep(1)  # between two questions
        assert targets
        assert not lost


def test_a_reading_goes_in_and_its_prediction_comes_out(inventory):
    model = f"{inventory}/group_vars/all/plant.yml"
    plant = Plant(Path(inventory))
    folder = plant.value(plant.group("kafka_brokers")[0], "kafka_client_dir") or "out"
    probe = [sys.executable, "-m", "flink_jobs.tools.probe", "--plant", model]
    probe += ["--config", f"{folder}/client.conf"]
    subprocess.run(probe, check=True)
