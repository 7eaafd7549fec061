"""The two functions that the anomaly job's SQL calls. What they compute: flink_jobs.scoring."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
from pyflink.table.udf import FunctionContext, ScalarFunction

from flink_jobs import scoring
from flink_jobs.cleaning import Repairs, Rules
from flink_jobs.model import Detector


class Reference(ScalarFunction):  # type: ignore[misc]
    """The normal reference of a machine from its first readings; called once per machine."""

    def __init__(self, rules: Sequence[Rules], readings: int, window_s: int, slide_s: int) -> None:
        self._rules = rules
        self._readings = readings
        self._window_s = window_s
        self._slide_s = slide_s

    def eval(self, packed: bytes) -> list[float]:
        """From its first windows, packed as one."""
        reference = scoring.machine_reference(
            [packed], self._rules, self._readings, self._window_s, self._slide_s
        )
        return [float(value) for value in reference]


class Score(ScalarFunction):  # type: ignore[misc]
    """Scores a batch of windows; NULL while a machine has no reference yet.

    The model travels inside the job: a file that is replaced meanwhile cannot change what runs.
    """

    def __init__(
        self, model: bytes, rules: Sequence[Rules], columns: list[str], machines_file: str
    ) -> None:
        self._model = model
        self._rules = rules
        self._columns = columns
        self._machines_file = machines_file

    def open(self, context: FunctionContext) -> None:
        """Load the model once per worker, not once per batch."""
        self._detector = Detector(self._model)
        self._places = scoring.Places(Path(self._machines_file))
        # Counters only: a PyFlink distribution is no number to Flink's Prometheus reporter.
        metrics = context.get_metric_group().add_group(
            "machine_type", self._detector.metadata.machine_type
        )
        self._scored = metrics.counter("windows_scored")
        self._unscored = metrics.counter("windows_unscored")
        self._alerting = metrics.counter("windows_alerting")
        self._inference_us = metrics.counter("inference_time_us")
        self._duplicates = metrics.counter("readings_duplicate")
        # A value counts once for each window that it is in.
        self._repaired = {
            (kind, channel): metrics.add_group("channel", channel)
            .add_group("repair", kind)
            .counter("values_repaired")
            for kind in (field.name for field in fields(Repairs))
            for channel in self._detector.channels
        }

    def eval(
        self, machine_ids: pd.Series, references: pd.Series, windows: pd.Series
    ) -> pd.DataFrame:
        """Columns of equal length, one row per packed window."""
        top = sum(column.startswith("channel") for column in self._columns)
        begin = time.perf_counter_ns()
        scored = scoring.score_windows(
            self._detector, self._rules, list(references), list(windows), top
        )
        self._count(scored, time.perf_counter_ns() - begin)
        self._places.refresh()
        places = [self._places.of(machine_id) for machine_id in machine_ids]
        result = pd.DataFrame(scored.columns)
        result["line"] = [line for line, _ in places]
        result["area"] = [area for _, area in places]
        return result[self._columns]

    def _count(self, found: scoring.Scored, took_ns: int) -> None:
        scores = found.columns["score"]
        scored = int(np.isfinite(scores).sum())
        self._scored.inc(scored)
        self._unscored.inc(len(scores) - scored)
        self._alerting.inc(int((scores > self._detector.threshold).sum()))
        self._inference_us.inc(took_ns // 1000)
        self._duplicates.inc(found.duplicates)
        for kind, counts in found.repaired.items():
            for channel, count in zip(self._detector.channels, counts.tolist(), strict=True):
                self._repaired[kind, channel].inc(count)


def is_number(column: str) -> bool:
    """Whether a column of `score` holds numbers; the others hold text."""
    return column in ("score", "threshold") or column.startswith("share")
