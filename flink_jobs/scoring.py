"""What the anomaly job's SQL functions compute, without Flink: packed windows in, scores out.

Training takes the same way from windows to features (`cleaned_features`), and the layout of packed
windows leaves nothing to the order of arrival: what was trained is what runs, and a replay gives
the same results.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flink_jobs import commissioning
from flink_jobs.cleaning import Repairs, Rules, clean
from flink_jobs.features import Features
from flink_jobs.model import Detector
from flink_jobs.windows import Windows, duplicates, unpack


@dataclass(frozen=True, eq=False)
class Scored:
    """Results of B windows.

    columns, each (B,): score, threshold, and channel1, share1, … of the main causes. repaired: how
    many values of each channel (C,), by kind (the fields of Repairs), in the windows that have a
    reference. duplicates: how many readings the windows declare, one for each window it is in.
    """

    columns: dict[str, NDArray[Any]]
    repaired: dict[str, NDArray[np.int64]]
    duplicates: int


def clean_reference(
    ts: NDArray[np.int64],
    values: NDArray[np.float64],
    rules: Sequence[Rules],
    window_s: float,
    slide_s: float,
) -> NDArray[np.float64]:
    """A machine's normal reference (6 C,) from its first readings, cleaned as one window.

    ts (n,) rising, values (n, C). A first reference, of the readings as they are, has the scales to
    clean them by: one in a hundred may be an outlier before those tell (flink_jobs.commissioning).
    """
    found = commissioning.reference(ts, values, window_s, slide_s)
    first = Windows.of_one(ts, values)
    cleaned, _ = clean(first, rules, commissioning.scales(found[None]))
    if cleaned is first:
        return found
    return commissioning.reference(ts, cleaned.values, window_s, slide_s)


def machine_reference(
    packed: Sequence[bytes], rules: Sequence[Rules], readings: int, window_s: float, slide_s: float
) -> NDArray[np.float64]:
    """The same from the packed windows of one machine.

    They come in any order and do not overlap; of their readings the first `readings` are used.
    """
    windows, _ = unpack(packed, len(rules))
    first = np.argsort(windows.ts)[:readings]
    return clean_reference(windows.ts[first], windows.values[first], rules, window_s, slide_s)


def cleaned_features(
    features: Features,
    rules: Sequence[Rules],
    windows: Windows,
    references: NDArray[np.float64],
) -> tuple[NDArray[np.float64], Repairs]:
    """Features (B, F) of cleaned windows, and what was repaired; references (B, 6 C)."""
    cleaned, repairs = clean(windows, rules, commissioning.scales(references))
    return features.of(cleaned, repairs), repairs


def score_windows(
    detector: Detector,
    rules: Sequence[Rules],
    references: Sequence[Sequence[float] | None],
    packed: Sequence[bytes],
    top: int,
) -> Scored:
    """Scores of B packed windows, with the `top` causes of each.

    A window without a reference, or with nothing that could be compared with it, is not scored:
    its numbers are NaN, its channels None.
    """
    size = len(packed)
    table: dict[str, NDArray[Any]] = {"score": np.full(size, np.nan)}
    table["threshold"] = table["score"].copy()
    for rank in range(1, top + 1):
        table[f"channel{rank}"] = np.full(size, None)
        table[f"share{rank}"] = np.full(size, np.nan)

    known = {row: one for row, one in enumerate(references) if one is not None}
    windows, _ = unpack([packed[row] for row in known], len(rules))
    normal = np.array(list(known.values()), dtype=np.float64).reshape(
        len(known), len(commissioning.FIELDS) * len(rules)
    )
    features, repairs = cleaned_features(detector.features, rules, windows, normal)
    scores = detector.score(features, normal)
    scored = np.isfinite(scores.score)
    rows, shares = np.array(list(known), dtype=np.intp)[scored], scores.shares[scored]
    table["score"][rows] = scores.score[scored]
    table["threshold"][rows] = detector.threshold
    names = np.array(detector.channels, dtype=object)
    # Equal shares keep the channels' order, so that a replay names the same ones.
    order = np.argsort(-shares, axis=1, kind="stable")
    shares = np.take_along_axis(shares, order, axis=1)
    for rank in range(top):
        table[f"channel{rank + 1}"][rows] = names[order[:, rank]]
        table[f"share{rank + 1}"][rows] = shares[:, rank]
    repaired = {kind: counts.sum(axis=0) for kind, counts in vars(repairs).items()}
    return Scored(table, repaired, sum(map(duplicates, packed)))


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
