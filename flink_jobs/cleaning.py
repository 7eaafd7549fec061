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

from flink_jobs.windows import Windows

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
    if not len(windows.starts) or all(one == Rules() for one in rules):
        return windows, repairs
    values = windows.values.copy()

    def note(counts: NDArray[np.int64], place: int, where: NDArray[np.bool_]) -> None:
        counts[:, place] = np.add.reduceat(where.astype(np.int64), windows.starts)

    for place, rule in enumerate(rules):
        column = values[:, place].copy()  # faster than a view: a column lies scattered in memory
        if rule.stuck_after_s is not None:
            stuck = _stuck(windows, column, rule.stuck_after_s)
            column[stuck] = np.nan
            note(repairs.stuck, place, stuck)
        if rule.outliers is not None:
            outliers = _outliers(windows, column, scales[:, place], rule.outliers)
            column[outliers] = np.nan
            note(repairs.outliers, place, outliers)
        missing = np.isnan(column)
        if rule.gap_max_s is not None and missing.any():
            column = _filled(windows, column, rule.gap, rule.gap_max_s)
            note(repairs.filled, place, missing & ~np.isnan(column))
        values[:, place] = column
    return replace(windows, values=values), repairs


def _stuck(windows: Windows, column: NDArray[np.float64], after_s: float) -> NDArray[np.bool_]:
    """Which readings (n,) belong to a run of one value that lasts long enough."""
    known = np.flatnonzero(~np.isnan(column))
    value, window = column[known], windows.first_row[known]
    begins = np.ones(len(known), dtype=np.bool_)
    begins[1:] = (value[1:] != value[:-1]) | (window[1:] != window[:-1])
    stuck = np.zeros(len(column), dtype=np.bool_)
    if begins.all():  # as of most channels: no value comes twice
        return stuck
    first = np.flatnonzero(begins)
    length = np.diff(first, append=len(known))
    lasted_ms = windows.ts[known[first + length - 1]] - windows.ts[known[first]]
    stuck[known] = np.repeat(lasted_ms >= 1000 * after_s, length)
    return stuck


def _outliers(
    windows: Windows, column: NDArray[np.float64], floor: NDArray[np.float64], limit: float
) -> NDArray[np.bool_]:
    """Which readings (n,) lie too far from the median of their neighbourhood; floor (B,)."""
    # Most windows hold none, which shows at once: nothing lies further from anything than this.
    spread = np.fmax.reduceat(column, windows.starts) - np.fmin.reduceat(column, windows.starts)
    calm = np.repeat(spread <= limit * floor, windows.rows)
    known = np.flatnonzero(~np.isnan(column) & ~calm)
    value, window = column[known], windows.first_row[known]
    steps = np.arange(-_NEIGHBOURS, _NEIGHBOURS + 1)
    row = np.arange(len(known))[:, None] + steps
    inside = np.clip(row, 0, len(known) - 1)
    same = (row == inside) & (window[inside] == window[:, None])
    near = np.where(same, value[inside], np.nan)
    count = same.sum(axis=1)
    middle = _median(near, count)
    deviation = _median(np.abs(near - middle[:, None]), count)
    scale = np.fmax(MAD_TO_STD * deviation, np.repeat(floor, windows.rows)[known])
    outliers = np.zeros(len(column), dtype=np.bool_)
    outliers[known] = (
        (count >= _MIN_NEIGHBOURHOOD) & (scale > 0) & (np.abs(value - middle) > limit * scale)
    )
    return outliers


def _median(table: NDArray[np.float64], count: NDArray[np.intp]) -> NDArray[np.float64]:
    """The medians (m,) of the `count` values in each row that are not NaN."""
    ordered = np.sort(table, axis=1)  # NaN goes last
    row = np.arange(len(table))
    return (ordered[row, (count - 1) // 2] + ordered[row, count // 2]) / 2


def _filled(
    windows: Windows, column: NDArray[np.float64], gap: str, max_s: float
) -> NDArray[np.float64]:
    """The channel (n,) with what its gap policy puts in the place of missing values."""
    known = ~np.isnan(column)
    before = windows.known_before(known[:, None])[:, 0]
    if gap == "hold":
        age_ms = windows.ts - windows.ts[before]
        usable = ~known & (before >= 0) & (age_ms <= 1000 * max_s)
        return np.where(usable, column[before], column)
    after = windows.known_after(known[:, None])[:, 0]
    span_ms = windows.ts[after] - windows.ts[before]
    usable = ~known & (before >= 0) & (after >= 0) & (span_ms <= 1000 * max_s)
    part = (windows.ts - windows.ts[before])[usable] / span_ms[usable]
    low, high = column[before[usable]], column[after[usable]]
    filled = column.copy()
    filled[usable] = low + part * (high - low)
    return filled
