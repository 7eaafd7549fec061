"""What is sent: readings of many machines, made by the thousand, and the same for all contestants.

All records have the same length, so a batch of them is a table of bytes into which figures are
written column by column. Values scatter evenly about a level of each machine's own: nothing is for
cleaning to repair, whose cost the job has all the same, so that scores can be compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flink_jobs import contracts
from flink_jobs.plant import MachineType
from flink_jobs.tools.cli import Progress
from flink_jobs.tools.kafka import Config, Publisher, ToolError, murmur2, partition_counts
from flink_jobs.tools.stream import clock_reading, close_ts

CHANNELS = ("pressure", "temperature", "current", "vibration")
MACHINE_TYPE = "bench"
WINDOW_S = 10
COMMISSIONING_READINGS = 20
PARTITIONS = 4
# Of the first channel; values of usual readings stay below 72.
LIMIT = 95.0
ABOVE_LIMIT = 97.0

# 2024-01-01T00:00:00Z: a window begins there.
START_MS = 1_704_067_200_000

_RECORD = (
    b'{"machine_id":"bench-0000000","ts":0000000000000,"seq":1000000,'
    b'"pressure":00.000,"temperature":00.000,"current":00.000,"vibration":00.000}'
)
_LENGTH = len(_RECORD)
_ID_DIGITS = 7
_ID = _RECORD.index(b"bench-") + len(b"bench-")
_TS = _RECORD.index(b'"ts":') + len(b'"ts":')
_SEQ = _RECORD.index(b'"seq":') + len(b'"seq":')
_VALUES = [_RECORD.index(f'"{name}":'.encode()) + len(name) + 3 for name in CHANNELS]
_FIRST_SEQ = 1_000_000  # of seven digits, as no number of JSON begins with 0

# All in thousandths.
_LOWEST_LEVEL, _HIGHEST_LEVEL = 30_000, 70_000
_SCATTER = 1_000

_TWO = np.array([list(b"%02d" % number) for number in range(100)], dtype=np.uint8)
_THREE = np.array([list(b"%03d" % number) for number in range(1000)], dtype=np.uint8)
_CHUNK = 50_000

_STEP_S = 0.02
_CROSSING_EVERY = 2  # steps
_CHECK_EVERY = 250

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Workload:
    """M machines at 1 Hz for whole windows."""

    machines: int
    seconds: int

    @classmethod
    def of(cls, readings: int, machines: int, least_windows: int) -> Workload:
        """About as many readings as asked for, but at least so many windows of each machine."""
        windows = max(readings // (machines * WINDOW_S), least_windows)
        return cls(machines, windows * WINDOW_S)

    @property
    def readings(self) -> int:
        return self.machines * self.seconds

    @property
    def slices(self) -> int:
        """Windows of each machine."""
        return self.seconds // WINDOW_S


class Readings:
    """Makes records. The same seed and the same calls give the same bytes."""

    def __init__(self, machines: int, partitions: int, seed: int = 1) -> None:
        """Raises ValueError for more machines than ids have room for."""
        if machines > 10**_ID_DIGITS:
            raise ValueError(f"{machines} machines; ids have {_ID_DIGITS} digits")
        self.keys = [b"bench-%07d" % number for number in range(machines)]
        self.partitions = [(murmur2(key) & 0x7FFFFFFF) % partitions for key in self.keys]
        self._random = np.random.default_rng(seed)
        self._level = self._random.integers(
            _LOWEST_LEVEL, _HIGHEST_LEVEL, (machines, len(CHANNELS))
        )
        self._table = np.tile(np.frombuffer(_RECORD, dtype=np.uint8), (machines, 1))
        _write(self._table[:, _ID:], np.arange(machines), _ID_DIGITS)

    def chunks(self) -> Iterator[slice]:
        """All machines, some at a time."""
        for first in range(0, len(self.keys), _CHUNK):
            yield slice(first, min(first + _CHUNK, len(self.keys)))

    def at(
        self, rows: slice, ts: Integers, seq: int, above: NDArray[np.intp] | None = None
    ) -> list[bytes]:
        """A record of each of these machines at ts (n,) epoch ms.

        above: rows, counted from the first of these, whose first channel is above its limit.
        """
        table = self._table[rows]
        _write(table[:, _TS:], ts, 13)
        _write(table[:, _SEQ:], np.array([_FIRST_SEQ + seq]), 7)
        away = self._random.integers(-_SCATTER, _SCATTER + 1, (len(table), len(CHANNELS)))
        values = self._level[rows] + away
        if above is not None:
            # They scatter there as well: a value that stays would be that of a stuck sensor.
            values[above, 0] = round(1000 * ABOVE_LIMIT) + away[above, 0]
        for place, column in zip(_VALUES, values.T, strict=True):
            table[:, place : place + 2] = _TWO[column // 1000]
            table[:, place + 3 : place + 6] = _THREE[column % 1000]
        block = table.tobytes()
        return [block[begin : begin + _LENGTH] for begin in range(0, len(block), _LENGTH)]


def _write(place: NDArray[np.uint8], numbers: NDArray[np.integer[Any]], digits: int) -> None:
    """Writes numbers (n,) with leading zeros to the first columns of place (n, …)."""
    for column in range(digits - 3, -3, -3):
        first = max(column, 0)
        three = _THREE[numbers % 1000]
        place[:, first : column + 3] = three[:, first - column :]
        numbers = numbers // 1000


def fill(config: Config, kind: MachineType, work: Workload) -> None:
    """Writes the readings to the telemetry topic, all machines second by second, and `_clock`.

    Raises ToolError where a record is not taken, or the topic has another number of partitions.
    """
    topic = contracts.telemetry_topic(kind.name)
    found = partition_counts(config, [topic])[topic]
    if found != PARTITIONS:
        raise ToolError(f"{topic} has {found} partitions in place of {PARTITIONS}")
    readings = Readings(work.machines, PARTITIONS)
    # A machine speaks at its own moment of each second, so that times rise along a partition.
    phase = np.arange(work.machines) * 1000 // work.machines
    progress = Progress(f"readings of {work.machines:,} machines", work.readings)
    with Publisher(config) as publisher:
        send = publisher.send
        for second in range(work.seconds):
            for rows in readings.chunks():
                records = readings.at(rows, START_MS + 1000 * second + phase[rows], second)
                for key, record, partition in zip(
                    readings.keys[rows], records, readings.partitions[rows], strict=True
                ):
                    send(topic, key, record, partition)
            progress.show((second + 1) * work.machines)
        _close(publisher, kind, START_MS + 1000 * work.seconds)
    progress.show(work.readings, last=True)


@dataclass(frozen=True)
class Paced:
    """What was sent at its time: event time was the wall clock's.

    begin, end: epoch ms. crossings: (machine_id, ts) of readings that crossed the limit.
    """

    begin: int
    end: int
    crossings: frozenset[tuple[str, int]]


def pace(
    config: Config,
    kind: MachineType,
    machines: int,
    per_second: int,
    seconds: float,
    check: Callable[[], None],
) -> Paced:
    """Sends `per_second` readings, evenly, each with the time at which it is sent.

    Some machines cross the limit, and stay above it for as long as a window, which is no outlier
    to be repaired: the model sees it, too. `check` is called every few seconds, and may raise.
    """
    topic = contracts.telemetry_topic(kind.name)
    readings = Readings(machines, PARTITIONS)
    step = round(per_second * _STEP_S)
    if step < 1 or machines % step:
        raise ToolError(f"{machines} machines cannot speak {step} at a time")
    round_of_all = machines // step
    stay = round(WINDOW_S / _STEP_S / round_of_all)
    if not 0 < stay < step:
        raise ToolError(f"{step} machines cannot take turns of {stay} readings above the limit")
    crossings = set()
    begin = time.time()
    steps = round(seconds / _STEP_S)
    with Publisher({**config, "linger.ms": "1"}) as publisher:
        for number in range(steps):
            due = begin + number * _STEP_S
            while (left := due - time.time()) > 0:
                publisher.poll()
                time.sleep(min(left, _STEP_S))
            ts = round(due * 1000)
            first = number % round_of_all * step
            rows = slice(first, first + step)
            # Another machine of the step each time around, beside those that are still above.
            begun = range(number, max(number - stay * round_of_all, -1), -round_of_all)
            turns = [one // round_of_all % step for one in begun if one % _CROSSING_EVERY == 0]
            if number % _CROSSING_EVERY == 0:
                crossings.add((readings.keys[first + turns[0]].decode(), ts))
            above = np.array(turns, dtype=np.intp)
            records = readings.at(rows, np.full(step, ts), number // round_of_all, above)
            for key, record, partition in zip(
                readings.keys[rows], records, readings.partitions[rows], strict=True
            ):
                publisher.send(topic, key, record, partition)
            publisher.poll()
            if number % _CHECK_EVERY == 0:
                check()
        end = round((begin + steps * _STEP_S) * 1000)
        _close(publisher, kind, end)
    return Paced(round(begin * 1000), end, frozenset(crossings))


def _close(publisher: Publisher, kind: MachineType, last: int) -> None:
    """Moves event time past the last window on all partitions."""
    for partition in range(PARTITIONS):
        record = clock_reading(close_ts(last, kind))
        publisher.send(
            contracts.telemetry_topic(kind.name), contracts.CLOCK.encode(), record, partition
        )
