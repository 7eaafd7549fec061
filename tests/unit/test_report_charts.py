"""Drawings: nothing that a reader would look for is lost, however many points there are."""

import re
from itertools import pairwise

import numpy as np
import pytest

from flink_jobs.tools import report_charts
from flink_jobs.tools.report_charts import LEFT, PLOT, Axis, envelope, time_ticks, value_ticks

HOUR = 3_600_000


def points(path):
    """The absolute points of a path of M, l, v and h0."""
    x = y = 0.0
    for command, first, second in re.findall(r"([Mlvh])(-?[\d.]+)(?: ?(-?[\d.]+))?", path):
        if command == "M":
            x, y = float(first), float(second)
        elif command == "l":
            x, y = x + float(first), y + float(second)
        elif command == "v":
            y += float(first)
        yield command, x, y


def drawn(ts, values, gap_ms=HOUR):
    """A curve of values from 0 to 10 over the pixels 100 to 0."""
    scale = report_charts._Scale(0.0, 10.0, 0.0, 100.0)
    ts = np.asarray(ts, dtype=np.int64)
    axis = Axis(int(ts.min()), int(ts.max()) + 1)
    return report_charts.curve(axis, ts, np.asarray(values, dtype=float), scale, gap_ms)


def test_every_column_keeps_its_extremes():
    ts = np.arange(100_000)
    values = np.full(100_000, 5.0)
    values[54_321], values[77_777] = 9.5, 0.5
    path = drawn(ts, values)
    heights = [y for _, _, y in points(path)]
    assert (min(heights), max(heights)) == (5.0, 95.0)
    high = next(x for _, x, y in points(path) if y == 5.0)
    assert high == LEFT + 54_321 * PLOT // 100_000


def test_a_million_points_take_no_more_room_than_fit_on_the_screen():
    values = 5 + np.random.default_rng(1).standard_normal(1_000_000).clip(-5, 5)
    assert len(drawn(np.arange(1_000_000), values)) < 20 * PLOT


def test_few_points_are_drawn_where_they_are():
    path = drawn([0, 1000, 2000], [0.0, 10.0, 5.0])
    assert [(x, y) for _, x, y in points(path)] == [
        *[(LEFT, 100.0)] * 2,
        (LEFT + 479, 0.0),
        (LEFT + 959, 50.0),
    ]


def test_the_order_of_arrival_does_not_matter():
    ts, values = np.arange(5_000), np.random.default_rng(1).random(5_000) * 10
    order = np.random.default_rng(2).permutation(5_000)
    assert drawn(ts[order], values[order]) == drawn(ts, values)


def test_a_line_breaks_where_the_machine_was_silent():
    ts = [0, 10_000, 20_000, 200_000, 210_000]
    commands = [command for command, _, _ in points(drawn(ts, [5] * 5, gap_ms=60_000))]
    assert commands == ["M", "h", "l", "l", "M", "h", "l"]


def test_missing_values_are_left_out_and_nothing_at_all_is_no_line():
    assert len(list(points(drawn([0, 1000, 2000], [1.0, np.nan, 1.0])))) == 3
    assert drawn([0, 1000], [np.nan, np.nan]) == ""


def test_the_envelope_agrees_with_counting():
    rng = np.random.default_rng(3)
    ts, values = np.sort(rng.integers(0, 10_000, 4_000)), rng.random(4_000)
    axis = Axis(0, 10_000)
    columns, low, high, begins = envelope(axis, ts, values, HOUR)
    by_hand = {}
    for moment, value in zip(ts.tolist(), values.tolist(), strict=True):
        by_hand.setdefault(moment * PLOT // 10_000, []).append(value)
    assert columns.tolist() == sorted(by_hand)
    assert low.tolist() == [min(by_hand[c]) for c in sorted(by_hand)]
    assert high.tolist() == [max(by_hand[c]) for c in sorted(by_hand)]
    assert begins.tolist() == [True] + [False] * (len(columns) - 1)


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 1), (-3.2, 17.9), (81.31, 84.02), (1e-4, 3e-4), (228, 246.1), (0, 1e6), (5, 5.0001)],
)
def test_value_ticks_are_round_inside_and_few(low, high):
    ticks = value_ticks(low, high)
    assert 2 <= len(ticks) <= 5
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in ticks)
    assert [float(label.replace(",", "")) for _, label in ticks] == pytest.approx(
        [value for value, _ in ticks]
    )
    assert len({label for _, label in ticks}) == len(ticks)


@pytest.mark.parametrize("span", [5_000, 90_000, 2_400_000, HOUR, 26 * HOUR, 900 * HOUR, 10**11])
def test_time_ticks_are_even_and_have_room(span):
    ticks = time_ticks(Axis(1_700_000_123_456, 1_700_000_123_456 + span))
    assert 2 <= len(ticks) <= 12
    steps = [right.at - left.at for left, right in pairwise(ticks)]
    assert max(steps) - min(steps) < 0.3
    assert min(steps) > 70


def test_the_date_stands_where_it_changes():
    ticks = time_ticks(Axis(22 * HOUR, 26 * HOUR))
    told = {tick.label: tick.more for tick in ticks}
    assert told["22:00"] == "1970-01-01"
    assert told["00:00"] == "1970-01-02"
    assert told["23:00"] == ""


def test_bars_stay_inside_and_can_be_seen():
    axis = Axis(0, 1_000_000)
    late = axis.bar(1_000_000, 1_000_000, "")
    assert late.width >= 2
    assert late.x + late.width <= LEFT + PLOT
    assert axis.bar(None, None, "").width == PLOT
