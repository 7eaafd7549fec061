import math
import statistics
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flink_jobs.cleaning import Repairs
from flink_jobs.features import (
    PER_CHANNEL,
    Features,
    feature_names,
    window_features,
    windows_features,
)
from flink_jobs.windows import Windows, pack, unpack

NAN = np.nan
CHANNELS = ("pressure", "flow")
REPAIRED = ("stuck", "outliers", "filled")
EXTRA = (
    "pressure.correlation[flow]",
    "pressure.power[0.05:0.2]",
    "flow.mode[1013:1013.1]",
    "type[pump]",
)
ALL = (*feature_names(CHANNELS, list(PER_CHANNEL)), *EXTRA)


def features_of(rows):
    values = np.array(rows, dtype=float)
    return window_features(np.arange(len(values)) * 1000, values)


def of(windows, names, channels=CHANNELS):
    """Features (B, F) of windows that were not cleaned."""
    return Features(names, channels, "pump").of(windows, Repairs.none(windows))


def one(name, column, ts=None):
    """One feature of one window of the channel x; readings come every second unless ts says."""
    values = np.array(column, dtype=float).reshape(len(column), -1)
    ts = np.arange(len(values)) * 1000 if ts is None else np.array(ts)
    return of(Windows.of_one(ts, values), [name], "xy"[: values.shape[1]])[0, 0]


def scattered(seed, lengths, channels=2, gaps=0.2, scale=0.1, regular=False):
    """Windows of pressure-like channels, readings at odd times, some values missing."""
    random = np.random.default_rng(seed)
    packed = []
    for rows in lengths:
        ts = np.arange(rows) * 1000
        if not regular:
            ts = np.sort(random.choice(np.arange(0, 60_000, 100), rows, replace=False))
        values = random.normal(1013.1, scale, (rows, channels))
        values[random.random(values.shape) < gaps] = NAN
        packed.append(pack(1_700_000_000_000 + ts, values))
    return unpack(packed, channels)[0]


seeds = st.integers(0, 2**32 - 1)
some_lengths = st.lists(st.integers(1, 25), min_size=1, max_size=6)


def parts_of(windows):
    """Seconds and values of the windows one by one."""
    for start, rows in zip(windows.starts, windows.rows, strict=True):
        part = slice(start, start + rows)
        yield (windows.ts[part] - windows.ts[start]) / 1000, windows.values[part]


def by_the_book(name, t, x):
    """A statistic of one channel as its definition reads: plain Python, exactly rounded sums."""
    pairs = [(time, value) for time, value in zip(t, x, strict=True) if not math.isnan(value)]
    n = len(pairs)
    if name == "count":
        return n
    if not n:
        return NAN
    t, x = zip(*pairs, strict=True)
    centre = math.fsum(x) / n
    d = [value - centre for value in x]
    m2 = math.fsum(one * one for one in d) / n
    steps = [(t1 - t0, abs(x1 - x0)) for (t0, x0), (t1, x1) in pairwise(pairs)]
    middle = statistics.median(x)
    since = [time - math.fsum(t) / n for time in t]
    return {
        "mean": lambda: centre,
        "std": lambda: statistics.stdev(x) if n > 1 else NAN,
        "min": lambda: min(x),
        "max": lambda: max(x),
        "median": lambda: middle,
        "mad": lambda: 1.4826 * statistics.median(abs(value - middle) for value in x),
        "rms": lambda: math.sqrt(math.fsum(value * value for value in x) / n),
        "crest": lambda: max(map(abs, d)) / math.sqrt(m2) if n > 1 else NAN,
        "kurtosis": lambda: math.fsum(one**4 for one in d) / n / m2**2 if n > 1 else NAN,
        "slope": lambda: (
            math.fsum(a * b for a, b in zip(since, d, strict=True))
            / math.fsum(a * a for a in since)
            if n > 1
            else NAN
        ),
        "rate": lambda: (
            math.fsum(change for _, change in steps) / math.fsum(s for s, _ in steps)
            if steps
            else NAN
        ),
        "peak_rate": lambda: max((change / s for s, change in steps), default=NAN),
    }[name]()


def test_names_follow_the_order_of_the_features():
    assert feature_names(["a", "b"]) == ("a.mean", "b.mean", "a.std", "b.std", "a.count", "b.count")
    assert feature_names(["a"], ["rms", "slope"]) == ("a.rms", "a.slope")


def test_mean_sample_deviation_and_count_of_each_channel():
    found = features_of([[1, 10], [2, 10], [6, 10]])
    np.testing.assert_allclose(found, [3, 10, np.sqrt(7), 0, 3, 3])


def test_missing_values_are_left_out_channel_by_channel():
    found = features_of([[1, NAN], [NAN, NAN], [3, NAN]])
    np.testing.assert_allclose(found, [2, NAN, np.sqrt(2), NAN, 2, 0])


def test_one_reading_has_a_mean_but_no_deviation():
    np.testing.assert_allclose(features_of([[5.0]]), [5, NAN, 1])


def test_tiny_variations_on_a_large_value_survive():
    found = features_of([[1013.1], [1013.1001], [1013.1002]])
    assert found[1] == pytest.approx(1e-4, rel=1e-6)


def test_windows_in_one_call_equal_windows_one_by_one():
    random = np.random.default_rng(1)
    values = random.normal(1000, 1, (500, 4))
    values[random.random(values.shape) < 0.1] = NAN
    starts = np.array([0, 1, 3, 60, 61, 300])
    parts = np.split(values, starts[1:])
    one_by_one = np.stack([window_features(np.arange(len(part)), part) for part in parts])
    np.testing.assert_array_equal(windows_features(values, starts), one_by_one)


@pytest.mark.parametrize("starts", [[], [1], [0, 2, 2], [0, 5]])
def test_empty_windows_and_uncovered_rows_are_refused(starts):
    with pytest.raises(ValueError, match="at least one reading"):
        windows_features(np.zeros((5, 2)), np.array(starts, dtype=np.intp))


def test_times_and_values_must_belong_together():
    with pytest.raises(ValueError, match="belong together"):
        window_features(np.arange(3), np.zeros((2, 1)))


@pytest.mark.parametrize("name", [name for name in PER_CHANNEL if name not in REPAIRED])
@given(seed=seeds, lengths=some_lengths)
def test_a_statistic_is_what_its_definition_says(name, seed, lengths):
    windows = scattered(seed, lengths)
    found = of(windows, feature_names(CHANNELS, [name]))
    expected = [
        [by_the_book(name, t.tolist(), x.tolist()) for x in values.T]
        for t, values in parts_of(windows)
    ]
    # Values about 1000 that differ by 0.1: of the differences four digits less are left.
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@given(seeds, some_lengths)
def test_the_models_own_three_are_the_same_alone_and_among_others(seed, lengths):
    windows = scattered(seed, lengths)
    own = feature_names(CHANNELS)
    among = of(windows, (*EXTRA, *own))[:, len(EXTRA) :]
    np.testing.assert_array_equal(of(windows, own), among)
    np.testing.assert_array_equal(
        of(windows, own), windows_features(windows.values, windows.starts)
    )


@given(seeds, some_lengths)
def test_a_window_has_the_same_features_in_any_batch(seed, lengths):
    together = scattered(seed, lengths)
    found = of(together, ALL)
    for row, (start, rows) in enumerate(zip(together.starts, together.rows, strict=True)):
        part = slice(start, start + rows)
        alone = Windows.of_one(together.ts[part], together.values[part])
        np.testing.assert_allclose(of(alone, ALL)[0], found[row], rtol=1e-9, atol=1e-12)


@given(seeds, some_lengths)
def test_features_do_not_depend_on_how_the_values_lie_in_memory(seed, lengths):
    windows = scattered(seed, lengths)
    for order in ("C", "F"):
        other = Windows(windows.ts, np.array(windows.values, order=order), windows.starts)
        assert of(other, ALL).tobytes() == of(windows, ALL).tobytes()
        first, again = (windows_features(w.values, w.starts) for w in (windows, other))
        assert first.tobytes() == again.tobytes()


def test_no_windows_have_no_features():
    nothing, _ = unpack([], 2)
    assert of(nothing, ALL).shape == (0, len(ALL))


@given(seeds, some_lengths, st.floats(-500, 500), st.sampled_from([-2.0, 0.5, 1000.0]))
def test_features_move_and_grow_with_the_unit(seed, lengths, offset, factor):
    windows = scattered(seed, lengths, channels=1)
    moved = Windows(windows.ts, (windows.values + offset) * factor, windows.starts)
    before = {name: of(windows, [f"x.{name}"], "x") for name in PER_CHANNEL}
    after = {name: of(moved, [f"x.{name}"], "x") for name in PER_CHANNEL}

    def same(found, expected):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)

    for name in ("mean", "median"):
        same(after[name], (before[name] + offset) * factor)
    low, high = ("min", "max") if factor > 0 else ("max", "min")
    same(after[low], (before["min"] + offset) * factor)
    same(after[high], (before["max"] + offset) * factor)
    same(after["slope"], before["slope"] * factor)
    for name in ("std", "mad", "rate", "peak_rate"):
        same(after[name], before[name] * abs(factor))
    for name in ("count", "crest", "kurtosis"):
        same(after[name], before[name])


@given(seeds, st.floats(-1e4, 1e4))
def test_a_still_channel_has_no_shape_and_nothing_from_rounding(seed, level):
    windows = scattered(seed, [1, 2, 3, 10, 30], gaps=0.0, regular=True)
    still = Windows(
        windows.ts, np.column_stack([np.full(46, level), windows.values[:, 1]]), windows.starts
    )
    shapes = ("pressure.crest", "pressure.kurtosis", "pressure.correlation[flow]")
    assert np.isnan(of(still, shapes)).all()
    zeros = ("pressure.mad", "pressure.rate", "pressure.peak_rate", "pressure.slope")
    assert np.isnan(of(still, zeros)[0, 1:]).all()  # of one reading nothing is known
    assert (of(still, zeros)[1:] == 0).all()
    assert (of(still, ["pressure.power[0.01:0.5]"])[3:] == 0).all()
    # std is the model's own, and takes the mean as it was rounded.
    np.testing.assert_allclose(of(still, ["pressure.std"])[1:], 0, atol=1e-11)
    levels = of(still, feature_names(["pressure"], ["min", "max", "median"]))
    assert (levels == level).all()
    np.testing.assert_allclose(of(still, ["pressure.rms"]), abs(level))


@given(seeds, some_lengths)
def test_a_channel_without_values_has_no_features_and_harms_no_other(seed, lengths):
    windows = scattered(seed, lengths)
    blind = windows.values.copy()
    blind[:, 0] = NAN
    blinded = Windows(windows.ts, blind, windows.starts)
    for name in set(PER_CHANNEL) - {"count", *REPAIRED}:
        found = of(blinded, feature_names(CHANNELS, [name]))
        assert np.isnan(found[:, 0]).all()
        np.testing.assert_array_equal(found[:, 1], of(windows, [f"flow.{name}"])[:, 0])
    assert np.isnan(of(blinded, EXTRA[:2])).all()


@given(seeds, some_lengths)
def test_a_reading_without_values_changes_nothing(seed, lengths):
    """Nor does one reading more where all values are missing: it is no reading of the channel."""
    windows = scattered(seed, lengths)
    assume((windows.rows > 1).all())
    kept = np.ones(len(windows.ts), dtype=bool)
    kept[windows.starts + 1] = False
    holed = windows.values.copy()
    holed[~kept] = NAN
    rows = windows.rows - 1
    fewer = Windows(windows.ts[kept], windows.values[kept], np.cumsum(rows) - rows)
    names = feature_names(CHANNELS, list(PER_CHANNEL))
    np.testing.assert_allclose(
        of(Windows(windows.ts, holed, windows.starts), names),
        of(fewer, names),
        rtol=1e-9,
        atol=1e-9,
    )


def test_the_slope_of_a_line_is_its_slope_whatever_the_times():
    seconds = np.array([0, 1, 1.5, 7, 20, 21])
    line = 1013.1 - 0.25 * seconds
    assert one("x.slope", line, seconds * 1000) == pytest.approx(-0.25, rel=1e-12)
    assert one("x.rate", line, seconds * 1000) == pytest.approx(0.25, rel=1e-9)
    assert one("x.peak_rate", line, seconds * 1000) == pytest.approx(0.25, rel=1e-9)


def test_shapes_have_the_values_of_the_text_books():
    wave = np.sin(2 * np.pi * np.arange(1000) / 100)
    assert one("x.rms", wave) == pytest.approx(math.sqrt(0.5))
    assert one("x.crest", wave + 40) == pytest.approx(math.sqrt(2))
    assert one("x.kurtosis", wave + 40) == pytest.approx(1.5)
    assert one("x.mad", np.random.default_rng(0).normal(5, 2, 50_000)) == pytest.approx(2, rel=0.02)


@given(seeds, st.integers(2, 40))
def test_correlation_is_pearsons_over_readings_that_have_both(seed, rows):
    windows = scattered(seed, [rows])
    both = np.isfinite(windows.values).all(axis=1)
    assume(both.sum() > 1)
    [[found]] = of(windows, ["pressure.correlation[flow]"])
    expected = np.corrcoef(windows.values[both].T)[0, 1]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    [[swapped]] = of(windows, ["flow.correlation[pressure]"])
    assert swapped == pytest.approx(found, rel=1e-12, abs=1e-15)


def test_channels_that_move_together_or_against_each_other_correlate_fully():
    x = np.random.default_rng(0).normal(1013.1, 1, 30)
    assert one("x.correlation[y]", np.column_stack([x, 3 * x + 1])) == pytest.approx(1)
    assert one("x.correlation[y]", np.column_stack([x, -x])) == pytest.approx(-1)
    assert math.isnan(one("x.correlation[y]", [[1, 2]]))


@given(seeds, st.integers(8, 40))
def test_all_bands_together_are_the_variance(seed, rows):
    windows = scattered(seed, [rows], gaps=0.0, regular=True)
    bands = ["pressure.power[0:0.1]", "pressure.power[0.1:0.3]", "pressure.power[0.3:0.5]"]
    swing = of(windows, bands)[0]
    assume(np.isfinite(swing).all())
    # What swings at exactly half the rate lies in no band.
    last = np.fft.rfft(windows.values[:, 0] - windows.values[:, 0].mean())[-1] / rows
    rest = np.abs(last) ** 2 if rows % 2 == 0 else 0
    assert swing.sum() + rest == pytest.approx(windows.values[:, 0].var(), rel=1e-9)


def test_a_swing_shows_in_its_band_with_half_its_squared_amplitude():
    seconds = np.arange(40) / 2
    wave = 1013.1 + 3 * np.sin(2 * np.pi * 0.25 * seconds)
    assert one("x.power[0.2:0.3]", wave, seconds * 1000) == pytest.approx(4.5)
    assert one("x.power[0.3:1]", wave, seconds * 1000) == pytest.approx(0, abs=1e-9)


def test_a_spectrum_needs_regular_sampling_and_a_band_that_it_can_tell():
    wave, ts = np.sin(np.arange(20)), np.arange(20) * 1000
    band = "x.power[0.1:0.5]"
    assert one(band, wave, ts) > 0
    jittered = ts + np.where(np.arange(20) % 2, 40, 0)
    assert one(band, wave, jittered) == pytest.approx(one(band, wave, ts), rel=0.05)
    lost = np.delete(np.arange(20), 7)
    holed = np.where(np.arange(20) == 7, NAN, wave)
    for unable in (
        one(band, wave[lost], ts[lost]),  # a reading that did not come
        one(band, holed, ts),  # one without a value
        one(band, wave[:7], ts[:7]),  # too few
        one("x.power[0.1:0.56]", wave, ts),  # faster than half the rate
        one("x.power[0.01:0.04]", wave, ts),  # slower than the window is long
    ):
        assert math.isnan(unable)


def test_a_mode_is_the_share_of_values_in_a_range():
    speed = [0, 0, 900, 1500, NAN]
    shares = [one(f"x.mode[{text}]", speed) for text in ("-1:1", "1:1500", "1500:inf")]
    assert shares == [0.5, 0.25, 0.25]


def test_a_machine_type_is_one_of_its_names():
    windows = scattered(0, [3, 4])
    names = ["type[pump]", "type[fan]"]
    assert of(windows, names).tolist() == [[1, 0], [1, 0]]


def test_repairs_are_features():
    windows = scattered(0, [3, 4])
    repairs = Repairs(*(np.full((2, 2), number) for number in (1, 2, 3)))
    found = Features(feature_names(["flow"], REPAIRED), CHANNELS, "pump").of(windows, repairs)
    assert found.tolist() == [[1, 2, 3], [1, 2, 3]]


@pytest.mark.parametrize(
    "name",
    [
        "pressure",
        "pressure.",
        "heat.mean",
        "pressure.mode",
        "pressure.mean[1]",
        "pressure.correlation[heat]",
        "pressure.correlation",
        "mean[pressure]",
        "type",
        "pressure.median ",
    ],
)
def test_an_unknown_feature_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"no feature '{name}'".replace("[", r"\[")):
        Features([name], CHANNELS, "pump")


@pytest.mark.parametrize("text", ["1", "2:1", "1:1", "a:b", "1:", "nan:1"])
def test_a_range_needs_a_lower_and_an_upper_end(text):
    with pytest.raises(ValueError, match="needs a range"):
        Features([f"flow.mode[{text}]"], CHANNELS, "pump")
