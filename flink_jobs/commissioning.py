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

from flink_jobs.features import windows_features
from flink_jobs.windows import Windows, rows_of

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
    """The reference (6 C,) of one machine: ts (n,) rising, values (n, C), NaN missing."""
    found: NDArray[np.float64] = references(Windows.of_one(ts, values), window_s, slide_s)[0]
    return found


def references(first: Windows, window_s: float, slide_s: float) -> NDArray[np.float64]:
    """References (B, 6 C) of B machines, of each of which the first readings are one window.

    Fields in the order of FIELDS, in the channels' units; count is the usual number of values in a
    window. All NaN for a channel with too few values: it is not scored. Blocks of a window's length
    start at the first reading, so the reference does not depend on where the clock's grid lies. Nor
    does it depend on the other machines, to the last bit.
    """
    columns = _without_tails(first)
    machine, block, stop = _blocks(first, window_s, slide_s)
    result = np.full((len(first.starts), len(FIELDS) * len(columns)), np.nan)
    if not len(machine):
        return result
    rows, starts = rows_of(block, stop - block)
    windows = windows_features(columns[:, rows].T, starts)
    means, stds, counts = np.ascontiguousarray(windows.T).reshape(3, len(columns), -1)
    # From here on only machines with enough blocks: what each has of them is one segment.
    begins = np.flatnonzero(np.diff(machine, prepend=-1))
    blocks, told = np.diff(begins, append=len(machine)), machine[begins]

    middle, scale = (one[:, told] for one in _moments(columns, first.starts))
    late = np.maximum(1, first.rows // _LATEST_PART)
    rows, starts = rows_of(first.starts + first.rows - late, late)
    latest = _mean_of_known(columns[:, rows], starts)[:, told]
    location = np.where(np.isfinite(latest), latest, middle)
    count = np.add.reduceat(counts, begins, axis=1) / blocks
    enough = np.add.reduceat(np.isfinite(means).astype(np.intp), begins, axis=1) >= _MIN_BLOCKS
    stray = np.sqrt(_mean_of_known((means - np.repeat(middle, blocks, axis=1)) ** 2, begins))
    std_location, std_stray = _moments(stds, begins)

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
    result[told] = fields.reshape(-1, len(told)).T
    return result


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
    first: Windows, window_s: float, slide_s: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Blocks as long as a window: the machine of each, its first row, and where it stops.

    A machine's lie together. It has none where its readings give too few. Readings so frequent that
    they span less than _MIN_BLOCKS windows are cut into shorter blocks.
    """
    machine = np.repeat(np.arange(len(first.starts)), first.rows)
    age = first.ts - first.ts[first.first_row]
    span = age[first.starts + first.rows - 1]
    length = np.minimum(round(window_s * 1000), span // _MIN_BLOCKS)
    step = np.maximum(1, np.minimum(round(slide_s * 1000), length))
    begin = age // step[machine] * step[machine]
    is_new = np.diff(begin, prepend=-1) != 0
    is_new[first.starts] = True
    is_new &= (length[machine] >= 1) & (begin + length[machine] <= span[machine])
    machine, begin = machine[is_new], begin[is_new]
    # All readings on one line, machine after machine: one search finds the rows of all blocks.
    place = np.cumsum(span + 1) - (span + 1)
    line = np.repeat(place, first.rows) + age
    begin += place[machine]
    block, stop = np.searchsorted(line, begin), np.searchsorted(line, begin + length[machine])
    # Blocks cut by a gap in the data would pass for unusual windows.
    rows = stop - block
    whole = rows >= _medians(rows, machine) / 2
    whole &= np.bincount(machine[whole], minlength=len(span))[machine] >= _MIN_BLOCKS
    return machine[whole], block[whole], stop[whole]


def _medians(numbers: NDArray[np.intp], group: NDArray[np.intp]) -> NDArray[np.float64]:
    """For each number (n,) the median of its group, (n,); group (n,) rises."""
    ordered = numbers[np.lexsort((numbers, group))]
    begins = np.flatnonzero(np.diff(group, prepend=-1))
    count = np.diff(begins, append=len(group))
    median = (ordered[begins + (count - 1) // 2] + ordered[begins + count // 2]) / 2
    return np.repeat(median, count)


def _without_tails(first: Windows) -> NDArray[np.float64]:
    """The values (C, n), those in a machine's upper and lower tail as at the tails' ends."""
    columns = np.array(first.values.T, order="C")
    for _, rows in first.of_equal_length():
        table = columns[:, rows]
        ordered = np.sort(table, axis=2)  # NaN goes last
        last = np.maximum((~np.isnan(table)).sum(axis=2, keepdims=True) - 1, 0)
        low, high = (_quantile(ordered, last, share) for share in (_TAIL, 1 - _TAIL))
        columns[:, rows] = np.clip(table, low, high)
    return columns


def _quantile(
    ordered: NDArray[np.float64], last: NDArray[np.intp], share: float
) -> NDArray[np.float64]:
    """On a line between the two values it lies between: of ordered values (…, n) up to `last`."""
    place = share * last
    below = place.astype(np.intp)
    low = np.take_along_axis(ordered, below, axis=2)
    high = np.take_along_axis(ordered, np.minimum(below + 1, last), axis=2)
    return low + (place - below) * (high - low)


def _moments(
    columns: NDArray[np.float64], starts: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation (C, B) of what is not NaN in segments of columns (C, n)."""
    mean = _mean_of_known(columns, starts)
    centre = np.repeat(mean, np.diff(starts, append=columns.shape[1]), axis=1)
    return mean, np.sqrt(_mean_of_known((columns - centre) ** 2, starts))


def _mean_of_known(columns: NDArray[np.float64], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Mean (C, B) of what is not NaN in segments of columns (C, n); NaN where there is nothing."""
    known = np.isfinite(columns)
    count = np.add.reduceat(known.astype(np.float64), starts, axis=1)
    total = np.add.reduceat(np.where(known, columns, 0.0), starts, axis=1)
    mean: NDArray[np.float64] = total / np.where(count > 0, count, np.nan)
    return mean
