"""The two functions that the anomaly job's SQL calls. All arithmetic is in the plain modules."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyflink.table.udf import FunctionContext, ScalarFunction

from flink_jobs import commissioning, features
from flink_jobs.model import Detector


class Reference(ScalarFunction):  # type: ignore[misc]
    """The normal reference of a machine from its first readings; called once per machine."""

    def __init__(self, readings: int, window_s: int, slide_s: int) -> None:
        self._readings = readings
        self._window_s = window_s
        self._slide_s = slide_s

    def eval(
        self, tss: Sequence[Sequence[int]], *channels: Sequence[Sequence[float | None]]
    ) -> list[float]:
        """One sequence per window of each column; windows and readings in any order."""
        ts, values = _joined(tss, channels)
        order = _in_time_order(ts, values)[: self._readings]
        reference = commissioning.reference(ts[order], values[order], self._window_s, self._slide_s)
        return [float(value) for value in reference]


class Score(ScalarFunction):  # type: ignore[misc]
    """Scores a batch of windows; NULL while a machine has no reference yet.

    The model travels inside the job: a file that is replaced meanwhile cannot change what runs.
    """

    def __init__(self, model: bytes, columns: list[str], machines_file: str) -> None:
        self._model = model
        self._columns = columns
        self._machines_file = machines_file

    def open(self, _context: FunctionContext) -> None:
        """Load the model once per worker, not once per batch."""
        self._detector = Detector(self._model)
        self._places = Places(Path(self._machines_file))

    def eval(
        self, machine_ids: pd.Series, references: pd.Series, tss: pd.Series, *channels: pd.Series
    ) -> pd.DataFrame:
        """Columns of equal length, one row per window; arrays inside a row belong together."""
        result = pd.DataFrame(
            {name: np.full(len(tss), np.nan if is_number(name) else None) for name in self._columns}
        )
        self._places.refresh()
        places = [self._places.of(machine_id) for machine_id in machine_ids]
        result["line"] = [line for line, _ in places]
        result["area"] = [area for _, area in places]

        known = np.flatnonzero([reference is not None for reference in references])
        if not len(known):
            return result
        scores = self._detector.score(
            _features(tss.iloc[known], [channel.iloc[known] for channel in channels]),
            np.stack([np.asarray(references.iat[row], dtype=np.float64) for row in known]),
        )
        scored = np.isfinite(scores.score)
        rows, shares = known[scored], scores.shares[scored]
        result.loc[rows, "score"] = scores.score[scored]
        result.loc[rows, "threshold"] = self._detector.threshold
        names = np.array(self._detector.channels, dtype=object)
        # Equal shares keep the channels' order, so that a replay names the same ones.
        order = np.argsort(-shares, axis=1, kind="stable")
        ranks = sum(column.startswith("channel") for column in self._columns)
        for rank in range(ranks):
            result.loc[rows, f"channel{rank + 1}"] = names[order[:, rank]]
            result.loc[rows, f"share{rank + 1}"] = np.take_along_axis(shares, order, 1)[:, rank]
        return result


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


def is_number(column: str) -> bool:
    """Whether a column of `score` holds numbers; the others hold text."""
    return column in ("score", "threshold") or column.startswith("share")


def _features(tss: pd.Series, channels: Sequence[pd.Series]) -> NDArray[np.float64]:
    """Features (B, F) of B windows, computed over all their readings at once."""
    lengths = np.array([len(window) for window in tss])
    ts, values = _joined(list(tss), [list(channel) for channel in channels])
    order = _in_time_order(ts, values, np.repeat(np.arange(len(lengths)), lengths))
    return features.windows_features(values[order], np.cumsum(lengths) - lengths)


def _joined(
    tss: Sequence[Sequence[int]], channels: Sequence[Sequence[Sequence[float | None]]]
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
    """The order of readings by window, time and, at equal times, values.

    Partitions interleave differently in every run; the order of arithmetic must not.
    """
    keys = (*values.T[::-1], ts)
    return np.lexsort(keys if window is None else (*keys, window))
