"""Windows of readings: cut from a recording, or as the job passes them to Python, packed in bytes.

In SQL a window is one value of BYTES, so that an Arrow batch holds one binary column for all
channels. Its layout, little endian, n readings of C channels:

    int32 version (1), int32 n, int32 duplicates, n int64 ts (epoch ms), n float64 for each channel

The readings of a machine are sorted by ts and each ts stands once: the bytes do not depend on the
order of arrival. Of several readings with one ts the one whose values have the smallest bytes is
kept (compared as they lie in the layout, channel by channel), the others are declared duplicates
and only counted. A missing value is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

VERSION = 1

_WORD = 4
_HEADER_WORDS = 3
_NUMBER = 8


@dataclass(frozen=True, eq=False)
class Windows:
    """B windows of C channels that lie one after another, n readings in all.

    ts int64 (n,) epoch ms, rising inside each window; values float64 (n, C), NaN missing; starts
    (B,), the first rows of the windows: each ends where the next one starts, none is empty.
    """

    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    starts: NDArray[np.intp]

    @classmethod
    def of_one(cls, ts: NDArray[np.int64], values: NDArray[np.float64]) -> Windows:
        """All the readings as one window."""
        return cls(ts, values, np.zeros(1, dtype=np.intp))

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """How many readings each window has, (B,)."""
        return np.diff(self.starts, append=len(self.ts))

    @cached_property
    def first_row(self) -> NDArray[np.intp]:
        """The first row of the window that each reading is in, (n,)."""
        return np.repeat(self.starts, self.rows)

    def known_before(self, known: NDArray[np.bool_]) -> NDArray[np.intp]:
        """For each reading and channel the row of the known one before it in its window, (n, C).

        -1 where there is none. known (n, C) says which values are.
        """
        row = np.arange(len(self.ts))[:, None]
        newest = np.maximum.accumulate(np.where(known, row, -1), axis=0)
        before = np.concatenate([np.full_like(newest[:1], -1), newest[:-1]])
        return np.where(before >= self.first_row[:, None], before, -1)

    def known_after(self, known: NDArray[np.bool_]) -> NDArray[np.intp]:
        """The same for the known one after it."""
        last, row = len(self.ts), np.arange(len(self.ts))[:, None]
        nearest = np.minimum.accumulate(np.where(known, row, last)[::-1], axis=0)[::-1]
        after = np.concatenate([nearest[1:], np.full_like(nearest[:1], last)])
        end = np.repeat(self.starts + self.rows, self.rows)
        return np.where(after < end[:, None], after, -1)

    def of_equal_length(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """For each length n: the k windows of that length, and their rows (k, n).

        What cannot be computed over windows of any length, a sort or a transform, loops over
        these: a batch holds few lengths.
        """
        for length in np.unique(self.rows):
            which = np.flatnonzero(self.rows == length)
            yield which, self.starts[which, None] + np.arange(length)

    def medians(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The medians (B, C) of one number per reading and channel (n, C); NaN is left out."""
        result = np.full((len(self.starts), values.shape[1]), np.nan)
        for which, rows in self.of_equal_length():
            ordered = np.sort(values[rows], axis=1)  # NaN goes last
            count = np.isfinite(ordered).sum(axis=1, keepdims=True)
            upper = np.take_along_axis(ordered, count // 2, axis=1)
            lower = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=1)
            result[which] = np.where(count > 0, lower + (upper - lower) / 2, np.nan)[:, 0]
        return result


def cut(
    ts: NDArray[np.int64],
    values: NDArray[np.float64],
    window_s: float,
    slide_s: float,
    partial: bool = False,
) -> tuple[NDArray[np.int64], Windows]:
    """A recording in sliding windows as Flink cuts it: ends (B,) epoch ms, exclusive, and windows.

    ts (n,) rising, values (n, C). Ends are multiples of the slide; windows without readings do not
    exist. With `partial` also those that begin before the first reading or end after the last one.
    """
    length, slide = round(window_s * 1000), round(slide_s * 1000)
    first_end = (int(ts[0]) // slide + 1) * slide
    ends = np.arange(first_end, int(ts[-1]) + length + 1, slide, dtype=np.int64)
    if not partial:
        ends = ends[(ends - length >= ts[0]) & (ends <= ts[-1] + 1)]
    first, stop = np.searchsorted(ts, ends - length), np.searchsorted(ts, ends)
    some = stop > first
    return ends[some], pieces(ts, values, first[some], stop[some])


def pieces(
    ts: NDArray[np.int64],
    values: NDArray[np.float64],
    first: NDArray[np.intp],
    stop: NDArray[np.intp],
) -> Windows:
    """The rows first[b] to stop[b] of a recording as window b; windows may overlap."""
    rows, starts = rows_of(first, stop - first)
    return Windows(ts[rows], values[rows], starts)


def rows_of(
    first: NDArray[np.intp], lengths: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All rows of windows that begin at `first`, and where among those each window begins."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(first - starts, lengths), starts


def pack(ts: NDArray[np.int64], values: NDArray[np.float64]) -> bytes:
    """One window in the layout of the job's: ts (n,), values (n, C), readings in any order."""
    kept_ts, kept = distinct(ts, values)
    header = np.array([VERSION, len(kept_ts), len(ts) - len(kept_ts)], dtype="<i4")
    return header.tobytes() + kept_ts.astype("<i8").tobytes() + kept.T.astype("<f8").tobytes()


def distinct(
    ts: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The readings that packing keeps: sorted by ts, each ts once."""
    plain = np.where(np.isnan(values), np.nan, values).astype("<f8")
    as_bytes = plain.view(">u8")  # big-endian numbers compare as their bytes do
    order = np.lexsort((*as_bytes.T[::-1], ts))
    order = order[np.diff(ts[order], prepend=ts[order[:1]] - 1) > 0]
    return ts[order], values[order]


def unpack(packed: Sequence[bytes], channels: int) -> tuple[Windows, NDArray[np.int32]]:
    """Windows of C channels and how many duplicates each declares (B,).

    Each channel lies in one piece of memory. Raises ValueError for what is not a packed window of
    this version and number of channels.
    """
    sizes = np.fromiter(map(len, packed), dtype=np.intp, count=len(packed))
    broken = (sizes < _WORD * _HEADER_WORDS) | (sizes % _WORD > 0)
    _check("is no header with numbers behind it", sizes, broken)
    # A word before each header: behind it numbers lie where numbers of their size may be read.
    joined = bytes(_WORD).join([b"", *packed])
    words = np.frombuffer(joined, dtype="<i4")
    stops = np.cumsum(sizes + _WORD)
    begins = stops - sizes
    version, length, duplicates = words[begins[:, None] // _WORD + np.arange(_HEADER_WORDS)].T
    _check(f"is not of version {VERSION}", version, version != VERSION)
    rows = length.astype(np.intp)
    wrong = (rows < 1) | (sizes != _WORD * _HEADER_WORDS + _NUMBER * rows * (1 + channels))
    _check(f"has not the length of its readings with {channels} channels", sizes, wrong)

    numbers = np.frombuffer(joined, dtype="<f8")
    starts = np.cumsum(rows) - rows
    if len(packed) and (rows == rows[0]).all():
        # As long as no reading is lost: tables of one shape, for which no index is needed.
        tables = numbers.reshape(len(packed), -1)[:, -(1 + channels) * rows[0] :]
        tables = tables.reshape(len(packed), 1 + channels, rows[0])
        columns = tables.transpose(1, 0, 2).reshape(1 + channels, -1)
    else:
        first = stops // _NUMBER - (1 + channels) * rows
        place, _ = rows_of(first, rows)
        columns = numbers[place + np.arange(1 + channels)[:, None] * np.repeat(rows, rows)]
    return Windows(columns[0].view("<i8"), columns[1:].T, starts), duplicates


def duplicates(packed: bytes) -> int:
    """How many a packed window declares."""
    return int.from_bytes(packed[2 * _WORD : _HEADER_WORDS * _WORD], "little")


def _check(what: str, found: NDArray[np.signedinteger], wrong: NDArray[np.bool_]) -> None:
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"packed window {first} of the batch {what}: {found[first]}")
