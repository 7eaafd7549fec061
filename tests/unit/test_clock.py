"""The clock moves event time where no machine does, and only as far as others have moved it."""

from collections.abc import Sequence

import orjson
import pytest
from confluent_kafka import KafkaException, Producer
from hypothesis import given
from hypothesis import strategies as st

from flink_jobs import clock, contracts
from flink_jobs.clock import Partition, TopicClock, after_outage, seen, ticks
from flink_jobs.tools.kafka import partition_counts, read_all

IDLE = 30_000
AHEAD = 300_000
NOW = 1_700_000_000_000
TOPIC = "telemetry.pump"


class Record:
    """Stands in for a record as the Kafka client returns it."""

    def __init__(self, value: bytes, appended: int, offset: int = 0) -> None:
        self._value, self._appended, self._offset = value, appended, offset

    def value(self) -> bytes:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 2, self._appended

    def offset(self) -> int:
        return self._offset


def reading(ts: int, appended: int = NOW, machine: str = "p1") -> Record:
    return Record(contracts.encode_reading(contracts.Reading(machine, ts, {})), appended)


def tick(ts: int, appended: int = NOW) -> Record:
    return reading(ts, appended, contracts.CLOCK)


def after(records: Sequence[Record], before: Partition | None = None) -> Partition:
    partition = before or Partition()
    for record in records:
        partition = seen(partition, record, AHEAD)
    return partition


times = st.integers(NOW - 20 * IDLE, NOW)
records = st.one_of(
    st.builds(
        reading, st.integers(0, NOW + 2 * AHEAD), times, st.sampled_from(["p1", "p2", "_clock"])
    ),
    st.builds(Record, st.sampled_from([b"", b"{}", b"[1]", b'{"machine_id": 7, "ts": 1}']), times),
)
topics = st.lists(st.lists(records, max_size=5).map(after), max_size=5)


def is_active(partition: Partition) -> bool:
    return partition.appended is not None and NOW - partition.appended <= IDLE


@given(topics)
def test_only_idle_partitions_get_ticks_and_never_past_the_slowest_of_the_active(partitions):
    active = [p.newest for p in partitions if is_active(p)]
    for index, ts in ticks(partitions, NOW, IDLE).items():
        assert not is_active(partitions[index])
        assert ts <= (min(active) if active else max(p.newest or 0 for p in partitions))


@given(topics)
def test_a_tick_always_moves_event_time_forward(partitions):
    for index, ts in ticks(partitions, NOW, IDLE).items():
        newest = partitions[index].newest
        assert newest is None or ts > newest


@given(topics)
def test_event_time_no_longer_waits_for_idle_partitions_once_the_ticks_are_in_the_log(partitions):
    due = ticks(partitions, NOW, IDLE)
    moved = [
        after([tick(due[index])], partition) if index in due else partition
        for index, partition in enumerate(partitions)
    ]
    assert ticks(moved, NOW, IDLE) == {}
    if any(map(is_active, partitions)):
        slowest = min(p.newest for p in partitions if is_active(p))
        assert min(p.newest for p in moved) == slowest
    elif any(p.newest is not None for p in partitions):
        assert len({p.newest for p in moved}) == 1


@given(st.lists(records, max_size=8), st.randoms())
def test_the_end_of_a_partition_tells_the_same_in_any_order(some, random):
    shuffled = list(some)
    random.shuffle(shuffled)
    assert after(shuffled) == after(some)


def test_nothing_known_gives_nothing():
    assert ticks([], NOW, IDLE) == {}
    assert ticks([Partition(), Partition()], NOW, IDLE) == {}


def test_a_partition_without_a_machine_follows_the_slowest_of_the_others():
    partitions = [after([reading(500)]), after([reading(900)]), Partition()]
    assert ticks(partitions, NOW, IDLE) == {2: 500}


def test_where_all_are_idle_they_meet_at_the_furthest():
    long_ago = NOW - IDLE - 1
    partitions = [after([reading(ts, long_ago)]) for ts in (500, 900)]
    assert ticks(partitions, NOW, IDLE) == {0: 900}


def test_idleness_begins_with_the_append_time_not_with_the_readings_own():
    old_data = after([reading(ts=0, appended=NOW - IDLE)])
    assert ticks([old_data, after([reading(900)])], NOW, IDLE) == {}
    assert ticks([old_data, after([reading(900)])], NOW + 1, IDLE) == {0: 900}


def test_a_reading_from_the_future_moves_nothing_and_keeps_nobody_waiting():
    ahead = after([reading(NOW + AHEAD + 1)])
    assert ahead == Partition(end=1)
    assert ticks([ahead, after([reading(900)])], NOW, IDLE) == {0: 900}
    assert after([reading(NOW + AHEAD)]).newest == NOW + AHEAD


@given(st.lists(st.builds(tick, times, times)))
def test_ticks_never_make_a_partition_active(some):
    assert after(some).appended is None


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b'{"machine_id": "p1", "ts": "5"}'])
def test_what_is_no_reading_is_only_passed_over(raw):
    before = Partition(newest=5, appended=7, end=3)
    assert seen(before, Record(raw, NOW, offset=9), AHEAD) == Partition(5, 7, end=10)


@given(st.integers(0, NOW), st.integers(0, 10 * IDLE))
def test_an_outage_lengthens_no_idleness_and_nothing_becomes_newer_than_now(appended, away):
    later = after_outage(Partition(5, appended), away, NOW).appended
    assert appended <= later <= max(appended, NOW)
    assert later == NOW or NOW - later == NOW - away - appended


def test_a_partition_without_machines_stays_so_in_an_outage():
    assert after_outage(Partition(newest=5), IDLE, NOW) == Partition(newest=5)


@pytest.fixture
def topic(mock_kafka):
    """A topic of four partitions, as (settings, append)."""
    settings = {"bootstrap.servers": mock_kafka, "log_level": "0"}
    producer = Producer(settings)
    assert len(producer.list_topics(TOPIC, timeout=10).topics[TOPIC].partitions) == 4

    def append(partition: int, ts: int, appended: int = NOW) -> None:
        value = contracts.encode_reading(contracts.Reading("p1", ts, {}))
        producer.produce(TOPIC, value, b"p1", partition, timestamp=appended)
        assert producer.flush(10) == 0

    return settings, append


def topic_clock(settings):
    return TopicClock(
        {
            "telemetry_topic": TOPIC,
            "idle_timeout_s": IDLE / 1000,
            "max_clock_ahead_s": AHEAD / 1000,
        },
        settings,
    )


def test_silent_partitions_get_a_reading_of_the_clock_and_the_next_run_knows_it(topic):
    settings, append = topic
    append(1, NOW - 1000)
    append(2, NOW)
    due = {0: NOW - 1000, 3: NOW - 1000}
    assert topic_clock(settings).step(NOW) == due
    found = {m.partition(): orjson.loads(m.value()) for m in read_all(settings, TOPIC)}
    assert {p: record["ts"] for p, record in found.items() if p in due} == due
    assert {record["machine_id"] for p, record in found.items() if p in due} == {contracts.CLOCK}
    assert topic_clock(settings).step(NOW) == {}


def test_a_silent_topic_stays_silent(topic):
    settings, _ = topic
    assert topic_clock(settings).step(NOW) == {}
    assert list(read_all(settings, TOPIC)) == []
    assert partition_counts(settings, [TOPIC]) == {TOPIC: 4}


def test_a_topic_made_anew_is_read_from_its_beginning(topic):
    settings, append = topic
    watch = topic_clock(settings)
    watch._partitions = [Partition(newest=NOW, appended=NOW, end=100)] * 5
    append(1, 900)
    assert watch.step(NOW) == {0: 900, 2: 900, 3: 900}


def test_readings_that_wait_for_the_brokers_are_not_overtaken(topic, monkeypatch):
    settings, append = topic
    for partition in range(4):
        append(partition, NOW)
    watch = topic_clock(settings)
    watch.step(NOW)

    def unreachable(_: TopicClock) -> None:
        raise KafkaException

    back = NOW + 10 * IDLE
    with monkeypatch.context() as outage:
        outage.setattr(TopicClock, "_look", unreachable)
        for now in (NOW + 1000, back - 1000):
            with pytest.raises(KafkaException):
                watch.step(now)
    append(0, back, appended=back)
    assert watch.step(back) == {}
    append(0, back + IDLE, appended=back + IDLE)
    assert watch.step(back + IDLE + 1) == dict.fromkeys((1, 2, 3), back + IDLE)


@pytest.mark.parametrize("used", [False, True], ids=["a new topic", "a quiet topic"])
def test_where_machines_start_after_a_pause_no_partition_is_idle_at_once(topic, used):
    settings, append = topic
    watch = topic_clock(settings)
    for partition in range(4) if used else ():
        append(partition, NOW - 9 * IDLE, appended=NOW - 9 * IDLE)
    assert watch.step(NOW - 1000) == {}
    # The first readings of all reach one partition first.
    append(0, NOW, appended=NOW)
    assert watch.step(NOW) == {}
    append(1, NOW - 5000, appended=NOW + 2000)
    append(2, NOW - 5000, appended=NOW + 3000)
    append(0, NOW + 20_000, appended=NOW + 20_000)
    assert watch.step(NOW + 20_000) == {}
    # Those that have got none until then have no machine.
    assert watch.step(NOW + IDLE + 1) == {3: NOW - 5000}


def test_no_tick_is_made_of_half_a_look(topic, monkeypatch):
    settings, append = topic
    append(1, NOW)
    monkeypatch.setattr(clock, "_ANSWER_WITHIN_S", 1.0)
    watch = topic_clock(settings)
    monkeypatch.setattr(watch, "_consumer", Mute(watch._consumer))
    with pytest.raises(KafkaException, match="unread"):
        watch.step(NOW)
    assert len(list(read_all(settings, TOPIC))) == 1


class Mute:
    """A consumer that receives no records."""

    def __init__(self, consumer):
        self._consumer = consumer

    def __getattr__(self, name):
        return getattr(self._consumer, name)

    def consume(self, *_):
        return []
