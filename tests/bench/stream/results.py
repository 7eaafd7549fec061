"""What a contestant has written: whether it is right, and how fast it came.

Times are the broker's: telemetry and results have LogAppendTime, so one clock judges all, whenever
they are read. A slice is all windows with one end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from flink_jobs import contracts
from flink_jobs.tools.kafka import Config, read_all
from tests.bench.stream.workload import (
    COMMISSIONING_READINGS,
    START_MS,
    WINDOW_S,
    Paced,
    Workload,
)

TOLERANCE = 1e-6
# The middle of the topic: what starts and what runs out is left out.
STEADY = (0.2, 0.8)
PERCENTILES = (50, 90, 99)

_WINDOW_MS = 1000 * WINDOW_S
# Machines are commissioned all at once here, which is no steady state.
_COMMISSIONED = math.ceil(COMMISSIONING_READINGS / WINDOW_S)
_BATCH = 10_000

Floats = NDArray[np.float64]


class WrongError(Exception):
    """The results are not what the input demands; the message says in what."""


class TooFewError(Exception):
    """The results are right as far as they go, which is not far enough to measure a speed."""


@dataclass(frozen=True, eq=False)
class Results:
    """Predictions of M machines in K slices.

    seen int (M, K): how many there are; readings int (M, K), of all of them; score float (M, K),
    NaN for null; appended int (K,): when the last one of each slice came, epoch ms. first: when the
    very first one came. strangers: of other machines or times.
    """

    seen: NDArray[np.int16]
    readings: NDArray[np.int32]
    score: Floats
    appended: NDArray[np.int64]
    first: int
    strangers: int

    @property
    def complete(self) -> int:
        """How many slices, from the first one on, have all their windows."""
        whole = (self.seen == 1).all(axis=0)
        return len(whole) if whole.all() else int(whole.argmin())


@dataclass(frozen=True)
class Speed:
    """begin, end: epoch ms, between which the readings were worked off."""

    begin: int
    end: int
    readings_per_s: float
    windows_per_s: float

    @property
    def readings(self) -> float:
        return self.readings_per_s * (self.end - self.begin) / 1000


@dataclass(frozen=True)
class Latency:
    """In milliseconds, by the percentiles of PERCENTILES."""

    count: int
    percentiles: tuple[float, ...]


def read(config: Config, topic: str, since: int, work: Workload) -> Results:
    """The committed predictions that were appended since a time (epoch ms)."""
    shape = (work.machines, work.slices)
    seen, readings = np.zeros(shape, np.int16), np.zeros(shape, np.int32)
    score = np.full(shape, np.nan)
    appended = np.zeros(work.slices, np.int64)
    first, strangers = np.iinfo(np.int64).max, 0
    for batch in _batches(config, topic, since):
        machines, ends, counts, scores, times = (np.array(c) for c in zip(*batch, strict=True))
        places = (ends - START_MS) // _WINDOW_MS - 1
        known = (machines >= 0) & (machines < work.machines)
        known &= (places >= 0) & (places < work.slices)
        strangers += int((~known).sum())
        machines, places = machines[known], places[known]
        np.add.at(seen, (machines, places), 1)
        np.add.at(readings, (machines, places), counts[known])
        score[machines, places] = scores[known]
        np.maximum.at(appended, places, times[known])
        first = min(first, int(times.min()))
    return Results(seen, readings, score, appended, first, strangers)


def check(results: Results, work: Workload, is_whole: bool) -> None:
    """One window with all its readings for each machine and slice, and none else.

    Of a contestant that was stopped before the end (not `is_whole`) all slices that it completed.
    Raises WrongError.
    """
    complete = results.complete
    per_window = WINDOW_S  # readings, at 1 Hz
    found = int(results.readings[:, :complete].sum())
    expected = work.machines * complete * per_window
    wrong = []
    if results.strangers:
        wrong.append(f"{results.strangers} predictions of machines or times that were not sent")
    if doubled := int((results.seen > 1).sum()):
        wrong.append(f"{doubled} windows twice")
    if is_whole and complete < work.slices:
        missing = int((results.seen == 0).sum())
        wrong.append(f"{missing} of {results.seen.size} windows missing")
    if found != expected:
        wrong.append(f"{found} readings in the windows, and not {expected}")
    if wrong:
        raise WrongError(", ".join(wrong))


def compare(one: Results, other: Results) -> float:
    """The largest relative difference of the scores in the slices that both completed.

    Raises WrongError if it is above TOLERANCE, where only one has a score, or none has any.
    """
    both = min(one.complete, other.complete)
    left, right = one.score[:, :both], other.score[:, :both]
    known = np.isfinite(left)
    if (known != np.isfinite(right)).any():
        lonely = int((known != np.isfinite(right)).sum())
        raise WrongError(f"{lonely} windows are scored by one of the two only")
    if not known.any():
        raise WrongError("nothing was scored")
    size = np.maximum(np.abs(left[known]), np.abs(right[known]))
    away = np.abs(left[known] - right[known])
    worst = float(np.max(away / np.where(size > 0, size, 1)))
    if worst > TOLERANCE:
        raise WrongError(f"scores differ by up to {worst:.1e} of their size")
    return worst


def speed(results: Results, work: Workload) -> Speed:
    """Readings worked off between the ends of two slices, divided by the time between them.

    Raises TooFewError where too few slices are complete.
    """
    complete = results.complete
    begin = max(round(STEADY[0] * complete), _COMMISSIONED)
    end = round(STEADY[1] * complete) - 1
    if end <= begin:
        raise TooFewError(f"{complete} complete slices are too few to measure")
    from_ms, to_ms = int(results.appended[begin]), int(results.appended[end])
    if to_ms <= from_ms:
        raise WrongError("later windows did not come later")
    windows = work.machines * (end - begin)
    per_s = 1000 / (to_ms - from_ms)
    return Speed(from_ms, to_ms, windows * WINDOW_S * per_s, windows * per_s)


# Latency


def passed(config: Config, topic: str, since: int, disorder_ms: int) -> dict[int, int]:
    """When each window could close: end (epoch ms) -> append time of the reading that said so.

    That is, on each partition, the first reading that moves event time (its ts less the allowed
    disorder) past the window, and the last of these over the partitions. Ends that one partition
    never passes are not in it.
    """
    newest: dict[int, int] = {}  # the newest end that a partition has passed
    times: dict[int, dict[int, int]] = {}
    for message in read_all(config, topic, since):
        partition, appended = message.partition() or 0, message.timestamp()[1]
        ts = orjson.loads(message.value() or b"{}")["ts"]
        # A window is over when event time reaches its last millisecond.
        end = (ts - disorder_ms + 1) // _WINDOW_MS * _WINDOW_MS
        before = newest.setdefault(partition, end)
        for one in range(before + _WINDOW_MS, end + 1, _WINDOW_MS):
            times.setdefault(one, {})[partition] = appended
        newest[partition] = max(before, end)
    return {end: max(by.values()) for end, by in times.items() if by.keys() == newest.keys()}


def predictions(
    config: Config, topic: str, since: int, closed: Mapping[int, int], begin: int, end: int
) -> Latency:
    """From the reading that closed a window to its prediction, windows that end in a span."""
    waits = []
    for message in read_all(config, topic, since):
        record = orjson.loads(message.value() or b"{}")
        if begin < record["window_end"] <= end:
            waits.append(message.timestamp()[1] - closed[record["window_end"]])
    return _latency(waits)


def model_alerts(
    config: Config, since: int, closed: Mapping[int, int], begin: int, end: int
) -> Latency:
    """The same for alerts that a model raised or cleared."""
    waits = []
    for message in read_all(config, contracts.ALERTS, since):
        record = orjson.loads(message.value() or b"{}")
        if record["rule"] == "anomaly" and begin < record["window_end"] <= end:
            waits.append(message.timestamp()[1] - closed[record["window_end"]])
    return _latency(waits)


def limit_alerts(config: Config, telemetry: str, sent: Paced, begin: int) -> Latency:
    """From a reading that crosses a limit to its alert, for readings since a time (epoch ms).

    Raises WrongError unless each crossing has exactly one.
    """
    wanted = {(machine, ts) for machine, ts in sent.crossings if ts >= begin}
    crossed = {}
    for message in read_all(config, telemetry, sent.begin):
        record = orjson.loads(message.value() or b"{}")
        if (place := (record["machine_id"], record["ts"])) in wanted:
            crossed[place] = message.timestamp()[1]
    raised: dict[tuple[str, int], int] = {}
    for message in read_all(config, contracts.ALERTS, sent.begin):
        record = orjson.loads(message.value() or b"{}")
        place = (record["machine_id"], record["ts"])
        if record["rule"] == "limit" and record["state"] == "raised" and place in wanted:
            if place in raised:
                raise WrongError(f"two alerts of one reading: {place}")
            raised[place] = message.timestamp()[1]
    if raised.keys() != crossed.keys():
        raise WrongError(f"{len(crossed)} readings crossed a limit, {len(raised)} have an alert")
    return _latency([raised[place] - crossed[place] for place in crossed])


def _latency(waits: list[int]) -> Latency:
    if not waits:
        raise WrongError("there is nothing whose latency could be measured")
    return Latency(len(waits), tuple(float(np.percentile(waits, p)) for p in PERCENTILES))


def _batches(
    config: Config, topic: str, since: int
) -> Iterable[list[tuple[int, int, int, float, int]]]:
    """(machine, window end, readings, score or NaN, append time), by the thousand."""
    batch = []
    for message in read_all(config, topic, since):
        record = orjson.loads(message.value() or b"{}")
        score = record["score"]
        batch.append(
            (
                _number(record["machine_id"]),
                record["window_end"],
                record["readings"],
                math.nan if score is None else score,
                message.timestamp()[1],
            )
        )
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _number(machine_id: str) -> int:
    """Of a machine of the workload; -1 for another one."""
    _, begins, digits = machine_id.partition("bench-")
    return int(digits) if begins and digits.isdigit() else -1
