import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flink_jobs.cleaning import Rules, clean
from flink_jobs.windows import Windows, pack, unpack

NAN = np.nan


def repaired(column, rules, ts=None, scale=NAN):
    """One window of one channel, a reading a second: its values after cleaning, and the counts."""
    values = np.array(column, dtype=float)[:, None]
    ts = np.arange(len(values)) * 1000 if ts is None else np.array(ts) * 1000
    window = Windows.of_one(ts, values)
    cleaned, repairs = clean(window, [rules], np.array([[scale]]))
    assert cleaned.ts is window.ts
    counts = (repairs.stuck, repairs.outliers, repairs.filled)
    return cleaned.values[:, 0].tolist(), tuple(int(count[0, 0]) for count in counts)


def same(found, expected):
    np.testing.assert_array_equal(found, np.array(expected, dtype=float))


def test_rules_are_the_keys_of_the_plant_model():
    about = {"name": "flow", "unit": "l/min", "gap": "hold", "gap_max_s": 5, "outliers": None}
    assert Rules.of(about) == Rules(gap="hold", gap_max_s=5)


def test_without_rules_nothing_is_touched():
    windows = Windows.of_one(np.arange(5), np.array([[1.0], [1e9], [NAN], [1.0], [1.0]]))
    cleaned, repairs = clean(windows, [Rules()], np.ones((1, 1)))
    assert cleaned is windows
    assert repairs.stuck.tolist() == repairs.outliers.tolist() == repairs.filled.tolist() == [[0]]


def test_a_sensor_is_stuck_after_the_declared_time_at_exactly_one_value():
    column = [1, 2, 2, 2, 2, 3, 3, 3]
    same(repaired(column, Rules(stuck_after_s=3))[0], [1, NAN, NAN, NAN, NAN, 3, 3, 3])
    assert repaired(column, Rules(stuck_after_s=3))[1] == (4, 0, 0)
    assert repaired(column, Rules(stuck_after_s=3.5))[1] == (0, 0, 0)
    nearly = [1, 2, 2, np.nextafter(2, 3), 2, 2, 3]
    assert repaired(nearly, Rules(stuck_after_s=3))[1] == (0, 0, 0)


def test_a_missing_value_does_not_free_a_stuck_sensor():
    same(repaired([2, NAN, 2, NAN, 2, 5], Rules(stuck_after_s=4))[0], [NAN] * 5 + [5])
    assert repaired([NAN] * 9, Rules(stuck_after_s=4))[1] == (0, 0, 0)


def test_time_counts_and_not_the_number_of_readings():
    assert repaired([2, 2, 9], Rules(stuck_after_s=60), ts=[0, 60, 61])[1] == (2, 0, 0)


def test_a_spike_is_an_outlier_and_a_step_is_none():
    calm = np.random.default_rng(1).normal(50, 0.1, 30)
    spike, step = calm.copy(), calm.copy()
    spike[12:14] += 5
    step[12:] += 5
    found, counts = repaired(spike, Rules(outliers=6), scale=0.1)
    assert counts == (0, 2, 0)
    assert np.flatnonzero(np.isnan(found)).tolist() == [12, 13]
    assert repaired(step, Rules(outliers=6), scale=0.1)[1] == (0, 0, 0)


@pytest.mark.parametrize("place", [0, 29])
def test_a_spike_at_the_edge_of_a_window_is_found(place):
    column = np.random.default_rng(1).normal(50, 0.1, 30)
    column[place] += 5
    assert repaired(column, Rules(outliers=6), scale=0.1)[1] == (0, 1, 0)


def test_normal_scatter_has_hardly_an_outlier():
    column = np.random.default_rng(2).normal(50, 0.1, 20_000)
    assert repaired(column, Rules(outliers=5), scale=0.1)[1][1] < 5


def test_quantised_readings_are_measured_by_the_machines_own_scale():
    column = [20.0] * 10 + [20.1] + [20.0] * 10
    assert repaired(column, Rules(outliers=5), scale=0.05)[1] == (0, 0, 0)
    assert repaired(column, Rules(outliers=5), scale=0.01)[1] == (0, 1, 0)
    # Neither the neighbours nor a reference: nothing to measure by.
    assert repaired(column, Rules(outliers=5))[1] == (0, 0, 0)


def test_two_readings_do_not_tell_which_is_the_outlier():
    assert repaired([1, 1000], Rules(outliers=3), scale=0.1)[1] == (0, 0, 0)


def test_the_last_value_is_held_for_as_long_as_declared():
    rules = Rules(gap="hold", gap_max_s=2)
    found, counts = repaired([NAN, 1, NAN, NAN, NAN, 5], rules)
    same(found, [NAN, 1, 1, 1, NAN, 5])
    assert counts == (0, 0, 2)


def test_a_line_is_drawn_between_neighbours_that_are_near_enough():
    rules = Rules(gap="interpolate", gap_max_s=4)
    found, counts = repaired(
        [NAN, 1, NAN, NAN, 7, NAN, 9, NAN], rules, ts=[0, 1, 2, 4, 5, 6, 10, 11]
    )
    same(found, [NAN, 1, 2.5, 5.5, 7, NAN, 9, NAN])
    assert counts == (0, 0, 2)


def test_what_was_removed_is_a_gap_like_any_other_and_counts_as_both():
    column = [1.0, 1.1, 0.9, 90, 1.0, 0.9, 1.1, 1.0]
    rules = Rules(outliers=6, gap="interpolate", gap_max_s=2)
    found, counts = repaired(column, rules, scale=0.1)
    assert counts == (0, 1, 1)
    assert found[3] == pytest.approx(0.95)
    stuck = Rules(stuck_after_s=2, gap="hold", gap_max_s=1)
    same(repaired([5, 7, 7, 7], stuck)[0], [5, 5, NAN, NAN])
    assert repaired([5, 7, 7, 7], stuck)[1] == (3, 0, 1)


def test_every_channel_has_its_own_rules():
    values = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, NAN]])
    rules = [Rules(stuck_after_s=2), Rules(gap="hold", gap_max_s=9)]
    cleaned, repairs = clean(Windows.of_one(np.arange(3) * 1000, values), rules, np.ones((1, 2)))
    same(cleaned.values, [[NAN, 1], [NAN, 1], [NAN, 1]])
    assert repairs.stuck.tolist() == [[3, 0]]
    assert repairs.filled.tolist() == [[0, 1]]
    assert np.isnan(values[2, 1])  # what was handed in is as it was


ALL = [
    Rules(stuck_after_s=2, outliers=3, gap="interpolate", gap_max_s=3),
    Rules(outliers=4, gap="hold", gap_max_s=2),
    Rules(),
]


def rough_windows(seed, lengths):
    """Windows of three channels with all that cleaning is for, and the scales of their machines."""
    random = np.random.default_rng(seed)
    packed = []
    for rows in lengths:
        values = np.round(random.normal(5, 1, (rows, 3)), random.integers(0, 3))
        values[random.random(values.shape) < 0.1] *= 100
        values[random.random(values.shape) < 0.2] = NAN
        packed.append(pack(np.sort(random.choice(60, rows, replace=False)) * 500, values))
    scales = random.choice([0.0, 0.3, NAN], (len(lengths), 3))
    return packed, scales


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_windows_in_one_call_are_cleaned_as_one_by_one(seed, lengths):
    packed, scales = rough_windows(seed, lengths)
    together, repairs = clean(unpack(packed, 3)[0], ALL, scales)
    for row, one in enumerate(packed):
        alone, own = clean(unpack([one], 3)[0], ALL, scales[[row]])
        part = slice(together.starts[row], together.starts[row] + lengths[row])
        np.testing.assert_array_equal(together.values[part], alone.values)
        assert repairs.stuck[row].tolist() == own.stuck[0].tolist()
        assert repairs.outliers[row].tolist() == own.outliers[0].tolist()
        assert repairs.filled[row].tolist() == own.filled[0].tolist()


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_every_change_is_counted_and_no_other_value_is_touched(seed, rows):
    [packed], scales = rough_windows(seed, [rows])
    before, _ = unpack([packed], 3)
    after, repairs = clean(before, ALL, scales)
    removed = (repairs.stuck + repairs.outliers)[0]
    missing = np.isnan(before.values).sum(axis=0) + removed - repairs.filled[0]
    assert np.isnan(after.values).sum(axis=0).tolist() == missing.tolist()
    touched = (after.values != before.values) & ~(np.isnan(after.values) & np.isnan(before.values))
    assert (touched.sum(axis=0) <= removed + repairs.filled[0]).all()
    lowest, highest = np.nanmin(before.values, initial=9), np.nanmax(before.values, initial=-9)
    known = after.values[~np.isnan(after.values)]
    assert ((known >= lowest) & (known <= highest)).all()


@given(st.integers(0, 2**32 - 1), st.floats(-1000, 1000), st.sampled_from([0.125, 1.0, 1024.0]))
def test_the_same_is_repaired_in_any_unit(seed, offset, factor):
    # Rounded, so that the offset is exact: values are to be equal before and after or not at all.
    offset = round(offset)
    random = np.random.default_rng(seed)
    values = np.round(random.normal(5, 1, (40, 3)) * 64) / 64
    values[random.random(values.shape) < 0.1] += 100
    ts = np.arange(40) * 1000
    plain, repairs = clean(Windows.of_one(ts, values), ALL, np.ones((1, 3)))
    moved = Windows.of_one(ts, (values + offset) * factor)
    found, others = clean(moved, ALL, np.full((1, 3), factor))
    np.testing.assert_allclose(
        found.values, (plain.values + offset) * factor, rtol=1e-12, atol=1e-9
    )
    assert repairs.outliers.tolist() == others.outliers.tolist()
    assert repairs.filled.tolist() == others.filled.tolist()
