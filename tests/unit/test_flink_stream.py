"""From records to windows with a reference, by the job's own stream in a Flink."""

import zlib
from collections import Counter, defaultdict
from itertools import pairwise
from random import Random

import numpy as np
import orjson
import pytest

from flink_jobs import clock, windows
from flink_jobs.contracts import CLOCK, ContractError, parse_reading
from flink_jobs.jobs import anomaly_sql
from tests import hostile
from tests.unit.samples import job_config

CHANNELS = {"pressure": (-1.0, 16.0), "flow_2": (0.0, 400.0)}
LIMIT = {"severity": "warning", "low": 2, "high": 14, "hysteresis": 0.5}
CONFIG = job_config(
    channels=[
        {"name": "pressure", "valid_min": -1, "valid_max": 16, "limits": [LIMIT]},
        {"name": "flow_2", "valid_min": 0, "valid_max": 400},
    ],
    window_s=60,
    slide_s=10,
    commissioning_readings=30,
    max_disorder_s=5,
    max_clock_ahead_s=300,
    silent_after_s=20,
)
DAY_S = 86_400
# Of a record that is refused, so many bytes are passed on.
RAW_BYTES = 150

# For a reference stand here the first readings themselves.
STATEMENTS = """
COMMISSION SELECT machine_id, packed FROM first_readings;
SELECT 'window', machine_id, window_end, n, '', packed FROM referenced
UNION ALL
SELECT 'first', machine_id, window_end, 0, '', packed FROM first_readings
UNION ALL
SELECT 'referenced', machine_id, window_end, n,
  CASE WHEN CAST(window_time AS TIMESTAMP(3)) =
    CAST(TO_TIMESTAMP_LTZ(window_end - 1, 3) AS TIMESTAMP(3)) THEN '' ELSE 'wrong time' END,
  machine_reference FROM referenced
UNION ALL
SELECT 'refused', detail, `offset`, CAST(`partition` AS BIGINT), reason, `raw` FROM refusals
UNION ALL
SELECT 'zone', machine_id, ts, CAST(`zone` AS BIGINT),
  CONCAT_WS(' ', channel, kind, CAST(`value` AS STRING)), X'' FROM zone_steps
UNION ALL
SELECT 'silence', machine_id, raised_at, last_ts, CAST(is_silent AS STRING), X'' FROM silences
"""


def run(flink, config, records, *, dies=False, **other):
    """Rows of the job's views by their kind; records are (partition, append time, key, value)."""
    settings = orjson.loads(anomaly_sql.stream_settings(config))
    settings |= {"maxRawBytes": RAW_BYTES, **other}
    rows = defaultdict(list)
    for kind, *row in flink(STATEMENTS, orjson.dumps(settings).decode(), records, dies=dies):
        rows[kind].append(row)
    return rows


def partition_of(key):
    return zlib.crc32(key) % 4


def hostile_records(count):
    """Values of hostile records with the key that they should have."""
    # Windows from 1970 to 2200 are not the matter here.
    left_out = {"from 1970", "from 2200"}
    for record in hostile.records(Random(3), CHANNELS, count):  # noqa: S311  (no secret)
        if record.kind not in left_out:
            yield record.value


@pytest.fixture(scope="module")
def sent():
    """(partition, append time, key, value), the readings by machine, and what is refused."""
    records, readings, refused = [], defaultdict(list), Counter()
    for value in hostile_records(4_000):
        key = b"m1"
        try:
            reading = parse_reading(value or b"", CHANNELS, CHANNELS)
        except ContractError as error:
            refused[error.reason, value and value[:RAW_BYTES]] += 1
        else:
            key = reading.machine_id.encode()
            row = [np.nan if one is None else one for one in reading.values.values()]
            readings[reading.machine_id].append((reading.ts, row))
        records.append((partition_of(key), 2 * hostile.START, key, value))
    return records, readings, refused


@pytest.fixture(scope="module")
def undisturbed(flink, sent):
    # Event time stands still until the end, whatever is read first.
    return run(flink, CONFIG | {"max_disorder_s": DAY_S}, sent[0])


@pytest.fixture(scope="module", params=["undisturbed", "restarted"])
def rows(request, flink, undisturbed, sent):
    """The same from a job that dies on its way, as from one that does not."""
    if request.param == "undisturbed":
        return undisturbed
    return run(flink, CONFIG | {"max_disorder_s": DAY_S}, sent[0], dies=True)


def test_records_become_windows(rows, sent):
    found = {(m, int(end)): (int(n), packed) for m, end, n, _, packed in rows["window"]}
    assert len(found) == len(rows["window"])
    expected = {
        (machine, to): packed
        for machine, all_of_it in sent[1].items()
        for to, packed in sliding(all_of_it, 60_000, 10_000)
    }
    assert {key: bytes.fromhex(packed) for key, (_, packed) in found.items()} == expected
    for key, (n, _) in found.items():
        assert n == len(windows.unpack([expected[key]], len(CHANNELS))[0].ts)


def test_silence_is_told_once_and_ends_once(rows, sent):
    found = defaultdict(list)
    for machine, raised_at, last, is_silent, _ in rows["silence"]:
        found[machine].append((is_silent, int(raised_at), int(last)))
    assert found == {
        machine: list(silences(sorted({ts for ts, _ in all_of_it}), 20_000, 10_000))
        for machine, all_of_it in sent[1].items()
    }


def test_what_is_refused_keeps_its_bytes_and_its_reason(rows, sent):
    raw_of = {raw: None if raw == "null" else bytes.fromhex(raw) for *_, raw in rows["refused"]}
    assert Counter((reason, raw_of[raw]) for *_, reason, raw in rows["refused"]) == sent[2]


def test_first_readings_are_the_reference_of_the_windows_from_then_on(rows, sent):
    expected = {machine: until_enough(all_of_it, 60_000) for machine, all_of_it in sent[1].items()}
    first = {m: (int(end), bytes.fromhex(packed)) for m, end, _, _, packed in rows["first"]}
    assert len(first) == len(rows["first"])
    assert first == expected
    ends = {(m, int(end)) for m, end, *_ in rows["window"]}
    assert {(m, int(end)) for m, end, *_ in rows["referenced"]} == ends
    assert len(rows["referenced"]) == len(ends)
    for machine, end, _, wrong, reference in rows["referenced"]:
        since, packed = first[machine]
        assert not wrong
        assert reference == (packed.hex() if int(end) >= since else "null")


# A restart forgets what the last values were: see test_lanes.
def test_steps_into_other_zones_are_told_once(undisturbed, sent, jvm):
    checks = "pressure: warning 2 14 0.5"
    judged = [(m, ts, row[:1]) for m, all_of_it in sent[1].items() for ts, row in all_of_it]
    steps, zone_of = Counter(), {}
    for (machine, ts, _), changes in zip(judged, jvm.judge(checks, judged), strict=True):
        for channel, kind, zone, value, _ in changes:
            if zone != zone_of.get(machine, 0):
                steps[machine, ts, zone, f"{channel} {kind} {value!r}"] += 1
            zone_of[machine] = zone
    found = Counter((m, int(ts), int(zone), text) for m, ts, zone, text, _ in undisturbed["zone"])
    assert found == steps


NOW = hostile.START


def reading(second, machine="m1", **values):
    values = {"pressure": 5, "flow_2": 1} | values
    return orjson.dumps({"machine_id": machine, "ts": int(NOW + 1000 * second), **values})


def test_clocks_move_event_time_and_late_readings_are_refused(flink):
    ahead = NOW + 1_000_000
    records = [
        (0, NOW, b"m1", reading(100)),
        (0, NOW, b"m1", reading(95.001)),  # not later than the disorder
        (0, NOW, b"m1", reading(95)),
        (0, NOW, b"m1", reading(1_000)),  # ahead: it moves nothing
        (0, NOW, b"m1", reading(97)),
        (0, NOW, b"m2", reading(150, "m1")),  # not its key: but its clock is believed
        (0, NOW, b"m1", reading(145)),
        (0, NOW, b"m1", reading(160, pressure=99)),
        (0, NOW, b"m1", reading(155)),
        (0, NOW, b"m1", b"{}"),
        (0, NOW, None, reading(156)),
        (0, ahead, CLOCK.encode(), reading(900, CLOCK)),
        (0, ahead, b"m1", reading(895)),
        (0, ahead, CLOCK.encode(), reading(1, CLOCK)),  # never late
        (0, ahead, b"m1", reading(895.001)),
    ]
    rows = run(flink, CONFIG, records)
    refused = {int(offset): (reason, why) for why, offset, _, reason, _ in rows["refused"]}
    assert len(refused) == len(rows["refused"])
    assert refused == {
        2: ("late", "ts is behind event time by 0 s"),
        3: ("clock_ahead", "ts is ahead of its arrival by 1000 s"),
        5: ("bad_key", "key is m2"),
        6: ("late", "ts is behind event time by 0 s"),
        7: ("out_of_range", "pressure is 99, not in [-1.0, 16.0]"),
        8: ("late", "ts is behind event time by 0 s"),
        9: ("bad_machine_id", "machine_id is missing"),
        10: ("bad_key", "key is missing"),
        12: ("late", "ts is behind event time by 0 s"),
    }
    used = {0: 100, 1: 95.001, 4: 97, 14: 895.001}
    expected = dict(
        sliding([(int(NOW + 1000 * s), [5.0, 1.0]) for s in used.values()], 60_000, 10_000)
    )
    assert {int(end): bytes.fromhex(p) for _, end, _, _, p in rows["window"]} == expected


def test_a_machine_that_is_silent_for_too_long_is_commissioned_anew(flink):
    pause = (255, 2_500, None, None)
    sent = [[reading(begin + second) for second in range(60)] for begin in (0, 100)]
    clocks = [
        [(partition, NOW, CLOCK.encode(), reading(end, CLOCK)) for partition in range(2)]
        for end in (70, 170)
    ]
    before, after = ([(0, NOW, b"m1", value) for value in values] for values in sent)
    settings = {"window": 10_000, "forgetAfter": 2_000}
    rows = run(flink, CONFIG, [*before, *clocks[0], pause, *after, *clocks[1]], **settings)
    references = {
        (int(end) - NOW) // 1000: reference for _, end, _, _, reference in rows["referenced"]
    }
    assert [int(end) - NOW for _, end, *_ in rows["first"]] == [30_000, 130_000]
    first, second = (packed for *_, packed in rows["first"])
    assert references == {
        **dict.fromkeys((10, 20, 110, 120), "null"),
        **dict.fromkeys((30, 40, 50, 60), first),
        **dict.fromkeys((130, 140, 150, 160), second),
    }


def test_a_restart_between_windows_changes_nothing(flink):
    random = Random(5)  # noqa: S311  (no secret)
    # Both tasks must have some to the end: one that is done would take no part in a checkpoint.
    machines = ("m1", "m2", "m3", "m4")
    assert {partition_of(machine.encode()) % 2 for machine in machines} == {0, 1}
    records = []
    for second in range(600):
        for machine in machines:
            if random.random() < 0.9 and not (machine == "m2" and 200 < second < 400):
                moment = second + random.randrange(1000) / 1000
                value = reading(moment, machine, pressure=random.choice([1.0, 5.0, 15.0]))
                key = machine.encode()
                records.append((partition_of(key), NOW, key, value))
    config = CONFIG | {"max_clock_ahead_s": DAY_S}
    runs = [run(flink, config, records, dies=dies) for dies in (False, True)]
    assert {"window", "first", "referenced", "silence"} <= runs[0].keys()
    for kind in ("window", "first", "referenced", "silence", "zone", "refused"):
        once, again = (sorted(rows[kind]) for rows in runs)
        assert again == once, kind


def test_a_partition_may_be_read_far_ahead_of_another(flink):
    random = Random(8)  # noqa: S311  (no secret)
    machines = ("m1", "m2", "m3", "m4")
    of_task = [[m for m in machines if partition_of(m.encode()) % 2 == task] for task in (0, 1)]
    assert all(of_task)
    readings, records = defaultdict(list), []
    for task in (0, 1):
        # All windows of the first wait until the second is read.
        moments = [(s, m) for s in range(1200) for m in of_task[task] if random.random() < 0.95]
        for second, machine in sorted(moments, key=lambda one: one[0] + 4.9 * random.random()):
            flow, key = random.randrange(400), machine.encode()
            records.append((partition_of(key), NOW, key, reading(second, machine, flow_2=flow)))
            readings[machine].append((int(NOW + 1000 * second), [5.0, float(flow)]))
        records.append((255, 100, None, None))
    records += [(p, NOW, CLOCK.encode(), reading(1300, CLOCK)) for p in (0, 1)]
    rows = run(flink, CONFIG | {"max_clock_ahead_s": DAY_S}, records)
    assert not rows["refused"]
    found = {(m, int(end)): bytes.fromhex(packed) for m, end, *_, packed in rows["window"]}
    assert found == {
        (machine, end): packed
        for machine, all_of_it in readings.items()
        for end, packed in sliding(all_of_it, 60_000, 10_000)
    }


class Appended:
    """A record on its topic, appended at its time."""

    def __init__(self, appended, value):
        self.value = lambda: value
        self.offset = lambda: 0
        self.timestamp = lambda: (2, appended)


def test_event_time_moves_as_the_clock_service_takes_it(flink):
    # Behind each record one that is late just if event time went on to where the clock saw it.
    values = [value for value in hostile_records(800) if value is not None]
    records, expected, newest = [], [], 0
    for number, value in enumerate(values):
        partition = clock.Partition(newest=newest)
        newest = clock.seen(partition, Appended(2 * NOW, value), 300_000).newest
        records.append((0, 2 * NOW, b"m1", value))
        for away, is_late in ((-5000, True), (-4999, False)):
            probe = {
                "machine_id": "probe",
                "ts": newest + away,
                "pressure": 5,
                "flow_2": number % 400,
            }
            if newest > 0:
                expected.append((len(records), is_late))
            records.append((0, 2 * NOW, b"probe", orjson.dumps(probe)))
    rows = run(flink, CONFIG, records)
    late = {int(offset) for _, offset, _, reason, _ in rows["refused"] if reason == "late"}
    assert {offset: offset in late for offset, _ in expected} == dict(expected)
    assert {True, False} == {is_late for _, is_late in expected}


def pack(readings):
    return windows.pack(
        np.array([ts for ts, _ in readings]), np.array([row for _, row in readings])
    )


def until_enough(readings, size):
    """(end, packed) of the windows one after another with which the readings are enough."""
    for to in sorted(to for to, _ in sliding(readings, size, size)):
        taken = [(ts, row) for ts, row in readings if ts < to]
        if len({ts for ts, _ in taken}) >= CONFIG["commissioning_readings"]:
            return to, pack(taken)
    raise AssertionError("too few readings")


def sliding(readings, size, slide):
    """(end, packed) of each window that holds a reading."""
    ends = {
        ts // slide * slide + slide * n for ts, _ in readings for n in range(1, size // slide + 1)
    }
    for to in ends:
        yield to, pack([(ts, row) for ts, row in readings if to - size <= ts < to])


def silences(times, too_long, slide):
    """(is_silent, raised_at, last reading then) of each silence, in order; the last one stays."""
    for before, ts in pairwise([*times, np.inf]):
        silent_at = before + too_long
        if ts >= -(-silent_at // slide) * slide:
            yield "TRUE", silent_at, before
            if ts < np.inf:
                yield "FALSE", silent_at, max(t for t in times if t < ts // slide * slide + slide)
