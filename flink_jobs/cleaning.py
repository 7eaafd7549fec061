"""Cleaning of readings as the plant model declares it per channel: stuck sensors, outliers, gaps.

In this order, each step on what the one before has left. A value that is no measurement becomes a
missing one; what the gap policy then puts in its place is counted as filled. Nothing outside the
window and the machine's own reference is used, so a recording and the stream give the same.

- Stuck: a value that a channel shows from one reading to another at least `stuck_after_s` later,
  and at all readings between, is removed from all of them.
- Outliers: a value is removed if it lies further than `outliers` scales from the median of itself
  and its neighbours, up to three known readings to each side. The scale is 1.4826 times the median
  absolute deviation of the same readings, but at least the channel's scale in the machine's
  reference. It is the filter of F. R. Hampel (The influence curve and its role in robust
  estimation, J. Am. Stat. Assoc. 69, 1974) in the moving form of R. K. Pearson et al. (Generalized
  Hampel filters, EURASIP J. Adv. Signal Process. 2016:87), with a floor where the deviation of a
  few readings is small by chance or by quantisation. A change that stays passes: it is the
  machine's, and for the model to judge.
- Gaps: a missing value becomes the last known one for up to `gap_max_s` (`hold`), or lies on a line
  between known ones at most `gap_max_s` apart (`interpolate`). Readings are never invented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flink_jobs.windows import Windows, rows_of

# Makes the median absolute deviation of normal scatter its standard deviation.
MAD_TO_STD = 1.4826

# Neighbours to each side that an outlier is told by: spikes of up to as many readings are found.
_NEIGHBOURS = 3
# Fewer readings than this do not tell which of them is the outlier.
_MIN_NEIGHBOURHOOD = 3


@dataclass(frozen=True)
class Rules:
    """What is repaired in one channel: the keys of the plant model, None or "missing" for no."""

    stuck_after_s: float | None = None
    outliers: float | None = None
    gap: str = "missing"
    gap_max_s: float | None = None

    @classmethod
    def of(cls, channel: Mapping[str, Any]) -> Rules:
        """Those of a channel of the plant model or the job configuration, as a mapping."""
        return cls(**{one.name: channel[one.name] for one in fields(cls) if one.name in channel})


@dataclass(frozen=True, eq=False)
class Repairs:
    """How many values of each window and channel were removed or put in, each int64 (B, C).

    A value that was removed and filled counts in both.
    """

    stuck: NDArray[np.int64]
    outliers: NDArray[np.int64]
    filled: NDArray[np.int64]

    @classmethod
    def none(cls, windows: Windows) -> Repairs:
        shape = (len(windows.starts), windows.values.shape[1])
        return cls(*(np.zeros(shape, dtype=np.int64) for _ in fields(cls)))


def clean(
    windows: Windows, rules: Sequence[Rules], scales: NDArray[np.float64]
) -> tuple[Windows, Repairs]:
    """The windows as the rules of the C channels say, and what was repaired.

    scales (B, C): each channel's scale in the machine's reference, NaN where it has none.
    """
    repairs = Repairs.none(windows)
    if not len(windows.starts):
        return windows, repairs
    columns = np.ascontiguousarray(windows.values.T)
    # Nearly all channels of nearly all windows hold nothing to repair, which shows at once.
    asked = _asked(windows, columns, rules, scales.T)
    channel, window = np.nonzero(asked)
    if not len(channel):
        return windows, repairs
    lengths = windows.rows[window]
    rows, starts = rows_of(windows.starts[window], lengths)
    place = np.repeat(channel, lengths), rows
    column = columns[place]
    some = Windows(windows.ts[rows], column[:, None], starts)
    # What is not declared is NaN, with which no comparison is true.
    declared = [(one.stuck_after_s, one.outliers, one.gap_max_s) for one in rules]
    stuck_after_s, limit, gap_max_s = np.array(declared, dtype=np.float64)[channel].T
    holds = np.array([one.gap == "hold" for one in rules])[channel]

    stuck = _stuck(some, column, stuck_after_s)
    column[stuck] = np.nan
    outliers = _outliers(some, column, scales[window, channel], limit)
    column[outliers] = np.nan
    missing = np.isnan(column)
    if missing.any():
        column = _filled(some, column, holds, gap_max_s)
    filled = missing & ~np.isnan(column)
    if not (stuck | outliers | filled).any():
        return windows, repairs
    for counts, where in (
        (repairs.stuck, stuck),
        (repairs.outliers, outliers),
        (repairs.filled, filled),
    ):
        counts[window, channel] = np.add.reduceat(where.astype(np.int64), starts)
    columns = columns.copy()
    columns[place] = column
    return replace(windows, values=columns.T), repairs


def _asked(
    windows: Windows,
    columns: NDArray[np.float64],
    rules: Sequence[Rules],
    floors: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """In which channels of which windows there may be something to repair, (C, B).

    columns (C, n), floors (C, B).
    """
    starts = windows.starts
    asked = np.zeros(floors.shape, dtype=np.bool_)
    for channel, (column, rule, floor) in enumerate(zip(columns, rules, floors, strict=True)):
        if rule == Rules():
            continue
        readings = np.isnan(column)
        if rule.stuck_after_s is not None:
            same = column[1:] == column[:-1]
            same[starts[1:] - 1] = False
            first, last, _ = _runs(same)
            lasted_ms = windows.ts[last] - windows.ts[first]
            readings[first] = lasted_ms >= 1000 * rule.stuck_after_s
        asked[channel] = np.logical_or.reduceat(readings, starts)
        if rule.outliers is not None:
            asked[channel] |= ~_calm(column, starts, rule.outliers * floor)
    return asked


def _calm(
    column: NDArray[np.float64], starts: NDArray[np.intp], reach: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """In which windows (B,) no value lies further than `reach` (B,) from any other."""
    spread = np.fmax.reduceat(column, starts) - np.fmin.reduceat(column, starts)
    calm: NDArray[np.bool_] = spread <= reach
    return calm


def _stuck(
    windows: Windows, column: NDArray[np.float64], after_s: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which readings (n,) belong to a run of one value that lasts long enough; after_s (B,)."""
    known = np.flatnonzero(~np.isnan(column))
    value, window = column[known], np.repeat(np.arange(len(after_s)), windows.rows)[known]
    first, last, length = _runs((value[1:] == value[:-1]) & (window[1:] == window[:-1]))
    lasted_ms = windows.ts[known[last]] - windows.ts[known[first]]
    is_stuck = lasted_ms >= 1000 * after_s[window[first]]
    place, _ = rows_of(first[is_stuck], length[is_stuck])
    stuck = np.zeros(len(column), dtype=np.bool_)
    stuck[known[place]] = True
    return stuck


def _runs(
    same: NDArray[np.bool_],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Where runs of two and more equal values begin and end, and how many values each has.

    same (n - 1,): whether each value but the first is that of the one before it.
    """
    again = 1 + np.flatnonzero(same)
    begins = np.flatnonzero(np.diff(again, prepend=-1) != 1)
    length = 1 + np.diff(begins, append=len(again))
    first = again[begins] - 1
    return first, first + length - 1, length


def _outliers(
    windows: Windows,
    column: NDArray[np.float64],
    floor: NDArray[np.float64],
    limit: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Which readings (n,) lie too far from their neighbourhood's median; floor and limit (B,)."""
    outliers = np.zeros(len(column), dtype=np.bool_)
    calm = _calm(column, windows.starts, limit * floor)
    if calm.all():
        return outliers
    window = np.repeat(np.arange(len(calm)), windows.rows)
    known = np.flatnonzero(~np.isnan(column) & ~calm[window])
    value, window = column[known], window[known]
    steps = np.arange(-_NEIGHBOURS, _NEIGHBOURS + 1)
    row = np.arange(len(known))[:, None] + steps
    inside = np.clip(row, 0, len(known) - 1)
    same = (row == inside) & (window[inside] == window[:, None])
    near = np.where(same, value[inside], np.nan)
    count = same.sum(axis=1)
    middle = _median(near, count)
    deviation = _median(np.abs(near - middle[:, None]), count)
    scale = np.fmax(MAD_TO_STD * deviation, floor[window])
    far = np.abs(value - middle) > limit[window] * scale
    outliers[known] = (count >= _MIN_NEIGHBOURHOOD) & (scale > 0) & far
    return outliers


def _median(table: NDArray[np.float64], count: NDArray[np.intp]) -> NDArray[np.float64]:
    """The medians (m,) of the `count` values in each row that are not NaN."""
    ordered = np.sort(table, axis=1)  # NaN goes last
    row = np.arange(len(table))
    return (ordered[row, (count - 1) // 2] + ordered[row, count // 2]) / 2


def _filled(
    windows: Windows,
    column: NDArray[np.float64],
    holds: NDArray[np.bool_],
    max_s: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The readings (n,) with what the gap policy puts in the place of missing ones.

    holds (B,): the last known value, not one on a line; max_s (B,).
    """
    known = ~np.isnan(column)
    before = windows.known_before(known[:, None])[:, 0]
    after = windows.known_after(known[:, None])[:, 0]
    holds, max_ms = np.repeat(holds, windows.rows), np.repeat(1000 * max_s, windows.rows)
    age_ms = windows.ts - windows.ts[before]
    span_ms = windows.ts[after] - windows.ts[before]
    held = ~known & (before >= 0) & holds & (age_ms <= max_ms)
    drawn = ~known & (before >= 0) & ~holds & (after >= 0) & (span_ms <= max_ms)
    filled = column.copy()
    filled[held] = column[before[held]]
    low, high = column[before[drawn]], column[after[drawn]]
    filled[drawn] = low + age_ms[drawn] / span_ms[drawn] * (high - low)
    return filled
