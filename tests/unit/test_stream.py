"""Streams keep partitions, order and event time as the contracts say."""

import time

import orjson
import pytest

from flink_jobs.plant import Channel, MachineType
from flink_jobs.tools import stream
from flink_jobs.tools.cli import Progress
from flink_jobs.tools.kafka import ANY, ToolError, murmur2, partition_of, read_config

PUMP = MachineType("pump", (Channel("pressure", "bar", -1, 16),), window_s=60, slide_s=10)
TOPIC = "telemetry.pump"


class Log:
    """Stands in for the publisher: keeps what it is given."""

    def __init__(self):
        self.sent = []

    def send(self, topic, key, value, partition=ANY):
        self.sent.append((topic, key, orjson.loads(value), partition))

    def poll(self):
        pass

    def clocks(self):
        return [(p, value["ts"]) for _, key, value, p in self.sent if key == b"_clock"]


def reading(ts, machine=b"m"):
    return ts, TOPIC, machine, orjson.dumps({"machine_id": machine.decode(), "ts": ts})


def make(log, speed=None):
    lane = stream.Lane(PUMP, TOPIC, 6)
    return stream.Stream(log, {TOPIC: lane}, speed, Progress("test"))


# The vectors of Kafka's own UtilsTest.
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_hash_as_in_java(key, expected):
    assert murmur2(key) == expected % 2**32


def test_a_machine_is_always_on_the_same_partition_and_all_partitions_are_used():
    placed = {name: partition_of(name.encode(), 6) for name in map(str, range(200))}
    assert set(placed.values()) == set(range(6))
    assert placed == {name: partition_of(name.encode(), 6) for name in placed}


def test_readings_go_to_the_partition_of_their_key():
    log = Log()
    make(log).send([reading(1_000), reading(2_000)])
    readings = [(v["ts"], p) for _, key, v, p in log.sent if key != b"_clock"]
    assert readings == [(1_000, ANY), (2_000, ANY)]


def test_closing_moves_every_partition_past_the_last_window_and_the_disorder():
    log = Log()
    sender = make(log)
    sender.send([reading(0), reading(119_999)])
    sender.close()
    newest = dict(log.clocks())
    assert sorted(newest) == [0, 1, 2, 3, 4, 5]
    # The last window with a reading ends at 180,000 at the latest.
    watermarks = {ts - int(PUMP.max_disorder_s * 1000) for ts in newest.values()}
    assert min(watermarks) >= 180_000 - 1


def test_nothing_is_closed_where_nothing_was_sent():
    log = Log()
    make(log).close()
    assert log.sent == []


def test_partitions_without_a_machine_of_the_run_follow_it():
    log = Log()
    make(log).send([reading(ts) for ts in range(0, 5_000, 500)])
    silent = set(range(6)) - {partition_of(b"m", 6)}
    ticked = [(p, ts) for p, ts in log.clocks() if ts]
    assert sorted(ticked) == sorted((p, ts) for ts in range(1_000, 5_000, 1_000) for p in silent)


def test_a_partition_whose_machines_have_ended_follows_the_others():
    other = next(k for k in (b"a", b"b", b"c") if partition_of(k, 6) != partition_of(b"m", 6))
    log = Log()
    readings = [reading(ts) for ts in range(0, 10_000, 500)]
    readings += [reading(ts, other) for ts in range(0, 3_000, 500)]
    make(log).send(sorted(readings))
    ended = [ts for p, ts in log.clocks() if p == partition_of(other, 6) and ts]
    assert ended == list(range(4_000, 10_000, 1_000))


def test_an_idle_partition_is_never_ahead_of_what_was_sent():
    log = Log()
    make(log).send([reading(ts) for ts in (0, 10, 60_000, 60_001, 3_600_000)])
    newest = 0
    for _, key, value, _ in log.sent:
        if key == b"_clock":
            assert newest <= value["ts"]
        newest = max(newest, value["ts"])
    times = [value["ts"] for _, _, value, _ in log.sent]
    assert times == sorted(times)


def test_speed_spreads_readings_over_time():
    log = Log()
    begin = time.monotonic()
    make(log, speed=20.0).send([reading(ts) for ts in range(0, 4_001, 100)])
    assert 0.2 <= time.monotonic() - begin < 2.0


def test_data_from_the_future_is_refused():
    with pytest.raises(ToolError, match="in the future"):
        make(Log()).send([reading(int(time.time() * 1000) + 10 * 86_400_000)])


def test_a_stream_ahead_of_the_wall_clock_waits_for_it():
    log = Log()
    limit_ms = int(PUMP.max_clock_ahead_s * 1000 * 0.8)
    ts = int(time.time() * 1000) + limit_ms + 300
    begin = time.monotonic()
    make(log).send([reading(ts)])
    assert time.monotonic() - begin >= 0.2
    assert [value["ts"] for _, key, value, _ in log.sent if key != b"_clock"] == [ts]


@pytest.mark.parametrize(
    ("newest", "earliest", "start"),
    [
        (None, 65_000, 60_000),
        (59_999, 0, 60_000),
        (60_000, 0, 120_000),
        (125_000, 1_000_000, 960_000),
    ],
)
def test_a_run_starts_on_a_window_boundary_behind_event_time(newest, earliest, start):
    assert stream.free_start(newest, PUMP, earliest) == start


def test_the_client_file_is_read_as_librdkafka_does(tmp_path):
    path = tmp_path / "client.conf"
    path.write_text("# operator\nbootstrap.servers = a:1,b:2\n\nsasl.password=x=y\n")
    assert read_config(path) == {"bootstrap.servers": "a:1,b:2", "sasl.password": "x=y"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bootstrap.servers\n", r"client\.conf:1: expected key=value"),
        ("a=b\n", "bootstrap.servers"),
    ],
)
def test_an_unusable_client_file_is_named(tmp_path, text, message):
    path = tmp_path / "client.conf"
    path.write_text(text)
    with pytest.raises(ToolError, match=message):
        read_config(path)


def test_a_missing_client_file_is_named(tmp_path):
    with pytest.raises(ToolError, match="cannot be read"):
        read_config(tmp_path / "none.conf")
