"""A job without its state emits what the one before it has not, as Flink makes it of the SQL."""

import json
from collections import defaultdict
from random import Random

import pytest

from flink_jobs import contracts
from flink_jobs.contracts import alert_id
from flink_jobs.jobs import anomaly_sql
from flink_jobs.jobs.anomaly_sql import Emitted
from tests.unit.samples import job_config

START = 1_700_000_000_000
SLIDE = 10_000
WINDOWS = 60
CONFIG = job_config(channels=[{"name": "flow"}], window_s=10, slide_s=10, max_disorder_s=86_400)
LAST_END = START + SLIDE * (WINDOWS // 2)
OFFSETS = {0: 7, 2: 3}
MACHINES = [f"p{number}" for number in range(12)]

# A window of two readings stands for an alert.
BEFORE = """
COMMISSION SELECT machine_id, packed FROM first_readings;
CREATE TEMPORARY SYSTEM FUNCTION place_of AS 'plantline.PlaceOf' LANGUAGE JAVA;
CREATE TEMPORARY VIEW scored AS
SELECT machine_id, n, n + CAST(0 AS DOUBLE) AS score, 1 AS cause1, CAST(1 AS DOUBLE) AS share1,
  window_end, CAST(1.5 AS DOUBLE) AS threshold, n > 1 AS is_alert
FROM referenced;
FOLLOW SELECT * FROM scored;
"""
# The rows of each sink, by their number after its name.
AFTER = """
SELECT 'prediction', c0, CAST(c3 AS STRING), CAST(c10 AS STRING) FROM predictions
UNION ALL
SELECT 'alert', c2, CONCAT_WS(' ', c0, c1, CAST(c4 AS STRING)), CAST(c10 AS STRING) FROM alerts
UNION ALL
SELECT 'letter', '', CAST(c2['dlq.source'] AS STRING), CAST(c2['dlq.reason'] AS STRING) FROM dlq"""
COLUMNS = {"predictions": 16, "alerts": 16, "dlq": 3}


def sinks(emitted):
    """What the job writes into its sinks, as views of these names."""
    for text in anomaly_sql.statements(CONFIG, "m", "1", 1.5, emitted)[1]:
        name = text.split()[2]
        columns = ", ".join(f"c{number}" for number in range(COLUMNS[name]))
        yield text.replace(f"INSERT INTO {name}", f"CREATE TEMPORARY VIEW {name} ({columns}) AS", 1)


@pytest.fixture(scope="module")
def windows():
    """{machine: {window_end: is_alert}}; the odd machines say nothing for some time, now and then.

    All of them have an alert over the end of the job before, but for two that have none.
    """
    random = Random(4)  # noqa: S311  (no secret)
    found = defaultdict(dict)
    for number, machine in enumerate(MACHINES):
        is_alert = False
        for step in range(1, WINDOWS + 1):
            end = START + SLIDE * step
            is_alert ^= random.random() < 0.2
            if abs(end - LAST_END) <= 2 * SLIDE:
                is_alert = number > 1
            if number % 2 == 0 or random.random() < 0.6:
                found[machine][end] = is_alert
    return found


def reading(machine, ts):
    return json.dumps({"machine_id": machine, "ts": ts, "flow": 1}).encode()


@pytest.fixture(scope="module")
def rows(flink, windows):
    """What is emitted: by a job that has lost nothing, and by one that has lost its state."""
    ends = [(end, machine, alert) for machine, its in windows.items() for end, alert in its.items()]
    ends.append((LAST_END + SLIDE, "new", False))
    records = [
        (partition, 2 * START, contracts.CLOCK.encode(), reading(contracts.CLOCK, START))
        if offset % 2 == 0
        else (partition, 2 * START, b"p1", b"it is none")
        for partition in range(4)
        for offset in range(12)
    ]
    for end, machine, is_alert in sorted(ends):
        for ts in range(end - 1 - is_alert, end):
            records.append((0, 2 * START, machine.encode(), reading(machine, ts)))
    settings = anomaly_sql.stream_settings(CONFIG)
    found = []
    for emitted in (None, Emitted(LAST_END, OFFSETS)):
        views = ";\n".join(sinks(emitted))
        rows = defaultdict(list)
        for kind, *row in flink(f"{BEFORE}{views};\n{AFTER}", settings, records):
            rows[kind].append(tuple(row))
        found.append(rows)
    return found


def test_each_window_is_predicted_by_one_of_the_two(rows, windows):
    everything, after = ([(m, int(end)) for m, end, _ in run["prediction"]] for run in rows)
    expected = [(machine, end) for machine, ends in windows.items() for end in ends]
    assert sorted(everything) == sorted([*expected, ("new", LAST_END + SLIDE)])
    assert sorted(after) == sorted(window for window in everything if window[1] > LAST_END)
    assert len(everything) > len(after) > 0


def test_each_dead_letter_is_written_by_one_of_the_two(rows):
    everything, after = ({source for _, source, _ in run["letter"]} for run in rows)
    assert len(everything) == len(rows[0]["letter"]) == 4 * 6
    assert after == {
        source
        for source in everything
        for partition, offset in [map(int, source.split("/")[1:])]
        if offset >= OFFSETS.get(partition, 0)
    }


def alerts(ends):
    """The alerts of a machine by its windows {end: is_alert}: (id, state, ts, window_end)."""
    was_alert, raised_at = False, None
    for end, is_alert in sorted(ends.items()):
        if is_alert != was_alert:
            raised_at = end if is_alert else raised_at
            yield raised_at, "raised" if is_alert else "cleared", end, end
        was_alert = is_alert


def told_after(ends):
    """Those of them that are new, and the one before that goes on, told by the first new window."""
    told = list(alerts(ends))
    before = [alert for alert in told if alert[2] <= LAST_END]
    first = min(end for end in ends if end > LAST_END)
    if before and before[-1][1] == "raised" and ends[first]:
        raised_at = before[-1][0]
        yield raised_at, "raised", raised_at, first
    yield from (alert for alert in told if alert[2] > LAST_END)


def test_an_alert_that_goes_on_is_told_again_and_no_other(rows, windows):
    again = 0
    for run, expected in zip(rows, (alerts, told_after), strict=True):
        for machine, ends in windows.items():
            found = [text for who, *text in run["alert"] if who == machine]
            wanted = list(expected(ends))
            assert found == [
                [f"{alert_id(machine, 'anomaly', 'm', raised_at)} {state} {ts}", str(end)]
                for raised_at, state, ts, end in wanted
            ]
            again += sum(ts <= LAST_END < end for _, _, ts, end in wanted)
    assert again > len(MACHINES) / 2
