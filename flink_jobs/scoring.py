"""What the anomaly job's SQL functions compute, without Flink: packed windows in, scores out.

Training takes the same way from windows to features (`cleaned_features`), and the layout of packed
windows leaves nothing to the order of arrival: what was trained is what runs, and a replay gives
the same results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flink_jobs import commissioning
from flink_jobs.cleaning import Repairs, Rules, clean
from flink_jobs.features import Features
from flink_jobs.model import Detector
from flink_jobs.windows import Windows, duplicates, pieces, unpack


@dataclass(frozen=True, eq=False)
class Scored:
    """Results of B windows.

    columns, each (B,): score, and cause1, share1, … of the main causes; a cause is the number of a
    channel, counted from 1. repaired: how many values of each channel (C,), by kind (the fields of
    Repairs), in the windows that have a reference. duplicates: how many readings the windows
    declare, one for each window it is in.
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
    """The normal reference (6 C,) of one machine: ts (n,) rising, values (n, C), NaN missing."""
    found: NDArray[np.float64] = clean_references(
        Windows.of_one(ts, values), rules, window_s, slide_s
    )[0]
    return found


def clean_references(
    first: Windows, rules: Sequence[Rules], window_s: float, slide_s: float
) -> NDArray[np.float64]:
    """Normal references (B, 6 C) of B machines, the first readings of each cleaned as one window.

    A first reference, of the readings as they are, has the scales to clean them by: one in a
    hundred may be an outlier before those tell (flink_jobs.commissioning).
    """
    found = commissioning.references(first, window_s, slide_s)
    cleaned, repairs = clean(first, rules, commissioning.scales(found))
    repaired = np.any([counts.any(axis=1) for counts in vars(repairs).values()], axis=0)
    if repaired.any():
        begin, rows = first.starts[repaired], first.rows[repaired]
        some = pieces(cleaned.ts, cleaned.values, begin, begin + rows)
        found[repaired] = commissioning.references(some, window_s, slide_s)
    return found


def machine_references(
    packed: Sequence[bytes], rules: Sequence[Rules], readings: int, window_s: float, slide_s: float
) -> NDArray[np.float64]:
    """The same from B packed windows, one of each machine; the first `readings` of it are used."""
    windows, _ = unpack(packed, len(rules))
    stop = windows.starts + np.minimum(windows.rows, readings)
    first = pieces(windows.ts, windows.values, windows.starts, stop)
    return clean_references(first, rules, window_s, slide_s)


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
    references: Sequence[bytes | None],
    packed: Sequence[bytes],
    top: int,
) -> Scored:
    """Scores of B packed windows, with the `top` causes of each; references as packed there.

    A window without a reference, or with nothing that could be compared with it, is not scored: its
    numbers are NaN, its causes 0.
    """
    has_reference = [one is not None for one in references]
    windows, declared = unpack(list(compress(packed, has_reference)), len(rules))
    normal = commissioning.unpack([one for one in references if one is not None], len(rules))
    features, repairs = cleaned_features(detector.features, rules, windows, normal)
    scores = detector.score(features, normal)

    scored = np.isfinite(scores.score)
    rows, shares = np.flatnonzero(has_reference)[scored], scores.shares[scored]
    # Equal shares keep the channels' order, so that a replay names the same ones.
    order = np.argsort(-shares, axis=1, kind="stable")[:, :top]
    shares = np.take_along_axis(shares, order, axis=1)
    table: dict[str, NDArray[Any]] = {"score": np.full(len(packed), np.nan)}
    table["score"][rows] = scores.score[scored]
    for rank in range(top):
        table[f"cause{rank + 1}"] = cause = np.zeros(len(packed), dtype=np.int32)
        table[f"share{rank + 1}"] = share = np.full(len(packed), np.nan)
        cause[rows] = order[:, rank] + 1
        share[rows] = shares[:, rank]
    repaired = {kind: counts.sum(axis=0) for kind, counts in vars(repairs).items()}
    others = [window for window, known in zip(packed, has_reference, strict=True) if not known]
    return Scored(table, repaired, int(declared.sum()) + sum(map(duplicates, others)))
