"""Quality is judged on complete, once-predicted windows and counts each row once."""

import dataclasses
from pathlib import Path

import numpy as np
import orjson
import pytest
from samples import PREDICTION, Message

from flink_jobs import contracts
from flink_jobs.evaluate import Counts
from flink_jobs.plant import Channel, MachineType
from flink_jobs.tools import quality
from flink_jobs.tools.datasets import Series
from flink_jobs.tools.kafka import ToolError

PUMP = MachineType("pump", (Channel("pressure", "bar", -1, 16),), window_s=60, slide_s=10)


def series(rows, machine_id="m", truth_from=None):
    ts = np.arange(rows, dtype=np.int64) * 1000
    truth = None if truth_from is None else ts >= truth_from * 1000
    noise = np.random.default_rng(1).standard_normal((rows, 2))
    return Series(machine_id, "pump", ("a", "b"), ts, noise, truth, Path(f"{machine_id}.csv"))


def predictions(machine_id, ends, alert_from=10**9):
    return [
        dataclasses.replace(
            PREDICTION,
            machine_id=machine_id,
            window_start=int(end) - 60_000,
            window_end=int(end),
            is_alert=bool(end >= alert_from),
        )
        for end in ends
    ]


class Tail:
    """Stands in for the reader: each read returns the next batch, then nothing."""

    def __init__(self, *batches):
        self._batches = list(batches)

    def read(self, _timeout):
        batch = self._batches.pop(0) if self._batches else []
        return [Message(contracts.PREDICTIONS, contracts.encode_prediction(p)) for p in batch]


def test_windows_are_those_that_hold_a_reading():
    ends = quality.window_ends(np.array([0, 9_999, 10_000, 200_500]), PUMP)
    assert ends.tolist() == [
        *range(10_000, 80_000, 10_000),
        *range(210_000, 270_000, 10_000),
    ]


def test_window_arithmetic_agrees_with_counting():
    ts = np.sort(np.random.default_rng(0).integers(0, 2_000_000, 150))
    by_hand = [
        end for end in range(0, 2_100_000, 10_000) if np.any((ts >= end - 60_000) & (ts < end))
    ]
    assert quality.window_ends(ts, PUMP).tolist() == by_hand


def test_a_row_takes_the_verdict_of_the_newest_window_that_ended():
    one = series(1_000, truth_from=800)
    found = {"m": predictions("m", quality.window_ends(one.ts, PUMP), alert_from=850_000)}
    result = quality.judge([one], found, 400)
    assert result.ours == Counts(true_alerts=150, false_alerts=0, missed=50, quiet=400)
    total = result.baseline
    assert total.true_alerts + total.false_alerts + total.missed + total.quiet == 600


def test_counts_are_pooled_over_files_and_written_in_percent():
    both = [series(1_000, "m", truth_from=800), series(900, "n", truth_from=500)]
    ends = {one.machine_id: quality.window_ends(one.ts, PUMP) for one in both}
    found = {name: predictions(name, ends[name], alert_from=850_000) for name in ends}
    record = orjson.loads(quality.judge(both, found, 400).as_json())
    assert record["skab"] == {
        "f1": round(2 * 200 / (2 * 200 + 400), 4),
        "far": 0.0,
        "mar": round(100 * 400 / 600, 4),
        "files": 2,
    }
    assert set(record["t2q"]) == {"f1", "far", "mar"}


def test_rates_without_a_meaning_are_null():
    result = quality.Result(Counts(quiet=3), Counts(), 1)
    assert orjson.loads(result.as_json())["skab"] == {
        "f1": None,
        "far": 0.0,
        "mar": None,
        "files": 1,
    }


def test_collecting_ends_when_every_window_is_in_and_ignores_other_machines():
    ends = np.array([10_000, 20_000, 30_000])
    tail = Tail(
        predictions("other", ends), predictions("m", ends[:2]), [], predictions("m", ends[2:])
    )
    found = quality.collect(tail, {"m": ends}, timeout_s=5)
    assert [p.window_end for p in found["m"]] == ends.tolist()


def test_a_window_predicted_twice_is_an_error():
    tail = Tail(predictions("m", [10_000, 10_000]))
    with pytest.raises(ToolError, match="came twice"):
        quality.collect(tail, {"m": np.array([10_000, 20_000])}, timeout_s=5)


def test_windows_that_never_come_are_an_error_with_their_number():
    with pytest.raises(ToolError, match="1 of 2 windows were not predicted"):
        quality.collect(Tail(predictions("m", [1])), {"m": np.array([1, 2])}, timeout_s=0.01)


def test_readings_that_reached_no_window_are_noticed():
    one = series(100)
    ends = quality.window_ends(one.ts, PUMP)
    held = [int(((one.ts >= end - 60_000) & (one.ts < end)).sum()) for end in ends]
    full = [
        dataclasses.replace(p, readings=n)
        for p, n in zip(predictions("m", ends), held, strict=True)
    ]
    assert quality.unwindowed(one, full, PUMP) == 0
    short = [dataclasses.replace(full[0], readings=full[0].readings - 1), *full[1:]]
    assert quality.unwindowed(one, short, PUMP) == 1


def test_only_labelled_files_longer_than_the_reference_are_judged(capsys):
    usable = series(500, "c", truth_from=450)
    chosen = quality.labelled([series(500, "a"), series(400, "b", truth_from=9), usable], 400)
    assert chosen == [usable]
    assert "a.csv: no labels" in capsys.readouterr().err
    with pytest.raises(ToolError, match="no labelled SKAB file"):
        quality.labelled([series(500, "a")], 400)


def test_each_run_names_its_machines_anew():
    marks = {quality.run_mark(1_700_000_000 + second) for second in range(100)}
    assert len(marks) == 100
    assert all(mark.isalnum() and mark.islower() for mark in marks)
