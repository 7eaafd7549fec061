"""What a model sees of a window: mean, spread and count of each channel.

A window is n readings of C channels: ts int64 (n,) epoch ms, values float64 (n, C), rows sorted by
time, NaN where a channel has no value. Its features are float64 (3 C,) in the order of
`feature_names`, in the channels' units. Windows may hold any number of readings: how sure a mean is
follows from its count, so no sampling rate is assumed.

Sums run over deviations from the mean (two passes): E[x²] - E[x]² loses channels such as pressure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STATISTICS = ("mean", "std", "count")


def feature_names(channels: Sequence[str]) -> tuple[str, ...]:
    """Names of the features in their order: all means, all standard deviations, all counts."""
    return tuple(f"{channel}.{statistic}" for statistic in STATISTICS for channel in channels)


def window_features(ts: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features (3 C,) of one window; ts (n,), values (n, C), n ≥ 1.

    The mean of a channel without values is NaN, so is the standard deviation of fewer than two.
    Raises ValueError for an empty window or shapes that do not belong together.
    """
    if values.ndim != 2 or ts.shape != values.shape[:1]:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"times {ts.shape} and values {values.shape} do not belong together")
    return windows_features(values, np.zeros(1, dtype=np.intp)).ravel()


def windows_features(values: NDArray[np.float64], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Features (B, 3 C) of B windows that lie one after another in values (n, C).

    starts (B,) are the first rows of the windows, rising; a window ends where the next one starts.
    Raises ValueError for an empty window.
    """
    rows = np.diff(starts, append=len(values))
    if not len(starts) or starts[0] != 0 or (rows < 1).any():
        raise ValueError("windows must hold at least one reading and cover all values")
    known = np.isfinite(values)
    if known.all():
        count = np.repeat(rows[:, None].astype(np.float64), values.shape[1], axis=1)
        mean = np.add.reduceat(values, starts, axis=0) / count
        deviation = values - np.repeat(mean, rows, axis=0)
    else:
        count = np.add.reduceat(known.astype(np.float64), starts, axis=0)
        total = np.add.reduceat(np.where(known, values, 0.0), starts, axis=0)
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        deviation = np.where(known, values - np.repeat(mean, rows, axis=0), 0.0)
    squares = np.add.reduceat(deviation * deviation, starts, axis=0)
    std = np.sqrt(np.divide(squares, count - 1, out=np.full_like(squares, np.nan), where=count > 1))
    return np.concatenate([mean, std, count], axis=1)


def mean_of_known(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean (m,) over the rows (k, m) that are not NaN; NaN where there is none."""
    known = np.isfinite(rows)
    count = known.sum(axis=0)
    total: NDArray[np.float64] = np.where(known, rows, 0.0).sum(axis=0)
    return total / np.where(count > 0, count, np.nan)
