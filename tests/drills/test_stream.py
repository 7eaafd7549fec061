"""A recording of a million readings gives the same predictions, whatever dies while it passes."""

import math
import random
import time
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
from confluent_kafka import KafkaException
from exactly_once import balance, windows_of

from flink_jobs import contracts
from flink_jobs.tools.kafka import Publisher, read_all
from flink_jobs.tools.stream import ROOM_MS, clock_reading, close_ts, event_time, free_start
from tests.live.conftest import PLANT_FILE, eventually, note, on, rest, tool

READINGS, MACHINES = 1_000_000, 200
# One reading in so many is followed by a record that is refused.
REFUSED_EACH = 1000
# Readings a second, so that they pass until the last process has been killed.
PACE = 1500
HOSTS = ("node1", "node2", "node3")
# Who is killed with -9: the JobManager, brokers, and TaskManagers wherever the job runs just then.
MORTAL = [("node1", "flink-jobmanager"), *((host, "kafka") for host in HOSTS)]
MORTAL += [(None, "flink-taskmanager")] * 3
OUTAGE_S = 20 * 60
WITHIN_S = 1200


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """The readings in the order of time, from 0 on: (machine, ts, record without both)."""
    file = tmp_path_factory.mktemp("recording") / "readings.jsonl"
    tool(
        *("simulate", "--plant", PLANT_FILE, "--quiet", "--out", file),
        *("--machines", MACHINES, "--readings", READINGS, "--seed", 11),
        *("--truth", file.with_name("truth.jsonl")),
    )
    rows = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    begin = min(row["ts"] for row in rows)
    return [(row.pop("machine_id"), row.pop("ts") - begin, row) for row in rows]


class Run:
    """The recording as it passes through the plant, by machines of its own name."""

    def __init__(self, client, kind, recording):
        self.client, self.kind = client, kind
        self.name = f"drill-{time.time_ns() // 10**9}"
        earliest = time.time_ns() // 1_000_000 - ROOM_MS
        self.start = free_start(event_time(client, kind), kind, earliest)
        self.readings = [
            (f"{self.name}-{machine}", self.start + ts, values) for machine, ts, values in recording
        ]
        self.expected = windows_of([(machine, ts) for machine, ts, _ in self.readings], kind)

    def send(self, first, stop, pace=None):
        """Some of the readings, `pace` a second; after the last, event time passes all windows."""
        topic = contracts.telemetry_topic(self.kind.name)
        begin = time.monotonic()
        with Publisher(self.client) as publisher:
            for number, (machine, ts, values) in enumerate(self.readings[first:stop], first):
                if pace and number % pace == 0:
                    due = begin + (number - first) / pace
                    time.sleep(max(0.0, due - time.monotonic()))  # the pace
                value = orjson.dumps({"machine_id": machine, "ts": ts, **values})
                publisher.send(topic, machine.encode(), value)
                if number % REFUSED_EACH == 0:
                    publisher.send(topic, machine.encode(), b"refused")
            if stop == len(self.readings):
                end = clock_reading(close_ts(self.readings[-1][1], self.kind))
                for partition in range(self.kind.partitions):
                    publisher.send(topic, contracts.CLOCK.encode(), end, partition)

    def predictions(self, since=None):
        """What is committed of it now: {(machine, end), as in the recording: prediction}.

        `since` leaves out what was appended before that time (epoch ms).
        """
        found = {}
        for message in read_all(self.client, contracts.PREDICTIONS, since):
            one = contracts.parse_prediction(message.value())
            if one.machine_id.startswith(self.name):
                place = one.machine_id.removeprefix(self.name), one.window_end - self.start
                assert place not in found, "doubled"
                found[place] = one
        return found

    def finished(self):
        """Its predictions, once balance is exact and what was refused is dead, each record once."""
        result = balance(self.client, self.expected, WITHIN_S)
        note(f"{self.name}: {result}")
        assert result.exact, str(result)
        found = self.predictions()
        # Windows that do not overlap hold each reading once.
        length_ms = self.kind.window_s * 1000
        counted = sum(one.readings for one in found.values() if one.window_end % length_ms == 0)
        assert counted == len(self.readings)
        letters = [
            dict(message.headers())
            for message in read_all(self.client, contracts.DLQ)
            if (message.key() or b"").startswith(self.name.encode())
        ]
        assert {letter["dlq.reason"] for letter in letters} == {b"not_json"}
        sources = {letter["dlq.source"] for letter in letters}
        assert len(letters) == len(sources) == len(self.readings) // REFUSED_EACH
        return found


@pytest.fixture
def passing(client, kind, recording):
    return Run(client, kind, recording)


@pytest.fixture(scope="module")
def calm(client, kind, recording):
    """The predictions of a run in which nothing dies."""
    run = Run(client, kind, recording)
    begin = time.monotonic()
    run.send(0, READINGS)
    found = run.finished()
    note(f"undisturbed: {time.monotonic() - begin:.0f} s")
    assert any(one.is_alert for one in found.values())
    return found


def assert_same(found, calm):
    assert found.keys() == calm.keys()
    for place, one in found.items():
        other = calm[place]
        same = ("kind", "model", "model_version", "revision", "readings", "is_alert", "threshold")
        assert [getattr(one, field) for field in same] == [getattr(other, field) for field in same]
        assert (one.score is None) == (other.score is None), place
        assert one.score is None or math.isclose(one.score, other.score, rel_tol=1e-6), place


def kill(host, unit):
    """kill -9 of a unit's main process; returns when systemd has started it again."""
    ask = f"systemctl show -p MainPID --value {unit}"
    killed = on(host, ask)
    on(host, f"kill -9 {killed}")
    eventually(f"{unit} of {host} is back", lambda: on(host, ask) not in ("0", killed), 60)


def host_of(job):
    """A host that tasks of a running job are on."""
    jobs = rest("/jobs/overview")["jobs"]
    [jid] = [one["jid"] for one in jobs if one["name"] == job and one["state"] == "RUNNING"]
    vertex = rest(f"/jobs/{jid}")["vertices"][0]["id"]
    return rest(f"/jobs/{jid}/vertices/{vertex}")["subtasks"][0]["host"]


def answers(run, since=None):
    """How many predictions are committed; None while nobody can say so."""
    try:
        return len(run.predictions(since))
    except (KafkaException, RuntimeError):
        return None


def test_processes_killed_at_random_times(passing, calm):
    chance = random.Random(23)  # noqa: S311  (no secret)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(passing.send, 0, READINGS, PACE)
        since = time.time_ns() // 1_000_000
        for fixed, unit in chance.sample(MORTAL, len(MORTAL)):
            # What dies, dies under a job that works.
            eventually("the job goes on", lambda since=since: answers(passing, since), 300)
            time.sleep(chance.uniform(0, 10))  # the random time
            assert not sending.done(), "nothing passes any more"
            host = fixed or host_of(f"plantline-anomaly-{passing.kind.name}")
            begin = time.monotonic()
            kill(host, unit)
            note(f"{unit} of {host} was killed, and back after {time.monotonic() - begin:.0f} s")
            since = time.time_ns() // 1_000_000
        sending.result()
    assert_same(passing.finished(), calm)


def test_kafka_away_for_twenty_minutes(passing, calm):
    third = READINGS // 3
    passing.send(0, third)
    eventually("predictions under way", lambda: answers(passing), 120)
    # Kafka goes at once then: what came last is in no checkpoint yet.
    passing.send(third, 2 * third)
    try:
        for host in HOSTS:
            on(host, "systemctl kill -s KILL kafka; systemctl stop kafka")
        time.sleep(OUTAGE_S)  # the outage
        assert answers(passing) is None, "Kafka was not away"
    finally:
        for host in HOSTS:
            on(host, "systemctl start kafka --no-block")
    eventually("Kafka answers", lambda: answers(passing) is not None, 120)
    passing.send(2 * third, READINGS)
    assert_same(passing.finished(), calm)
