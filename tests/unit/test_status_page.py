"""The status page: what it says of a plant that is well, one that is not, and one unknown.

FakePrometheus stands in for Prometheus with recorded answers; tests/live asks a real one.
"""

import datetime
import html.parser
import http.server
import json
import re
import sys
import threading
import time
import urllib.parse
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import status_page

NOW = 1_795_275_500.0
MADE = datetime.datetime(2026, 11, 21, 15, 41, 8, tzinfo=datetime.UTC)
HOSTS = ("node1", "node2", "node3")
# Not asked for where the address is not https.
NO_PKI = Path("none")


def one(value, **labels):
    return {"metric": labels, "value": [NOW, str(value)]}


def each_host(value):
    return [one(value, instance=host) for host in HOSTS]


# Recorded from a plant of three hosts: the beginning of an expression, and its series.
WELL = {
    "vector(time())": [one(NOW)],
    "count by (plant) (up)": [one(13, plant="demo")],
    "time() - max(plantline_heartbeat_timestamp_seconds)": [one(6.9)],
    "max by (machine_id, machine_type, line, area) (plantline_machine_info)": [
        one(1, machine_id="pump-001", machine_type="pump", line="line-1", area="hall-a"),
        one(1, machine_id="pump-002", machine_type="pump", line="line-1", area="hall-a"),
        one(1, machine_id="fan-001", machine_type="fan"),
    ],
    "max by (machine_id) (plantline_machine_alert)": [one(0, machine_id="pump-001")],
    "max by (machine_id) (plantline_machine_score / plantline_machine_threshold)": [
        one(0.31, machine_id="pump-001"),
        one(0.62, machine_id="pump-002"),
    ],
    "time() - max by (machine_id) (plantline_machine_prediction_timestamp_seconds)": [
        one(4.2, machine_id="pump-001"),
        one(4000, machine_id="pump-002"),
    ],
    "max by (job_name) (flink_jobmanager_job_runningState)": [
        one(1, job_name="plantline-anomaly-pump"),
        one(1, job_name="plantline-anomaly-_heartbeat"),
    ],
    "max by (job_name) (flink_jobmanager_job_restartingState)": [
        one(0, job_name="plantline-anomaly-pump"),
    ],
    "max by (job_name) (increase(flink_jobmanager_job_numRestarts": [
        one(0, job_name="plantline-anomaly-pump"),
    ],
    "max by (job_name) (flink_jobmanager_job_lastCheckpointDuration)": [
        one(139, job_name="plantline-anomaly-pump"),
    ],
    "sum by (group) (plantline_consumer_lag)": [one(12, group="plantline-anomaly-pump")],
    "sum(plantline_consumer_lag)": [one(12)],
    'up{job="kafka"}': each_host(1),
    "kafka_server_state": each_host(3),
    "kafka_server_under_replicated_partitions": each_host(0),
    "kafka_server_offline_log_dirs": each_host(0),
    'up{job="node"}': each_host(1),
    "1 - avg by (instance) (rate(node_cpu": each_host(0.25),
    "1 - node_memory_MemAvailable": each_host(0.26),
    "topk by (instance) (1": [one(0.76, instance=host, mountpoint="/data") for host in HOSTS],
}
ALERT = {
    "labels": {"alertname": "HostDown", "instance": "node2", "severity": "critical"},
    "annotations": {"summary": "Host node2 is down"},
    "state": "firing",
    "activeAt": datetime.datetime.fromtimestamp(NOW - 300, datetime.UTC).strftime(
        "%Y-%m-%dT%H:%M:%S.123456789Z"
    ),
}
WATCHDOG = ALERT | {"labels": {"alertname": "Watchdog", "severity": "none"}}


class FakePrometheus:
    """Answers like Prometheus' HTTP API: the series of the longest beginning that fits."""

    def __init__(self):
        self.series = dict(WELL)
        self.alerts = [WATCHDOG]
        self.status = 200
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()

    def answer(self, request):
        path, _, query = request.path.partition("?")
        data = {"alerts": self.alerts}
        if path.endswith("/query"):
            [expression] = urllib.parse.parse_qs(query)["query"]
            fits = [key for key in self.series if expression.startswith(key)]
            data = {"result": self.series[max(fits, key=len)] if fits else []}
        request.send_response(self.status)
        request.end_headers()
        request.wfile.write(json.dumps({"status": "success", "data": data}).encode())


@pytest.fixture
def prometheus(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    fake = FakePrometheus()
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


def collect(prometheus):
    return status_page.collect(status_page.Prometheus(prometheus.url, NO_PKI, timeout_s=5))


def page(prometheus, **options):
    return status_page.render(collect(prometheus), MADE, **options)


def tile(status, title):
    [found] = [tile for tile in status.tiles if tile.title == title]
    return found


def text_of(page):
    """What a reader sees of a page, on one line."""

    class Reader(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.words, self.hidden = [], False

        def handle_starttag(self, tag, _):
            self.hidden = tag in ("style", "script", "title")

        def handle_endtag(self, _):
            self.hidden = False

        def handle_data(self, data):
            if not self.hidden:
                self.words += data.split()

    reader = Reader()
    reader.feed(page)
    return " ".join(reader.words)


# ── A plant that is well ─────────────────────────────────────────────────────────────────────────


def test_a_plant_that_is_well_is_quiet(prometheus):
    status = collect(prometheus)
    assert {tile.level for tile in status.tiles} == {"calm"}
    assert status.alerts == []


def test_it_shows_machines_jobs_brokers_lag_and_hosts(prometheus):
    text = text_of(page(prometheus))
    assert "Plant demo made 21 November 2026, 15:41:08 UTC" in text
    assert "Heartbeat age 7 s" in text
    assert "pump-002 pump line-1, hall-a normal 0.62 67 min ago" in text
    assert "plantline-anomaly-pump running 12 139 ms 0" in text
    assert "node1 running 0 0" in text
    assert "node1 up 76% /data 26% 25%" in text


def test_a_machine_without_a_score_is_not_called_normal(prometheus):
    machines = {machine.machine_id: machine for machine in collect(prometheus).machines}
    assert machines["fan-001"].state == "not scored"
    assert "fan-001 fan not scored - -" in text_of(page(prometheus))


# ── A plant that is not ──────────────────────────────────────────────────────────────────────────


def test_alerts_are_told_with_what_is_wrong_and_for_how_long(prometheus):
    warning = ALERT | {"labels": ALERT["labels"] | {"severity": "warning"}}
    pending = ALERT | {"state": "pending"}
    prometheus.alerts = [WATCHDOG, warning, ALERT, pending]
    status = collect(prometheus)
    assert [alert.severity for alert in status.alerts] == ["critical", "warning"]
    assert tile(status, "Alerts").level == "trouble"
    assert "critical HostDown Host node2 is down 5 min" in text_of(page(prometheus))


def test_machines_in_alarm_come_first_and_are_all_shown(prometheus, monkeypatch):
    monkeypatch.setattr(status_page, "MACHINES_SHOWN", 1)
    prometheus.series["max by (machine_id) (plantline_machine_alert)"] = [
        one(1, machine_id="fan-001"),
        one(1, machine_id="pump-001"),
    ]
    status = collect(prometheus)
    assert [m.machine_id for m in status.machines] == ["pump-001", "fan-001", "pump-002"]
    assert tile(status, "Machines in alarm").value == "2"
    text = text_of(page(prometheus))
    assert "fan-001 fan ALARM" in text
    assert "1 more, none of them in alarm." in text


@pytest.mark.parametrize(
    ("age_s", "value", "level"),
    [
        (29, "29 s", "calm"),
        (31, "31 s", "warning"),
        (60, "60 s", "trouble"),
        (None, "none", "trouble"),
    ],
)
def test_the_heartbeat_is_never_calm_when_it_is_old_or_missing(prometheus, age_s, value, level):
    series = [] if age_s is None else [one(age_s)]
    prometheus.series["time() - max(plantline_heartbeat_timestamp_seconds)"] = series
    found = tile(collect(prometheus), "Heartbeat age")
    assert (found.value, found.level) == (value, level)


def test_a_job_that_does_not_run_is_trouble(prometheus):
    job = "plantline-anomaly-pump"
    prometheus.series["max by (job_name) (flink_jobmanager_job_runningState)"] = [
        one(0, job_name=job)
    ]
    prometheus.series["max by (job_name) (flink_jobmanager_job_restartingState)"] = [
        one(1, job_name=job)
    ]
    status = collect(prometheus)
    assert status.jobs[0].state == "restarting"
    assert tile(status, "Jobs running").level == "trouble"


@pytest.mark.parametrize(
    ("up", "series", "state"),
    [(0, [], "no answer"), (1, [one(1, instance="node2")], "not serving"), (1, [], "controller")],
)
def test_kafka_nodes_are_what_they_answer(prometheus, up, series, state):
    others = [one(3, instance="node1"), one(3, instance="node3")]
    prometheus.series['up{job="kafka"}'] = [
        one(up if host == "node2" else 1, instance=host) for host in HOSTS
    ]
    prometheus.series["kafka_server_state"] = others + series
    status = collect(prometheus)
    assert [broker.state for broker in status.brokers] == ["running", state, "running"]
    calm = state == "controller"
    assert tile(status, "Kafka nodes").level == ("calm" if calm else "trouble")


def test_what_is_not_a_number_is_not_shown_as_one(prometheus):
    prometheus.series["max by (job_name) (flink_jobmanager_job_lastCheckpointDuration)"] = [
        one("NaN", job_name="plantline-anomaly-pump")
    ]
    assert "nan" not in text_of(page(prometheus)).lower()


def test_an_empty_prometheus_is_not_a_plant_that_is_well(prometheus):
    prometheus.series = {}
    status = collect(prometheus)
    assert tile(status, "Heartbeat age").level == "trouble"
    assert tile(status, "Jobs running").level == "trouble"
    assert tile(status, "Kafka nodes").level == "trouble"
    text = text_of(page(prometheus))
    assert "Flink knows of none" in text
    assert "Prometheus knows of no host" in text


# ── The page itself ──────────────────────────────────────────────────────────────────────────────


def test_it_opens_without_a_network(prometheus):
    text = page(prometheus)
    assert not re.findall(r"""(?:src|href)=|url\(|@import|https?://""", text)


def test_names_from_the_plant_cannot_become_markup(prometheus):
    prometheus.series["max by (machine_id, machine_type, line, area) (plantline_machine_info)"] = [
        one(1, machine_id="<script>alert(1)</script>", machine_type="pump")
    ]
    assert "<script>alert" not in page(prometheus)


def test_a_prometheus_that_cannot_be_asked_is_said_loudly_and_in_time(tmp_path, capsys):
    out = tmp_path / "deep" / "status.html"
    begin = time.monotonic()
    code = status_page.main(["--prometheus", "http://127.0.0.1:9", "--out", str(out)])
    assert code == 1
    assert time.monotonic() - begin < 5
    text = text_of(out.read_text())
    assert "Nothing is known about the plant." in text
    assert "Prometheus at http://127.0.0.1:9 cannot be asked: Connection refused" in text
    assert "cannot be asked" in capsys.readouterr().err


def test_one_that_refuses_is_told_apart(prometheus):
    prometheus.status = 503
    with pytest.raises(status_page.StatusError, match="refuses: HTTP 503"):
        collect(prometheus)


def test_the_page_is_written_and_its_place_is_told(prometheus, tmp_path, capsys):
    out = tmp_path / "status.html"
    assert status_page.main(["--prometheus", prometheus.url, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert "Plant demo" in out.read_text()


def test_the_address_comes_from_the_inventory(tmp_path):
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        "all: {hosts: {a: {ansible_host: 198.51.100.7, prometheus_port: 9191}}}\n"
        "monitoring: {hosts: {a: {}}}\n"
    )
    assert status_page.address_in(inventory) == "https://198.51.100.7:9191"


def test_an_inventory_without_a_monitoring_host_is_told_with_the_remedy(tmp_path, capsys):
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {hosts: {a: {}}}\n")
    assert status_page.main(["--inventory", str(inventory)]) == 2
    assert "no host in group monitoring" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, "-"), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7_300, "2 h"), (200_000, "2 d")],
)
def test_durations_are_told_in_one_unit(seconds, told):
    assert status_page.duration(seconds) == told
