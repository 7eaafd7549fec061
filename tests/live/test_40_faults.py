"""Processes and hosts that die while a million readings pass: nothing lost, nothing doubled."""

import subprocess
import sys
import time

import pytest
from conftest import INVENTORY, PLANT_FILE, ROOT, eventually, note, on, rest, run
from exactly_once import balance, send, sent, windows_of

from flink_jobs import contracts
from flink_jobs.tools.kafka import Tail, read_all
from flink_jobs.tools.stream import event_time, free_start

READINGS, MACHINES = 1_000_000, 200
JOB = "plantline-anomaly-pump"


def running(overview):
    """The ids of the job's runs; there is one, or none."""
    return [
        job["jid"] for job in overview["jobs"] if job["name"] == JOB and job["state"] == "RUNNING"
    ]


@pytest.fixture
def passing(client, kind):
    """A million readings on their way through the plant; calling it ends with the balance."""
    tail = Tail(client, [contracts.telemetry_topic(kind.name)])
    simulate = [sys.executable, "-m", "flink_jobs.tools.simulate", "--quiet", "--flat-out"]
    simulate += ["--config", ROOT / "out" / "client.conf", "--plant", PLANT_FILE, "--close"]
    simulate += ["--machines", MACHINES, "--readings", READINGS, "--seed", time.time_ns() % 1000]
    source = subprocess.Popen(list(map(str, simulate)), cwd=ROOT)
    with tail:
        eventually("readings on their way", lambda: tail.read(1.0), 60)

    def finished():
        assert source.wait(timeout=300) == 0
        machines = {f"pump-{i:03d}" for i in range(1, MACHINES + 1)}
        readings = sent(client, kind, machines)
        return balance(client, windows_of(readings, kind), within_s=420)

    yield finished
    source.kill()
    source.wait()


def predicted(client):
    """Waits until predictions of this run are being committed: the job is in the middle of it."""
    with Tail(client, [contracts.PREDICTIONS]) as tail:

        def of_machines():
            found = [contracts.parse_prediction(message.value()) for message in tail.read(1.0)]
            return [one for one in found if not contracts.is_reserved(one.machine_id)]

        begin = time.monotonic()
        eventually("predictions under way", of_machines, 300)
        note(f"first committed predictions of a run: {time.monotonic() - begin:.0f} s")


def kill(host, unit):
    """kill -9 of a unit's main process, as the kernel's out-of-memory killer does it."""
    on(host, f"kill -9 $(systemctl show -p MainPID --value {unit})")


def test_a_broker_and_a_taskmanager_killed_in_mid_run(client, passing):
    predicted(client)
    [job] = running(rest("/jobs/overview"))
    vertex = rest(f"/jobs/{job}")["vertices"][0]["id"]
    [worker, *_] = rest(f"/jobs/{job}/vertices/{vertex}/taskmanagers")["taskmanagers"]
    kill(worker["taskmanager-id"], "flink-taskmanager")
    kill("node3", "kafka")
    result = passing()
    note(str(result))
    assert result.exact, str(result)


def test_a_host_stopped_and_started_again(client, passing):
    predicted(client)
    run(sys.executable, "tools/hosts.py", "stop", INVENTORY, "node2")
    run(sys.executable, "tools/hosts.py", "start", INVENTORY, "node2")
    result = passing()
    note(str(result))
    assert result.exact, str(result)


def test_a_jobmanager_killed_gets_its_job_back_by_itself(client, passing):
    predicted(client)
    before = running(rest("/jobs/overview"))
    assert len(before) == 1
    kill("node1", "flink-jobmanager")

    def recovered():
        answer = rest("/jobs/overview", check=False)
        return answer and running(answer) not in ([], before)

    eventually("the job runs again", recovered, 240)
    result = passing()
    note(str(result))
    assert result.exact, str(result)


def test_what_is_late_when_the_job_starts_again_is_a_dead_letter(client, kind):
    machine = f"late-{time.time_ns()}"
    start = free_start(event_time(client, kind), kind, 0)
    values = dict.fromkeys((channel.name for channel in kind.channels), 1.0)
    readings = [(machine, start + i * 1000, values) for i in range(300)]
    send(client, kind, readings)
    assert balance(client, windows_of([r[:2] for r in readings], kind), within_s=120).exact
    for host in ("node1", "node2", "node3"):
        kill(host, "flink-taskmanager")
    # The first that is read after the restart: their windows are over.
    late = [(machine, ts + 500, values) for _, ts, _ in readings[:200]]
    send(client, kind, late, close=False)

    def dead():
        letters = [m for m in read_all(client, contracts.DLQ) if m.key() == machine.encode()]
        return letters if len(letters) >= len(late) else None

    letters = eventually("dead letters of all of them", dead, 240)
    assert {dict(letter.headers())["dlq.reason"] for letter in letters} == {b"late"}
    found = sorted(contracts.parse_reading(m.value(), values).ts for m in letters)
    assert found == [ts for _, ts, _ in late]
    assert balance(client, windows_of([r[:2] for r in readings], kind), within_s=120).exact
