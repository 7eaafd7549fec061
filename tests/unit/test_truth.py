"""Truth about machines: labels become faults, and the file says what was put into it."""

from pathlib import Path

import numpy as np
import pytest

from flink_jobs.tools import datasets, replay, simulate
from flink_jobs.tools.datasets import Series
from flink_jobs.tools.kafka import ToolError
from flink_jobs.tools.simulate import Fleet
from flink_jobs.tools.truth import (
    LABELLED,
    TrueFault,
    Truth,
    from_labels,
    read_truths,
    write_truths,
)


def labelled(*labels):
    ts = 1000 * np.arange(len(labels), dtype=np.int64)
    return from_labels("m", ts, np.array(labels, dtype=bool))


def test_a_fault_lasts_until_the_first_normal_reading_after_it():
    truth = labelled(0, 1, 1, 0, 0, 1)
    assert truth.faults == (TrueFault(LABELLED, 1000, 3000), TrueFault(LABELLED, 5000, 5001))
    assert (truth.begin, truth.end) == (0, 5001)


def test_a_recording_without_a_labelled_row_had_no_fault():
    assert labelled(0, 0).faults == ()


def test_a_replay_tells_the_labels_of_what_it_sent():
    values = np.zeros((4, 1))
    ts = 1000 * np.arange(4, dtype=np.int64)
    labels = np.array([False, False, True, True])
    known = Series("a", "pump", ("flow",), ts, values, labels, Path("a.csv"))
    unknown = Series("b", "pump", ("flow",), ts, values, None, Path("b.csv"))
    later = Series("c", "pump", ("flow",), ts + 9000, values, labels, Path("c.csv"))
    other = Series("d", "fan", ("flow",), ts, values, labels, Path("d.csv"))
    sent = replay.truths([known, unknown, later, other], {"telemetry.pump": 2500})
    assert sent == [Truth("a", 0, 2501, (TrueFault(LABELLED, 2000, 3001),))]


def test_a_simulation_to_a_file_tells_the_truth_of_all_its_machines(tmp_path):
    out, truth = tmp_path / "run.csv", tmp_path / "truth.json"
    arguments = ["--machines", "3", "--readings", "6000", "--seed", "4"]
    assert simulate.main([*arguments, "--out", str(out), "--truth", str(truth)]) == 0
    told = read_truths(truth)
    recorded = {one.machine_id: one for one in datasets.load(out)}
    assert set(told) == set(recorded)
    for name, one in recorded.items():
        faulty = [any(f.begin <= ts < f.end for f in told[name].faults) for ts in one.ts]
        assert faulty == one.truth.tolist()
        assert told[name].begin <= one.ts[0] <= one.ts[-1] < told[name].end
    assert any(one.truth.any() for one in recorded.values())


def test_what_was_not_sent_is_not_known():
    cut = labelled(0, 1, 1, 0, 0, 1).until(2000)
    assert cut == Truth("m", 0, 2000, (TrueFault(LABELLED, 1000, 3000),))


def test_the_file_gives_back_what_was_written(tmp_path):
    truths = [Truth("m", 0, 9, (TrueFault("wear", 1, 2),)), Truth("n", 0, 9)]
    write_truths(tmp_path / "new" / "truth.json", truths)
    assert read_truths(tmp_path / "new" / "truth.json") == {one.machine_id: one for one in truths}


@pytest.mark.parametrize("text", ["{", "[1]", '[{"machine_id": "m"}]', '{"faults": []}'])
def test_another_file_is_refused_by_name(tmp_path, text):
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(ToolError, match=r"truth\.json: not a file of truths"):
        read_truths(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ToolError, match=r"none\.json: cannot be read"):
        read_truths(tmp_path / "none.json")


def test_simulated_pumps_tell_when_they_are_healthy():
    fleet = Fleet(12, seed=2, start_ms=0)
    fleet.run(2_400)
    truths = fleet.truths(2_000_000)
    assert [one.machine_id for one in truths] == fleet.ids
    assert {(one.begin, one.end) for one in truths} == {(0, 2_000_000)}
    told = [(one.machine_id, fault.fault, fault.begin) for one in truths for fault in one.faults]
    begun = [(f.machine_id, f.fault, f.begin) for f in fleet.truth if f.begin < 2_000_000]
    assert sorted(told) == sorted(begun)
    assert len(told) > 0
