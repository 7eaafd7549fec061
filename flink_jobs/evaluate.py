"""How good a detector is on labelled recordings, counted row by row as in the SKAB literature.

Each row after a machine's normal reference takes the verdict of the newest window that ended at or
before it; counts are pooled over machines. The baseline T²+Q, which judges rows, runs on the same
ones. Plain numpy: `quality` puts predictions from Kafka through it, tests score offline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from flink_jobs import scoring
from flink_jobs.cleaning import Rules
from flink_jobs.model import Detector
from flink_jobs.windows import cut


@dataclass(frozen=True)
class Counts:
    """Rows by verdict and truth. Counts add up; rates are in percent, NaN where undefined."""

    true_alerts: int = 0
    false_alerts: int = 0
    missed: int = 0
    quiet: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.true_alerts + other.true_alerts,
            self.false_alerts + other.false_alerts,
            self.missed + other.missed,
            self.quiet + other.quiet,
        )

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 to 1."""
        return _ratio(2 * self.true_alerts, 2 * self.true_alerts + self.false_alerts + self.missed)

    @property
    def far(self) -> float:
        """False alarm rate: percent of the normal rows that were alerts."""
        return 100 * _ratio(self.false_alerts, self.false_alerts + self.quiet)

    @property
    def mar(self) -> float:
        """Missing alarm rate: percent of the anomalous rows that were none."""
        return 100 * _ratio(self.missed, self.missed + self.true_alerts)


def count(alerts: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Counts:
    """Compare verdicts (n,) with the truth (n,)."""
    return Counts(
        int((alerts & truth).sum()),
        int((alerts & ~truth).sum()),
        int((~alerts & truth).sum()),
        int((~alerts & ~truth).sum()),
    )


def row_verdicts(
    ts: NDArray[np.int64], window_ends: NDArray[np.int64], alerts: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Verdict (n,) of each row from windows (B,) with exclusive ends; False before the first one.

    The verdict of a window that was not scored is False. Windows may come in any order.
    """
    order = np.argsort(window_ends, kind="stable")
    newest = np.searchsorted(window_ends[order], ts, side="right") - 1
    if not len(order):
        return np.zeros(len(ts), dtype=np.bool_)
    return np.where(newest >= 0, alerts[order][np.maximum(newest, 0)], False)


def score_offline(
    detector: Detector,
    rules: Sequence[Rules],
    ts: NDArray[np.int64],
    values: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Window ends (B,) and scores (B,) of one machine's readings, without Kafka and Flink.

    As in the job, channels are cleaned by their rules, and scoring begins with the windows that end
    after the last reading of the reference; scores before are NaN.
    """
    about = detector.metadata
    ends, windows = cut(ts, values, about.window_s, about.slide_s, partial=True)
    scores = np.full(len(ends), np.nan)
    readings = about.commissioning_readings
    if len(ts) < readings:
        return ends, scores
    normal = scoring.clean_reference(
        ts[:readings], values[:readings], rules, about.window_s, about.slide_s
    )
    ready = ends > ts[readings - 1]
    if ready.any():
        references = np.tile(normal, (len(ends), 1))
        features, _ = scoring.cleaned_features(detector.features, rules, windows, references)
        scores[ready] = detector.score(features[ready], references[ready]).score
    return ends, scores


def t2q_verdicts(values: NDArray[np.float64], readings: int) -> NDArray[np.bool_]:
    """Alerts (n,) of the T²+Q detector, with SKAB's settings: values (n, C), reference first.

    PCA of the standardised first `readings` rows, components for 85 % of the variance; alert where
    the running median of five of Hotelling's T² exceeds its 99.9 % limit or that of the residual Q
    exceeds its own. Missing values take the reference's mean. Limits as in SKAB's published
    implementation (github.com/waico/SKAB, core/t2.py), which takes powers of the sum of the
    residual eigenvalues where Jackson and Mudholkar have sums of their powers; their formula for
    the limit of Q then shrinks to the one below.
    """
    explained, p, smoothing = 0.85, 0.999, 5
    normal = values[:readings]
    mean, scale = np.nanmean(normal, axis=0), np.nanstd(normal, axis=0)
    moving = scale > 0
    standard = np.nan_to_num((values[:, moving] - mean[moving]) / scale[moving])
    fitted = standard[:readings]
    eigenvalues, axes = np.linalg.eigh(np.cov(fitted.T))
    eigenvalues, axes = eigenvalues[::-1], axes[:, ::-1]
    shares = np.cumsum(eigenvalues) / eigenvalues.sum()
    kept = min(int(np.searchsorted(shares, explained, side="right")) + 1, len(eigenvalues))

    inside = standard @ axes[:, :kept]
    t2 = (inside**2 / eigenvalues[:kept]).sum(axis=1)
    q = ((standard - inside @ axes[:, :kept].T) ** 2).sum(axis=1)

    n = readings
    t2_limit = kept * (n - 1) * (n + 1) / (n * (n - kept)) * f_quantile(p, kept, n - kept)
    alerts = _running_median(t2, smoothing) > t2_limit
    rest = float(eigenvalues[kept:].sum())
    q_limit = rest * (1 + NormalDist().inv_cdf(p) * math.sqrt(2) / 3 - 2 / 9) ** 3
    # Where all components are kept the residual is rounding noise.
    return alerts | (_running_median(q, smoothing) > q_limit) if rest > 0 else alerts


def f_quantile(p: float, d1: int, d2: int) -> float:
    """Quantile of the F distribution below 25, by integrating its density; exact to about 1e-4."""
    # In r = √x the density is smooth also for d1 = 1.
    r = np.linspace(0, 5, 50_001)
    log_beta = math.lgamma(d1 / 2) + math.lgamma(d2 / 2) - math.lgamma((d1 + d2) / 2)
    constant = 2 * math.exp(d1 / 2 * math.log(d1 / d2) - log_beta)
    density = constant * r ** (d1 - 1) * (1 + d1 * r**2 / d2) ** (-(d1 + d2) / 2)
    middles = (density[1:] + density[:-1]) / 2 * (r[1] - r[0])
    probability = np.concatenate([[0.0], np.cumsum(middles)])
    return float(np.interp(p, probability, r) ** 2)


def _running_median(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Median (n,) of each value and the ones before it; NaN while there are too few."""
    result = np.full(len(values), np.nan)
    if len(values) >= width:
        windows = np.lib.stride_tricks.sliding_window_view(values, width)
        result[width - 1 :] = np.median(windows, axis=1)
    return result


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
