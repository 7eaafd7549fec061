"""Replays send what the files hold, merged by time."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from flink_jobs import contracts
from flink_jobs.plant import Channel, Machine, MachineType, Plant
from flink_jobs.tools import replay
from flink_jobs.tools.datasets import Record, Series
from flink_jobs.tools.kafka import ToolError

PUMP = MachineType("pump", (Channel("pressure", "bar", -1, 16),), window_s=60, slide_s=10)
PLANT = Plant(
    "p", "accept", {"pump": PUMP}, (Machine("a", "pump", "line-1", "hall", "2020-01-01"),)
)


def series(machine_id, ts, kind="pump", records=()):
    times = np.array(ts, dtype=np.int64)
    values = times[:, None] / 1000.0
    return Series(
        machine_id, kind, ("pressure",), times, values, None, Path("x"), records=tuple(records)
    )


def sent(items):
    return [(ts, topic, key.decode(), orjson.loads(value)) for ts, topic, key, value in items]


def test_readings_are_merged_by_time_and_belong_to_their_machine():
    items = sent(replay.merged([series("a", [0, 2000, 4000]), series("b", [1000, 2000])]))
    assert [(ts, key) for ts, _, key, _ in items] == [
        (0, "a"),
        (1000, "b"),
        (2000, "a"),
        (2000, "b"),
        (4000, "a"),
    ]
    for ts, topic, key, value in items:
        assert topic == "telemetry.pump"
        assert value == {"machine_id": key, "ts": ts, "pressure": ts / 1000}


def test_chunks_do_not_change_what_is_sent(monkeypatch):
    rng = np.random.default_rng(3)
    machines = [series(name, np.sort(rng.integers(0, 500, 97))) for name in "abc"]
    whole = list(replay.merged(machines))
    monkeypatch.setattr(replay, "_CHUNK", 7)
    assert list(replay.merged(machines)) == whole


def test_a_limit_counts_readings():
    machines = [series("a", range(0, 10_000, 1000)), series("b", range(500, 10_000, 1000))]
    assert len(list(replay.merged(machines, 7))) == 7
    assert len(list(replay.merged(machines, 7_000))) == 20


def test_records_are_sent_before_the_readings_of_their_time():
    value = {"machine_id": "a", "ts": 1000, "component": "c"}
    records = [Record(contracts.FAILURES, 1000, "a", value)]
    records.append(Record(contracts.FAILURES, 9000, "a", {**value, "ts": 9000}))
    items = sent(replay.merged([series("a", [0, 1000, 2000], records=records)]))
    assert [(ts, topic) for ts, topic, _, _ in items] == [
        (0, "telemetry.pump"),
        (1000, "failures"),
        (1000, "telemetry.pump"),
        (2000, "telemetry.pump"),
        (9000, "failures"),
    ]


def test_aligned_machines_start_together_and_keep_their_pace():
    moved = replay.aligned([series("a", [5, 1005]), series("b", [77_000, 78_000])], 600_000)
    assert [one.ts.tolist() for one in moved] == [[600_000, 601_000], [600_000, 601_000]]


def test_machines_are_chosen_by_glob():
    machines = [series(name, [0]) for name in ("skab-a-1", "skab-b-1", "pdm-1")]
    assert [m.machine_id for m in replay.select(machines, ["skab-*"])] == ["skab-a-1", "skab-b-1"]
    assert replay.select(machines, []) == machines
    with pytest.raises(ToolError, match=r"no machine matches x\*; there are skab-a-1"):
        replay.select(machines, ["x*"])


def test_a_type_the_plant_lacks_is_named():
    with pytest.raises(ToolError, match="has no machine type fan; declare it"):
        replay.machine_types([series("a", [0]), series("f", [0], kind="fan")], PLANT)


def test_machines_are_registered_from_their_first_reading_and_declared_ones_as_declared():
    declared, other = replay.registrations([series("a", [5000]), series("b", [7000])], PLANT)
    assert declared == contracts.registration(
        "a", "pump", valid_from=0, line="line-1", area="hall", installed="2020-01-01"
    )
    assert other == contracts.registration("b", "pump", valid_from=7000)


@pytest.mark.parametrize("text", ["now", "start"])
def test_align_takes_words(text):
    assert replay._align_argument(text) == text


def test_align_takes_a_time():
    assert replay._align_argument("2020-03-09T10:14:33Z") == 1583748873000
