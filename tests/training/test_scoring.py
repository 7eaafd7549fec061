"""What the job computes in batches is what evaluation computes machine by machine."""

import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flink_jobs import commissioning, evaluate, scoring
from flink_jobs.model import Detector
from flink_jobs.plant import Channel, MachineType
from flink_jobs.tools.train import Fleet, build

READINGS = 400
WINDOW_MS, SLIDE_MS = 30_000, 10_000
TYPE = MachineType(
    name="pump",
    channels=tuple(Channel(name, "", 0, 1) for name in ("flow", "heat", "noise")),
    window_s=30,
    slide_s=10,
    commissioning_readings=READINGS,
)
NO_FLEET = Fleet(*(np.zeros(3) for _ in range(4)))


@pytest.fixture(scope="module")
def detector():
    return Detector(build(NO_FLEET, TYPE, [], seed=0, threshold=4.0))


def recording(seed, gaps=0.0):
    """Readings of one machine about once a second; `gaps` is the share of missing values."""
    random = np.random.default_rng(seed)
    ts = np.sort(random.choice(np.arange(7_000, 900_000, 500), 900, replace=False))
    values = random.normal([32, 70, 5], [0.5, 0.1, 1], (900, 3))
    values[random.random(values.shape) < gaps] = np.nan
    return ts, values


def as_flink_collects(ts, values, ends, random):
    """The arrays of the windows that end at `ends`, readings shuffled, missing values None."""
    tss, channels = [], [[] for _ in values.T]
    for end in ends:
        inside = np.flatnonzero((ts >= end - WINDOW_MS) & (ts < end))
        random.shuffle(inside)
        tss.append(ts[inside].tolist())
        for channel, column in zip(channels, values[inside].T, strict=True):
            channel.append([None if np.isnan(value) else value for value in column])
    return tss, channels


def reference_windows(ts, values, random):
    """The windows that hold every reading once."""
    ends = np.arange(WINDOW_MS, ts[-1] + WINDOW_MS + 1, WINDOW_MS)
    random.shuffle(ends)
    return as_flink_collects(ts, values, ends, random)


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_a_machines_reference_is_that_of_its_first_readings(gaps):
    ts, values = recording(1, gaps)
    expected = commissioning.reference(ts[:READINGS], values[:READINGS], 30, 10)
    for seed in range(5):
        tss, channels = reference_windows(ts, values, np.random.default_rng(seed))
        found = scoring.machine_reference(tss, channels, READINGS, 30, 10)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("gaps", [0.0, 0.2])
def test_a_batch_of_several_machines_scores_as_each_does_offline(detector, gaps):
    random = np.random.default_rng(2)
    rows, expected = [], []
    for seed in range(4):
        ts, values = recording(seed, gaps)
        ends, scores = evaluate.score_offline(detector, ts, values)
        normal = commissioning.reference(ts[:READINGS], values[:READINGS], 30, 10)
        tss, channels = as_flink_collects(ts, values, ends, random)
        rows += [
            (normal if end > ts[READINGS - 1] else None, *window)
            for end, *window in zip(ends, tss, *channels, strict=True)
        ]
        expected += scores.tolist()
    mixed = random.permutation(len(rows))
    references, tss, *channels = zip(*(rows[row] for row in mixed), strict=True)
    table = scoring.score_windows(detector, references, tss, channels, top=3)
    assert np.isfinite(table["score"]).sum() > 100
    np.testing.assert_allclose(table["score"], np.array(expected)[mixed], rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_the_order_of_readings_does_not_matter_even_at_equal_times(detector, seed, rows):
    random = np.random.default_rng(seed)
    ts = random.integers(0, 5, rows) * 1000
    values = random.normal([32, 70, 5], [0.5, 0.1, 1], (rows, 3))
    normal = commissioning.reference(*recording(0), 30, 10)

    def table(order):
        columns = [[values[order, channel]] for channel in range(3)]
        return scoring.score_windows(detector, [normal], [ts[order]], columns, top=3)

    expected, found = table(np.arange(rows)), table(random.permutation(rows))
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column)


def one_window(detector, *references, shift=(0, 0, 0), top=3):
    """The same window once for each reference."""
    values = np.random.default_rng(3).normal([32, 70, 5], [0.5, 0.1, 1], (30, 3)) + shift
    columns = [[column] * len(references) for column in values.T]
    tss = [np.arange(30) * 1000] * len(references)
    return scoring.score_windows(detector, references, tss, columns, top)


def test_a_window_without_a_reference_is_not_scored_and_does_not_disturb_the_others(detector):
    normal = commissioning.reference(*recording(0), 30, 10)
    alone = one_window(detector, normal)
    table = one_window(detector, None, normal, np.full_like(normal, np.nan))
    for name, column in table.items():
        assert column[1] == alone[name][0]
        for row in (0, 2):
            assert column[row] is None if name.startswith("channel") else np.isnan(column[row])
    assert np.isnan(one_window(detector, None)["score"]).all()


def test_the_causes_of_a_score_are_named_from_the_greatest_on(detector):
    normal = commissioning.reference(*recording(0), 30, 10)
    table = one_window(detector, normal, shift=(0, 3, 1))
    assert (table["channel1"][0], table["channel2"][0]) == ("heat", "noise")
    shares = [table[f"share{rank}"][0] for rank in (1, 2, 3)]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert table["threshold"][0] == 4.0 < table["score"][0]
    assert "channel2" not in one_window(detector, normal, top=1)


def test_equal_shares_keep_the_order_of_the_channels(detector):
    random = np.random.default_rng(4)
    normal = commissioning.reference(
        np.arange(400) * 1000, np.repeat(random.normal(5, 1, (400, 1)), 3, axis=1), 30, 10
    )
    column = [random.normal(9, 1, 30)]
    table = scoring.score_windows(detector, [normal], [np.arange(30) * 1000], [column] * 3, 3)
    assert table["share1"] == table["share2"] == table["share3"]
    assert [table[f"channel{rank}"][0] for rank in (1, 2, 3)] == ["flow", "heat", "noise"]


def test_places_follow_their_file(tmp_path):
    file = tmp_path / "machines.json"
    places = scoring.Places(file)
    places.refresh()
    assert places.of("p1") == (None, None)

    def write(version, *machines):
        file.write_text(json.dumps(machines))
        os.utime(file, ns=(version, version))
        places.refresh()

    write(1, {"machine_id": "p1", "line": "line-1", "area": "hall-a"}, {"machine_id": "p2"})
    assert places.of("p1") == ("line-1", "hall-a")
    assert places.of("p2") == places.of("unknown") == (None, None)
    write(2, {"machine_id": "p1", "line": "line-2"})
    assert places.of("p1") == ("line-2", None)
    file.unlink()
    places.refresh()
    assert places.of("p1") == (None, None)
