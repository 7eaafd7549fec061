"""The normal reference of a machine: what its first readings say about its normal operation.

Per channel it holds where the channel lies, how its readings scatter, and how far the mean and the
scatter of a window may stray from there while the machine is well. The last two carry the method
(docs/model.md): a channel whose scatter shows inside each window has been sampled hundreds of times
by the end of commissioning, one that drifts (a temperature) only a few times, whatever the number
of readings. Its future lies further from its past, so its expected strays are stretched by the
share of its variance that windows do not see. A machine is expected to stay where commissioning
left it, give or take what it moved until then.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flink_jobs.features import mean_of_known, windows_features
from flink_jobs.windows import pieces

# Raised when the meaning of a reference changes: references kept in state are void then.
REFERENCE_LAYOUT = 1

# What a reference holds of each channel; all channels of one field, then those of the next.
FIELDS = ("location", "scale", "mean_stray", "std_location", "std_stray", "count")

_NUMBER = 8  # bytes

# Fewer blocks than this say nothing about how windows differ from each other.
_MIN_BLOCKS = 4
# Readings beyond these quantiles count as much as those at them: one spike must not set a scale.
_TAIL = 0.01
# A channel may be still for the whole of commissioning, but no sensor is exact to 0.1 %.
_RELATIVE_SCALE = 1e-3
# The last quarter of the readings tells where a machine is.
_LATEST_PART = 4
# A drift that hides all scatter would stretch without limit.
_MAX_SLOW_SHARE = 0.97


def reference(
    ts: NDArray[np.int64], values: NDArray[np.float64], window_s: float, slide_s: float
) -> NDArray[np.float64]:
    """Reference (6 C,) from a machine's first readings: ts (n,) sorted, values (n, C), NaN missing.

    Fields in the order of FIELDS, in the channels' units; count is the usual number of values in a
    window. All NaN for a channel with too few values: it is not scored. Blocks of a window's length
    start at the first reading, so the reference does not depend on where the clock's grid lies.
    """
    tails = _quantiles(values)
    # The order in which numpy adds numbers up follows their order in memory.
    values = np.ascontiguousarray(np.clip(values, tails[0], tails[1]))
    windows = _blocks(ts, values, window_s, slide_s)
    if windows is None:
        return np.full(len(FIELDS) * values.shape[1], np.nan)
    means, stds, counts = np.split(windows, 3, axis=1)

    middle, scale = _moments(values)
    latest = mean_of_known(values[-max(1, len(values) // _LATEST_PART) :])
    location = np.where(np.isfinite(latest), latest, middle)
    count = counts.mean(axis=0)
    enough = np.isfinite(means).sum(axis=0) >= _MIN_BLOCKS
    stray = np.sqrt(mean_of_known((means - middle) ** 2))
    std_location, std_stray = _moments(stds)

    # Independent readings alone make means of `count` readings differ by 1/count of the variance;
    # what goes beyond that is slow. One reading in a window does not tell the two apart.
    slow = np.zeros_like(scale)
    telling = enough & (scale > 0) & (count > 1)
    chance = 1 / count[telling]
    slow[telling] = ((stray[telling] / scale[telling]) ** 2 - chance) / (1 - chance)
    fast = 1 - np.clip(slow, 0, _MAX_SLOW_SHARE)
    scale = np.maximum(scale, _RELATIVE_SCALE * np.abs(location))
    mean_stray = np.hypot(stray / fast, location - middle)
    fields = np.stack([location, scale, mean_stray, std_location, std_stray / fast, count])
    fields[:, ~enough] = np.nan
    return fields.ravel()


def pack(reference: NDArray[np.float64]) -> bytes:
    """A reference (6 C,) as the job keeps it in its state: float64, little endian."""
    return reference.astype("<f8").tobytes()


def unpack(packed: Sequence[bytes], channels: int) -> NDArray[np.float64]:
    """References (B, 6 C) of machines with C channels.

    Raises ValueError for one that is not of as many.
    """
    numbers = len(FIELDS) * channels
    wrong = set(map(len, packed)) - {_NUMBER * numbers}
    if wrong:
        raise ValueError(f"a reference of {channels} channels cannot have {min(wrong)} bytes")
    return np.frombuffer(b"".join(packed), dtype="<f8").reshape(len(packed), numbers)


def scales(references: NDArray[np.float64]) -> NDArray[np.float64]:
    """The channels' scales (B, C) in references (B, 6 C)."""
    return np.split(references, len(FIELDS), axis=1)[FIELDS.index("scale")]


def _blocks(
    ts: NDArray[np.int64], values: NDArray[np.float64], window_s: float, slide_s: float
) -> NDArray[np.float64] | None:
    """Features (K, 3 C) of blocks as long as a window, or None where the readings give too few.

    Readings so frequent that they span less than _MIN_BLOCKS windows are cut into shorter blocks.
    """
    span = int(ts[-1] - ts[0])
    length = min(round(window_s * 1000), span // _MIN_BLOCKS)
    if length < 1:
        return None
    step = max(1, min(round(slide_s * 1000), length))
    starts = ts[0] + np.unique((ts - ts[0]) // step) * step
    starts = starts[starts + length <= ts[-1]]
    first, stop = np.searchsorted(ts, starts), np.searchsorted(ts, starts + length)
    rows = stop - first
    # Blocks cut by a gap in the data would pass for unusual windows.
    whole = (rows > 0) & (rows >= np.median(rows) / 2)
    if whole.sum() < _MIN_BLOCKS:
        return None
    blocks = pieces(ts, values, first[whole], stop[whole])
    return windows_features(blocks.values, blocks.starts)


def _quantiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lower and the upper tail (2, C); NaN for a channel without values."""
    tails = np.full((2, values.shape[1]), np.nan)
    some = np.isfinite(values).any(axis=0)
    if some.any():
        tails[:, some] = np.nanquantile(values[:, some], [_TAIL, 1 - _TAIL], axis=0)
    return tails


def _moments(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (C,) over the rows that are not NaN."""
    mean = mean_of_known(values)
    return mean, np.sqrt(mean_of_known((values - mean) ** 2))
