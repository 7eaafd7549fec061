"""The format and the functions as Flink's SQL sees them: one job in a Flink out of the depot."""

import zlib
from collections import Counter, defaultdict
from datetime import UTC, datetime
from random import Random
from string import Template

import numpy as np

from flink_jobs import clock, windows
from flink_jobs.contracts import MAX_ID_LENGTH, MAX_TS, ContractError, parse_reading
from tests import hostile

# What is passed on of a record that is refused.
RAW_BYTES = 150
# First readings of a machine.
ENOUGH = 30
CHANNELS = {"pressure": (-1.0, 16.0), "flow_2": (0.0, 400.0)}
CHECKS = "pressure: warning 2 14 0.5; flow_2: critical - 399 1"

# Rows without a time get one: only a source that emits watermarks itself takes them as they are.
STATEMENTS = Template("""
CREATE TEMPORARY SYSTEM FUNCTION pack AS 'plantline.Pack' LANGUAGE JAVA;
CREATE TEMPORARY SYSTEM FUNCTION first_readings AS 'plantline.FirstReadings' LANGUAGE JAVA;
CREATE TEMPORARY SYSTEM FUNCTION packed_count AS 'plantline.PackedCount' LANGUAGE JAVA;
CREATE TEMPORARY SYSTEM FUNCTION zone_changes AS 'plantline.ZoneChanges' LANGUAGE JAVA;
CREATE TEMPORARY TABLE telemetry (
  machine_id STRING, ts BIGINT, pressure DOUBLE, flow_2 DOUBLE,
  `raw` BYTES, reason STRING, detail STRING,
  event_time AS TO_TIMESTAMP_LTZ(COALESCE(ts, $start), 3),
  WATERMARK FOR event_time AS event_time - INTERVAL '1' DAY
) WITH (
  'connector' = 'filesystem',
  'path' = 'file://$folder',
  'format' = 'plantline-reading',
  'plantline-reading.max-ts' = '$max_ts',
  'plantline-reading.max-id-length' = '$max_id_length',
  'plantline-reading.max-raw-bytes' = '$max_raw_bytes',
  'plantline-reading.valid.pressure' = '-1 16',
  'plantline-reading.valid.flow_2' = '0.0 400.0'
);
CREATE TEMPORARY VIEW good AS SELECT * FROM telemetry WHERE reason IS NULL;
CREATE TEMPORARY VIEW hop AS
SELECT machine_id, window_time, pack(ts, pressure, flow_2) AS packed
FROM TABLE(HOP(TABLE good, DESCRIPTOR(event_time), INTERVAL '10' SECOND, INTERVAL '60' SECOND))
GROUP BY machine_id, window_start, window_end, window_time;
CREATE TEMPORARY VIEW tumble AS
SELECT machine_id, window_time, pack(ts, pressure, flow_2) AS packed
FROM TABLE(TUMBLE(TABLE good, DESCRIPTOR(event_time), INTERVAL '20' SECOND))
GROUP BY machine_id, window_start, window_end, window_time;
SELECT 'hop', machine_id, CAST(window_time AS TIMESTAMP(3)), packed FROM hop
UNION ALL
SELECT 'count', machine_id, CAST(window_time AS TIMESTAMP(3)),
  ENCODE(CAST(packed_count(packed) AS STRING), 'UTF-8') FROM hop
UNION ALL
SELECT 'first', machine_id, CAST(window_time AS TIMESTAMP(3)), packed FROM (
  SELECT *, first_readings(window_packed, $enough) OVER (
    PARTITION BY machine_id ORDER BY window_time
    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS packed
  FROM (SELECT machine_id, window_time, packed AS window_packed FROM tumble)
) WHERE packed IS NOT NULL
UNION ALL
SELECT 'refused', reason, CAST(TO_TIMESTAMP_LTZ(ts, 3) AS TIMESTAMP(3)), `raw`
FROM telemetry WHERE reason IS NOT NULL
UNION ALL
SELECT 'zone', machine_id, CAST(event_time AS TIMESTAMP(3)),
  ENCODE(CONCAT_WS(' ', channel, kind, CAST(zone AS STRING), CAST(z.`value` AS STRING)), 'UTF-8')
FROM good, LATERAL TABLE(zone_changes('$checks', machine_id, ts, pressure, flow_2)) AS z
""")


def lines_of(count):
    """Values of hostile records, as many as fit into lines of a file."""
    # Windows from 1970 to 2200 are not the matter here.
    left_out = {"from 1970", "from 2200"}
    for record in hostile.records(Random(3), CHANNELS, count):  # noqa: S311  (no secret)
        value = record.value or b""
        fits = 0 < len(value) < hostile.MEGABYTE and not set(b"\n\r") & set(value)
        if fits and record.kind not in left_out:
            yield value


def test_records_become_windows_refusals_and_changes_of_zones(flink, jvm, tmp_path):
    # One machine is in one file, as it is in one partition: what follows zones relies on that.
    files, refused, readings = defaultdict(list), Counter(), defaultdict(list)
    for value in lines_of(4_000):
        try:
            reading = parse_reading(value, CHANNELS, CHANNELS)
        except ContractError as error:
            refused[error.reason, moves(value), value[:RAW_BYTES]] += 1
            files[zlib.crc32(value) % 2].append(value)
        else:
            row = [np.nan if one is None else one for one in reading.values.values()]
            readings[reading.machine_id].append((reading.ts, row))
            files[zlib.crc32(reading.machine_id.encode()) % 2].append(value)
    for number, values in files.items():
        (tmp_path / str(number)).write_bytes(b"\n".join(values) + b"\n")

    rows = defaultdict(list)
    statements = STATEMENTS.substitute(
        folder=tmp_path,
        start=hostile.START,
        max_ts=MAX_TS,
        max_id_length=MAX_ID_LENGTH,
        max_raw_bytes=RAW_BYTES,
        enough=ENOUGH,
        checks=CHECKS,
    )
    for kind, subject, time, value in flink(statements):
        rows[kind].append((subject, time, bytes.fromhex(value)))

    # With the time by which each moves event time, as the clock service takes it.
    assert refused == Counter(
        (reason, None if time == "null" else end(time) - 1, value)
        for reason, time, value in rows["refused"]
    )

    hops = {(machine, end(time)): packed for machine, time, packed in rows["hop"]}
    assert len(hops) == len(rows["hop"])
    assert hops == {
        (machine, to): packed
        for machine, all_of_it in readings.items()
        for to, packed in sliding(all_of_it, 60_000, 10_000)
    }
    counts = {(machine, end(time)): int(count) for machine, time, count in rows["count"]}
    assert counts == {
        key: len(windows.unpack([packed], len(CHANNELS))[0].ts) for key, packed in hops.items()
    }
    first = {(machine, end(time)): packed for machine, time, packed in rows["first"]}
    assert len(first) == len(rows["first"]) == len(readings)
    expected = {machine: until_enough(all_of_it, 20_000) for machine, all_of_it in readings.items()}
    assert first == {(machine, to): packed for machine, (to, packed) in expected.items()}

    judged = [(m, ts, row) for m, all_of_it in readings.items() for ts, row in all_of_it]
    zones = Counter(
        (machine, ts, f"{channel} {kind} {zone} {value!r}")
        for (machine, ts, _), changes in zip(judged, jvm.judge(CHECKS, judged), strict=True)
        for channel, kind, zone, value, _ in changes
    )
    assert Counter((m, end(time) - 1, text.decode()) for m, time, text in rows["zone"]) == zones


class Appended:
    """A record on its topic, appended at the end of time."""

    def __init__(self, value):
        self.value = lambda: value
        self.offset = lambda: 0
        self.timestamp = lambda: (2, MAX_TS)


def moves(value):
    """The time to which a record moves event time, None where it does not."""
    return clock.seen(clock.Partition(), Appended(value), 0).newest


def end(time):
    """A window's exclusive end, epoch milliseconds, from its window_time."""
    return round(datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp() * 1000) + 1


def pack(readings):
    return windows.pack(
        np.array([ts for ts, _ in readings]), np.array([row for _, row in readings])
    )


def until_enough(readings, size):
    """(end, packed) of the windows one after another with which the readings are enough."""
    for to in sorted(to for to, _ in sliding(readings, size, size)):
        taken = [(ts, row) for ts, row in readings if ts < to]
        if len({ts for ts, _ in taken}) >= ENOUGH:
            return to, pack(taken)
    raise AssertionError("too few readings")


def sliding(readings, size, slide):
    """(end, packed) of each window that holds a reading."""
    ends = {
        ts // slide * slide + slide * n for ts, _ in readings for n in range(1, size // slide + 1)
    }
    for to in ends:
        yield to, pack([(ts, row) for ts, row in readings if to - size <= ts < to])
