"""What breaks the contract ends as a dead letter, whole and with its reason; the rest is scored."""

import time
from collections import Counter
from random import Random

import orjson
import pytest
from confluent_kafka import Producer
from conftest import PLANT_FILE, ROOT, eventually, note, rest, tool
from exactly_once import balance, send, windows_of

from flink_jobs import contracts
from flink_jobs.tools.kafka import read_all
from flink_jobs.tools.stream import clock_reading, close_ts, event_time, free_start
from tests import hostile

RECORDS = 12_000
# The span of hostile readings' times, on a multiple of which they can be put.
SPAN_MS = 100_000
# What a broker takes by default, and what librdkafka adds to a record.
MAX_BYTES = 1_048_588 - 200


def restarts():
    """How often each job was restarted, by its name; Flink fetches metrics when first asked."""

    def asked():
        found = {}
        for job in rest("/jobs/overview")["jobs"]:
            if job["state"] == "RUNNING":
                metrics = rest(f"/jobs/{job['jid']}/metrics?get=numRestarts")
                if not metrics:
                    return None
                found[job["name"]] = metrics[0]["value"]
        return found

    return eventually("the jobs' metrics", asked, 60)


@pytest.fixture(scope="module")
def before(plant):
    return restarts()


@pytest.fixture(scope="module")
def sent(client, kind, before):
    """Hostile records among good ones, as they lie on the topic: {(partition, offset): …}."""
    topic = contracts.telemetry_topic(kind.name)
    # Only what event time has left behind is late: on a new plant it has to begin first.
    begin = free_start(event_time(client, kind), kind, hostile.START)
    machine = f"earlier-{time.time_ns()}"
    send(client, kind, [(machine, begin, {c.name: c.valid_min for c in kind.channels})])
    assert balance(client, windows_of([(machine, begin)], kind), within_s=120).exact
    start = -(-close_ts(begin, kind) // SPAN_MS) * SPAN_MS
    old, new = (str(ts // SPAN_MS).encode() for ts in (hostile.START, start))
    channels = {c.name: (c.valid_min, c.valid_max) for c in kind.channels}
    placed = {}

    def delivered(record):
        def note_place(error, message):
            assert error is None, error
            placed[message.partition(), message.offset()] = record

        return note_place

    producer = Producer(
        {**contracts.PRODUCER_DEFAULTS, **client, "message.max.bytes": 2 * hostile.MEGABYTE}
    )
    for record in hostile.records(Random(22), channels, RECORDS):  # noqa: S311 - no secret
        value = record.value and record.value.replace(old, new)
        if len(value or b"") > MAX_BYTES:
            continue  # no broker takes it
        on_delivery = delivered((record, value))
        while True:
            try:
                producer.produce(topic, value, record.key, on_delivery=on_delivery)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert not producer.flush(120)
    end = clock_reading(close_ts(start + SPAN_MS, kind))
    for partition in range(kind.partitions):
        producer.produce(topic, end, contracts.CLOCK.encode(), partition)
    assert not producer.flush(120)
    assert len(placed) > 0.9 * RECORDS
    return placed


@pytest.fixture(scope="module")
def dead(client, kind, sent):
    """The dead letters that came of them: {(partition, offset): message}, each once."""
    source = f"kafka:{contracts.telemetry_topic(kind.name)}/"
    certain = {place for place, (record, _) in sent.items() if reason_of(record) is not None}

    def found():
        letters = {}
        for message in read_all(client, contracts.DLQ):
            name = dict(message.headers())["dlq.source"].decode()
            if not name.startswith(source):
                continue
            partition, offset = map(int, name.removeprefix(source).split("/"))
            if (partition, offset) in sent:
                assert (partition, offset) not in letters, "twice"
                letters[partition, offset] = message
        return letters if certain <= letters.keys() else None

    return eventually("all dead letters", found, 180)


def reason_of(record):
    """The reason that is certain; unknown machines are welcome in the demo."""
    return None if record.reason == "unknown_machine" else record.reason


def test_each_dead_letter_has_its_reason_and_is_untouched(sent, dead):
    for place, message in dead.items():
        record, value = sent[place]
        reason = dict(message.headers())["dlq.reason"].decode()
        # A good one among readings in random order may come behind event time.
        assert reason == (reason_of(record) or "late"), record.kind
        assert (message.key(), message.value()) == (record.key, value), record.kind
        assert dict(message.headers())["dlq.detail"]
    kinds = Counter(record.kind for record, _ in sent.values())
    assert kinds.keys() >= {k for k in hostile.KINDS if "1 MB" not in k}
    note(f"{len(sent)} hostile and good records: {len(dead)} dead letters, {len(kinds)} kinds")


def test_every_other_reading_is_in_the_windows(client, kind, sent, dead):
    used = {}
    for place, (_, value) in sent.items():
        if place not in dead:
            reading = contracts.parse_reading(value, [c.name for c in kind.channels])
            used.setdefault(reading.machine_id, set()).add(reading.ts)
    readings = [(machine, ts) for machine, tss in used.items() for ts in tss]
    expected = windows_of(readings, kind)
    result = balance(client, expected, within_s=120)
    assert not result.missing, str(result)
    assert not result.doubled, str(result)
    # Windows that do not overlap hold each reading once, however often it was sent.
    window_ms = kind.window_s * 1000
    counted = Counter()
    for message in read_all(client, contracts.PREDICTIONS):
        record = orjson.loads(message.value())
        window = record["machine_id"], record["window_end"]
        if window in expected and record["window_end"] % window_ms == 0:
            counted[record["machine_id"]] += record["readings"]
    assert counted == {machine: len(tss) for machine, tss in used.items()}


def test_no_job_restarts_for_it(sent, dead, before):
    assert restarts() == before


def test_a_replay_brings_dead_letters_back_once(client, kind, sent, dead):
    reason = "bad_value"
    topic = contracts.telemetry_topic(kind.name)

    def count():
        return sum(
            any(name == "dlq.replay" for name, _ in message.headers() or [])
            for message in read_all(client, topic)
        )

    begin = count()
    common = ("dlq", "--config", ROOT / "out" / "client.conf", "--plant", PLANT_FILE)
    reasons = (dict(message.headers())["dlq.reason"] for message in read_all(client, contracts.DLQ))
    letters = Counter(reasons)[reason.encode()]
    said = [tool(*common, "replay", "--reason", reason).stdout for _ in range(2)]
    assert f"{letters} sent" in said[0]
    # Whatever has come back meanwhile.
    assert "0 sent" in said[1]
    assert count() - begin == letters
