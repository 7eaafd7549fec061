import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flink_jobs.windows import Windows, cut, distinct, pack, unpack

NAN = np.nan


def recording(seed, rows, channels=2, gaps=0.2):
    """Readings at random times, some values missing."""
    random = np.random.default_rng(seed)
    ts = np.sort(random.choice(np.arange(0, 200_000, 250), rows, replace=False))
    values = random.normal(1013.1, 0.1, (rows, channels))
    values[random.random(values.shape) < gaps] = NAN
    return ts, values


def batch(seed, lengths, channels=2, gaps=0.2):
    """Windows of these lengths, and their readings one by one."""
    parts = [recording(seed + k, rows, channels, gaps) for k, rows in enumerate(lengths)]
    windows, _ = unpack([pack(*part) for part in parts], channels)
    return windows, parts


lengths = st.lists(st.integers(1, 12), min_size=1, max_size=6)
seeds = st.integers(0, 2**32 - 1)


def test_the_layout_is_that_of_the_contract_with_java():
    packed = pack(np.array([2000, 1000]), np.array([[1.5, NAN], [-2.0, 7.0]]))
    assert packed == struct.pack("<3i2q4d", 1, 2, 0, 1000, 2000, -2.0, 1.5, 7.0, NAN)


@given(seeds, lengths, st.integers(1, 4))
def test_what_was_packed_comes_out_bit_by_bit(seed, rows, channels):
    windows, parts = batch(seed, rows, channels)
    np.testing.assert_array_equal(windows.ts, np.concatenate([ts for ts, _ in parts]))
    expected = np.concatenate([values for _, values in parts])
    assert windows.values.tobytes() == expected.tobytes()
    assert windows.rows.tolist() == rows
    np.testing.assert_array_equal(windows.first_row, np.repeat(windows.starts, rows))


@given(seeds, st.integers(1, 30))
def test_bytes_do_not_depend_on_the_order_of_arrival_also_of_duplicates(seed, rows):
    random = np.random.default_rng(seed)
    ts = random.integers(0, 10, rows) * 1000
    values = random.choice([0.0, -0.0, 1.0, -1.0, NAN], (rows, 3))
    order = random.permutation(rows)
    assert pack(ts, values) == pack(ts[order], values[order])
    windows, duplicates = unpack([pack(ts, values)], 3)
    assert windows.ts.tolist() == sorted(set(ts.tolist()))
    assert duplicates.tolist() == [rows - len(windows.ts)]


def test_of_readings_at_one_time_the_one_with_the_smallest_bytes_is_kept():
    ts = np.full(4, 1000)
    values = np.array([[2.0, 0.5], [NAN, 0.1], [1.0, 3.0], [1.0, 2.0]])
    least = min(values.tolist(), key=lambda row: struct.pack("<2d", *row))
    # Bytes are not numbers: those of a double begin with its least.
    assert distinct(ts, values)[1].tolist() == [least] == [[2.0, 0.5]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda packed: b"", "window 1 .* no header with numbers behind it: 0"),
        (lambda packed: packed[:8], "no header with numbers behind it: 8"),
        (lambda packed: packed[:-1], "no header with numbers behind it: 91"),
        (lambda packed: packed[:-8], "has not the length of its readings with 4 channels: 84"),
        (lambda packed: packed + bytes(8), "has not the length"),
        (lambda packed: struct.pack("<3i", 1, 0, 0), "has not the length"),
        (lambda packed: struct.pack("<3i", 1, -1, 0) + packed[12:], "has not the length"),
        (lambda packed: struct.pack("<3i", 1, 2**31 - 1, 0) + packed[12:], "has not the length"),
        (lambda packed: struct.pack("<i", 2) + packed[4:], "window 1 .* is not of version 1: 2"),
    ],
)
def test_what_is_no_packed_window_is_refused(change, message):
    packed = pack(*recording(0, 2, channels=4))
    with pytest.raises(ValueError, match=message):
        unpack([packed, change(packed), packed], 4)


def test_no_windows_are_no_readings():
    windows, duplicates = unpack([], 3)
    assert windows.values.shape == (0, 3)
    assert (len(windows.ts), len(windows.starts), len(duplicates)) == (0, 0, 0)


@given(seeds, lengths)
def test_known_neighbours_are_those_of_the_same_window_and_channel(seed, rows):
    windows, parts = batch(seed, rows, gaps=0.5)
    known = np.isfinite(windows.values)
    before, after = windows.known_before(known), windows.known_after(known)
    for start, (_, values) in zip(windows.starts, parts, strict=True):
        for row, channel in np.ndindex(values.shape):
            there = np.flatnonzero(np.isfinite(values[:, channel]))
            earlier, later = there[there < row], there[there > row]
            assert before[start + row, channel] == (start + earlier[-1] if len(earlier) else -1)
            assert after[start + row, channel] == (start + later[0] if len(later) else -1)


@given(seeds, lengths)
def test_medians_are_those_of_the_known_values(seed, rows):
    windows, parts = batch(seed, rows, gaps=0.4)
    for found, (_, values) in zip(windows.medians(windows.values), parts, strict=True):
        for channel, median in enumerate(found):
            known = values[np.isfinite(values[:, channel]), channel]
            expected = np.median(known) if len(known) else NAN
            np.testing.assert_allclose(median, expected, rtol=1e-15)


@given(seeds, st.integers(1, 60), st.sampled_from([(30, 10), (10, 10), (5, 1)]), st.booleans())
def test_a_recording_is_cut_at_multiples_of_the_slide(seed, rows, lengths, partial):
    ts, values = recording(seed, rows)
    ends, windows = cut(ts, values, *lengths, partial)
    length, slide = lengths[0] * 1000, lengths[1] * 1000
    whole = [
        end
        for end in range(0, 400_000, slide)
        if ((ts >= end - length) & (ts < end)).any()
        and (partial or (end - length >= ts[0] and end <= ts[-1] + 1))
    ]
    assert ends.tolist() == whole
    for end, start, count in zip(ends, windows.starts, windows.rows, strict=True):
        inside = (ts >= end - length) & (ts < end)
        np.testing.assert_array_equal(windows.ts[start : start + count], ts[inside])
        np.testing.assert_array_equal(windows.values[start : start + count], values[inside])


def test_one_window_may_hold_everything():
    ts, values = recording(0, 5)
    assert Windows.of_one(ts, values).rows.tolist() == [5]
