"""The two functions that the anomaly job's SQL calls. What they compute: flink_jobs.scoring."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
from pyflink.table.udf import FunctionContext, ScalarFunction

from flink_jobs import commissioning, scoring
from flink_jobs.cleaning import Repairs, Rules
from flink_jobs.model import Detector


class Reference(ScalarFunction):  # type: ignore[misc]
    """The normal references of machines from their first readings; called once per machine."""

    def __init__(self, rules: Sequence[Rules], readings: int, window_s: int, slide_s: int) -> None:
        self._rules = rules
        self._readings = readings
        self._window_s = window_s
        self._slide_s = slide_s

    def eval(self, packed: pd.Series) -> pd.Series:
        """One for each machine's first windows, packed as one."""
        references = scoring.machine_references(
            packed.tolist(), self._rules, self._readings, self._window_s, self._slide_s
        )
        return pd.Series([commissioning.pack(one) for one in references])


class Score(ScalarFunction):  # type: ignore[misc]
    """Scores a batch of windows; NULL while a machine has no reference yet.

    The model travels inside the job: a file that is replaced meanwhile cannot change what runs.
    """

    def __init__(self, model: bytes, rules: Sequence[Rules], columns: list[str]) -> None:
        self._model = model
        self._rules = rules
        self._columns = columns
        self._top = sum(column.startswith("cause") for column in columns)

    def open(self, context: FunctionContext) -> None:
        """Load the model once per worker, not once per batch."""
        self._detector = Detector(self._model)
        # What was never counted up is not there: each begins at 0, with the first windows.
        self._is_told = False
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

    def eval(self, references: pd.Series, windows: pd.Series) -> pd.DataFrame:
        """Columns of equal length, one row per packed window; a NaN becomes NULL in SQL."""
        begin = time.perf_counter_ns()
        scored = scoring.score_windows(
            self._detector, self._rules, references.tolist(), windows.tolist(), self._top
        )
        self._count(scored, time.perf_counter_ns() - begin)
        # Not copied into one block per type: PyFlink takes the columns one by one.
        return pd.DataFrame({name: scored.columns[name] for name in self._columns}, copy=False)

    def _count(self, found: scoring.Scored, took_ns: int) -> None:
        scores = found.columns["score"]
        scored = int(np.isfinite(scores).sum())
        counted = [
            (self._scored, scored),
            (self._unscored, len(scores) - scored),
            (self._alerting, int((scores > self._detector.threshold).sum())),
            (self._inference_us, took_ns // 1000),
            (self._duplicates, found.duplicates),
        ]
        for kind, counts in found.repaired.items():
            counters = (self._repaired[kind, channel] for channel in self._detector.channels)
            counted += zip(counters, counts.tolist(), strict=True)
        for counter, count in counted:
            if count or not self._is_told:
                counter.inc(count)
        self._is_told = True
