"""What the anomaly job's SQL functions compute, without Flink: windows in, scores out.

Flink collects each column of a window into an array. The arrays of one window belong together, but
the order of readings in them is chance: partitions interleave differently in every run. The order
of arithmetic must not, so readings are sorted first, and a replay gives the same results.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flink_jobs import commissioning, features
from flink_jobs.model import Detector

# A column of some windows: one sequence for each window. A missing value is None or NaN.
Times = Sequence[Sequence[int]]
Values = Sequence[Sequence[float | None]]


def machine_reference(
    tss: Times, channels: Sequence[Values], readings: int, window_s: float, slide_s: float
) -> NDArray[np.float64]:
    """The normal reference (6 C,) that a machine's first `readings` give.

    Windows come in any order and do not overlap. They may hold more readings than are used.
    """
    ts, values = _joined(tss, channels)
    order = _in_time_order(ts, values)[:readings]
    return commissioning.reference(ts[order], values[order], window_s, slide_s)


def score_windows(
    detector: Detector,
    references: Sequence[Sequence[float] | None],
    tss: Times,
    channels: Sequence[Values],
    top: int,
) -> dict[str, NDArray[Any]]:
    """Columns (B,) for B windows: score, threshold, and channel1, share1, … of the `top` causes.

    A window without a reference, or with nothing that could be compared with it, is not scored:
    its numbers are NaN, its channels None.
    """
    size = len(tss)
    table: dict[str, NDArray[Any]] = {"score": np.full(size, np.nan)}
    table["threshold"] = table["score"].copy()
    for rank in range(1, top + 1):
        table[f"channel{rank}"] = np.full(size, None)
        table[f"share{rank}"] = np.full(size, np.nan)

    known = {row: one for row, one in enumerate(references) if one is not None}
    if not known:
        return table
    scores = detector.score(
        window_features(
            [tss[row] for row in known], [[channel[row] for row in known] for channel in channels]
        ),
        np.stack([np.asarray(one, dtype=np.float64) for one in known.values()]),
    )
    scored = np.isfinite(scores.score)
    rows, shares = np.array(list(known))[scored], scores.shares[scored]
    table["score"][rows] = scores.score[scored]
    table["threshold"][rows] = detector.threshold
    names = np.array(detector.channels, dtype=object)
    # Equal shares keep the channels' order, so that a replay names the same ones.
    order = np.argsort(-shares, axis=1, kind="stable")
    shares = np.take_along_axis(shares, order, axis=1)
    for rank in range(top):
        table[f"channel{rank + 1}"][rows] = names[order[:, rank]]
        table[f"share{rank + 1}"][rows] = shares[:, rank]
    return table


def window_features(tss: Times, channels: Sequence[Values]) -> NDArray[np.float64]:
    """Features (B, 3 C) of B windows, computed over all their readings at once."""
    lengths = np.array([len(window) for window in tss])
    ts, values = _joined(tss, channels)
    order = _in_time_order(ts, values, np.repeat(np.arange(len(lengths)), lengths))
    return features.windows_features(values[order], np.cumsum(lengths) - lengths)


class Places:
    """Where a declared machine stands: (line, area), from a file that may change at any time."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._changed = -1
        self._places: dict[str, tuple[str | None, str | None]] = {}

    def of(self, machine_id: str) -> tuple[str | None, str | None]:
        """(None, None) for a machine that is not declared."""
        return self._places.get(machine_id, (None, None))

    def refresh(self) -> None:
        """Read the file again if it is another than before."""
        changed = self._file.stat().st_mtime_ns if self._file.exists() else 0
        if changed != self._changed:
            self._changed = changed
            machines = json.loads(self._file.read_text(encoding="utf-8")) if changed else []
            self._places = {m["machine_id"]: (m.get("line"), m.get("area")) for m in machines}


def _joined(
    tss: Times, channels: Sequence[Values]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Readings ts (n,) and values (n, C), NaN missing, of windows one after the other."""
    ts = np.concatenate([np.asarray(window, dtype=np.int64) for window in tss])
    values = [
        np.concatenate([np.asarray(window, dtype=np.float64) for window in channel])
        for channel in channels
    ]
    return ts, np.column_stack(values)


def _in_time_order(
    ts: NDArray[np.int64],
    values: NDArray[np.float64],
    window: NDArray[np.intp] | None = None,
) -> NDArray[np.intp]:
    """The order of readings by window, time and, at equal times, values."""
    keys = (*values.T[::-1], ts)
    return np.lexsort(keys if window is None else (*keys, window))
