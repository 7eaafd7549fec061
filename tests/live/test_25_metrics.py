"""What Prometheus would find at each process: a fresh heartbeat, and counters that data moves."""

import re
import time

import pytest
import yaml
from conftest import INVENTORY, ROOT, curl, eventually, note, on, tool

MODEL = {"machine_type": "pump", "kind": "anomaly", "model": "pump-anomaly"}
MONITORING = "node3"
KAFKA, JOBMANAGER, TASKMANAGER, PLANT = 7071, 9249, 9250, 9260


@pytest.fixture(scope="module")
def hosts(plant):
    """Addresses by name."""
    inventory = yaml.safe_load((ROOT / INVENTORY / "hosts.yml").read_text(encoding="utf-8"))
    return {name: about["ansible_host"] for name, about in inventory["all"]["hosts"].items()}


def scrape(address, port):
    """{metric name: [(labels, value)]} of a process, asked from Prometheus' host."""
    scheme, login = "https", ""
    if port in (JOBMANAGER, TASKMANAGER):
        scheme = "http"
    if port == KAFKA:
        login = "-u prometheus:$(cat /etc/plantline/prometheus/metrics-password) "
    answer = curl(MONITORING, "prometheus", f"{login}{scheme}://{address}:{port}/metrics")
    found = {}
    for line in answer.splitlines():
        if not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
            pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels or ""))
            found.setdefault(name, []).append((pairs, float(value)))
    return found


def value(metrics, name, **labels):
    """The sum over the series that have these labels; None where there is none."""
    found = [v for pairs, v in metrics.get(name, []) if labels.items() <= pairs.items()]
    return sum(found) if found else None


def test_the_heartbeat_comes_through_the_whole_path_again_and_again(hosts):
    def age():
        beat = value(scrape(hosts["node1"], PLANT), "plantline_heartbeat_timestamp_seconds")
        return None if beat is None else time.time() - beat

    eventually("a fresh heartbeat", lambda: (age() or 1e9) < 15, 120)
    worst = 0.0
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        worst = max(worst, age())
        time.sleep(0.5)  # between two questions
    note(f"age of the heartbeat in 20 s: {worst:.1f} s at most")
    assert worst < 30  # no alert: prometheus_heartbeat_limit_s of the demo


def test_readings_that_pass_move_every_counter_on_their_way(hosts):
    def passed():
        plant = scrape(hosts["node1"], PLANT)
        workers = [scrape(address, TASKMANAGER) for address in hosts.values()]
        brokers = [scrape(address, KAFKA) for address in hosts.values()]
        operator = "flink_taskmanager_job_task_operator_machine_type_windows"
        return {
            "readings": value(plant, "plantline_readings_total", machine_type="pump") or 0,
            "predictions": value(plant, "plantline_predictions_total", **MODEL) or 0,
            "windows": sum(
                value(worker, f"{operator}_{kind}", machine_type="pump") or 0
                for worker in workers
                for kind in ("scored", "unscored")
            ),
            "inference": sum(
                value(
                    worker,
                    "flink_taskmanager_job_task_operator_machine_type_inference_time_us",
                    machine_type="pump",
                )
                or 0
                for worker in workers
            ),
            "messages": sum(
                value(broker, "kafka_topic_messages_in_total", topic="telemetry.pump") or 0
                for broker in brokers
            ),
        }

    before = passed()
    tool(
        *("simulate", "--config", ROOT / "out" / "client.conf", "--quiet", "--close"),
        *("--plant", ROOT / INVENTORY / "group_vars" / "all" / "plant.yml"),
        *("--machines", 6, "--readings", 20_000, "--seed", 25, "--flat-out"),
    )

    def moved():
        after = passed()
        grown = {name: after[name] - before[name] for name in before}
        # Records of the clock are counted by brokers as any others.
        enough = grown["readings"] >= 20_000 and grown["messages"] >= 20_000
        return grown if enough and grown["predictions"] > 0 and grown["inference"] > 0 else None

    grown = eventually("the counters have moved", moved, 120)
    note(f"20,000 readings: {grown}")
    eventually("as many windows scored as predicted", lambda: _equal(passed(), before), 60)


def _equal(after, before):
    return after["windows"] - before["windows"] == after["predictions"] - before["predictions"]


def test_nothing_of_the_heartbeat_is_counted_as_data(hosts):
    names = {
        pairs.get("machine_type") or pairs.get("machine_id")
        for name, series in scrape(hosts["node1"], PLANT).items()
        if name.startswith("plantline_") and name != "plantline_consumer_lag"
        for pairs, _ in series
    }
    assert "pump" in names
    assert not any(name and name.startswith("_") for name in names)


def test_a_declared_machine_shows_its_place_and_newest_values(hosts):
    plant = scrape(hosts["node1"], PLANT)
    machine = {"machine_id": "pump-001", "machine_type": "pump"}
    assert value(plant, "plantline_machine_info", **machine, line="line-1", area="hall-a") == 1
    assert value(plant, "plantline_machine_channel", **machine, channel="pressure") is not None
    assert value(plant, "plantline_machines_omitted") == 0


def test_the_jobs_groups_are_not_behind(hosts):
    def behind():
        plant = scrape(hosts["node1"], PLANT)
        groups = {pairs["group"] for pairs, _ in plant["plantline_consumer_lag"]}
        assert groups == {"plantline-anomaly-pump", "plantline-anomaly-_heartbeat"}
        return value(plant, "plantline_consumer_lag", group="plantline-anomaly-pump")

    eventually("the job has read all", lambda: behind() == 0, 60)


def test_the_jobmanager_tells_of_every_job_by_its_declared_name(hosts):
    jobmanager = scrape(hosts["node1"], JOBMANAGER)
    for job in ("plantline-anomaly-pump", "plantline-anomaly-_heartbeat"):
        assert value(jobmanager, "flink_jobmanager_job_runningState", job_name=job) == 1
        done = value(jobmanager, "flink_jobmanager_job_numberOfCompletedCheckpoints", job_name=job)
        assert done > 0
    assert value(jobmanager, "flink_jobmanager_numRegisteredTaskManagers") == 3


def test_kafka_has_one_active_controller_and_all_replicas_in_sync(hosts):
    brokers = [scrape(address, KAFKA) for address in hosts.values()]
    assert sum(value(broker, "kafka_controller_active") for broker in brokers) == 1
    assert {value(broker, "kafka_server_state") for broker in brokers} == {3}
    for name in ("under_replicated_partitions", "offline_log_dirs", "under_min_isr_partitions"):
        assert sum(value(broker, f"kafka_server_{name}") for broker in brokers) == 0
    assert all(value(broker, "jmx_scrape_error") == 0 for broker in brokers)


def test_series_do_not_explode(hosts):
    for name, address in hosts.items():
        for port in (KAFKA, TASKMANAGER):
            series = sum(map(len, scrape(address, port).values()))
            note(f"{name}:{port} has {series} series")
            assert series < 600


def test_the_exporter_outlives_its_brokers_and_goes_on(hosts):
    on("node2", "systemctl restart kafka")
    first = value(scrape(hosts["node1"], PLANT), "plantline_heartbeat_timestamp_seconds")

    def newer():
        now = value(scrape(hosts["node1"], PLANT), "plantline_heartbeat_timestamp_seconds")
        return now > first + 30

    def replicated():
        name = "kafka_server_under_replicated_partitions"
        try:
            missing = [value(scrape(address, KAFKA), name) for address in hosts.values()]
        except OSError:  # the restarted broker's agent is not there yet
            return False
        return missing == [0, 0, 0]

    eventually("heartbeats after the restart of a broker", newer, 180)
    eventually("all replicas in sync", replicated, 120)
    restarts = on("node1", "systemctl show -p NRestarts --value plantline-exporter")
    assert restarts == "0"
