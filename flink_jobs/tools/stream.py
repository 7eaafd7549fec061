"""Sends time-ordered readings: paced, guarded, with event time kept moving.

Event time of a topic only moves forward, so data that lies behind it is late whatever one does.
`event_time` finds where a topic stands and `free_start` where the next run can begin.

Nothing is sent further ahead of the wall clock than the plant model allows a machine's clock to be
(such readings would be dead letters): a stream that gets there waits for the wall clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from flink_jobs import contracts
from flink_jobs.plant import MachineType
from flink_jobs.tools.cli import Progress, shown_time
from flink_jobs.tools.kafka import (
    ANY,
    Config,
    Publisher,
    ToolError,
    partition_counts,
    partition_of,
    read_all,
)

# (ts, topic, key, value), by time
Item = tuple[int, str, bytes, bytes]

# What does not follow the wall clock begins this long ago on a fresh topic, so that later runs find
# room behind it.
ROOM_MS = 7 * 86_400_000

_STEP_S = 0.05
_WAIT_S = 0.25
_DAY_MS = 86_400_000
# How much of max_clock_ahead is used: the brokers' clocks are not quite ours.
_AHEAD_SHARE = 0.8


@dataclass(frozen=True)
class Lane:
    """One telemetry topic during one run.

    The run speaks for partitions where none of its machines does (any more): readings of `_clock`
    follow its event time there, so that they do not hold the windows of the others back until
    idle_timeout.
    """

    kind: MachineType
    topic: str
    partitions: int


def lanes(config: Config, machines: dict[str, MachineType]) -> dict[str, Lane]:
    """A run's lanes by topic, from {machine_id: type}. Raises ToolError for a missing topic."""
    kinds = {contracts.telemetry_topic(kind.name): kind for kind in machines.values()}
    counts = partition_counts(config, sorted(kinds))
    return {topic: Lane(kinds[topic], topic, count) for topic, count in counts.items()}


def event_time(config: Config, kind: MachineType, not_before: int = 0) -> int | None:
    """The newest ts on a type's telemetry topic that can have moved event time; None if empty.

    Reads the whole topic: the end alone would not do after a replay of older data. A caller that
    only cares about times from `not_before` (epoch ms) on is answered sooner.
    """
    topic = contracts.telemetry_topic(kind.name)
    progress = Progress(f"event time of {topic}: readings looked at")
    ahead_ms = int(kind.max_clock_ahead_s * 1000)
    newest: int | None = None
    for count, message in enumerate(read_all(config, topic, max(not_before - ahead_ms, 0))):
        ts = _ts(message.value())
        if ts is not None and (newest is None or ts > newest):
            appended = message.timestamp()[1]
            if ts <= appended + ahead_ms:
                newest = ts
        progress.show(count)
    return newest


def free_start(newest: int | None, kind: MachineType, earliest: int) -> int:
    """Where a run can begin without being late: on a window boundary behind `newest`.

    It is not before the window that holds `earliest`. On the boundary a run's windows cut its data
    the same way each time.
    """
    window_ms = kind.window_s * 1000
    behind = earliest if newest is None else max(newest + window_ms, earliest)
    return behind // window_ms * window_ms


def close_ts(last: int, kind: MachineType) -> int:
    """The ts of `_clock` that moves the watermark past every window holding a reading at `last`."""
    return last + int((kind.window_s + kind.max_disorder_s + 1) * 1000)


def clock_reading(ts: int) -> bytes:
    """A reading of the reserved machine `_clock`."""
    return contracts.encode_reading(contracts.Reading(contracts.CLOCK, ts, {}))


class Stream:
    """Sends items by time at `speed` times real time, or flat out where `speed` is None."""

    def __init__(
        self,
        publisher: Publisher,
        lanes: dict[str, Lane],
        speed: float | None,
        progress: Progress,
    ) -> None:
        self.readings = 0
        self.last: dict[str, int] = {}
        self._publisher = publisher
        self._lanes = lanes
        self._speed = speed
        self._progress = progress
        self._ahead_ms = int(min(lane.kind.max_clock_ahead_s for lane in lanes.values()) * 1000)
        self._tick_ms = min(max(lane.kind.slide_s * 100, 1000) for lane in lanes.values())
        self._next_tick = 0
        # Who has spoken since the last tick, by topic.
        self._spoken: dict[str, set[bytes]] = {topic: set() for topic in lanes}
        self._begin: tuple[float, int] | None = None

    def send(self, items: Iterable[Item]) -> None:
        """Send all items. An interrupt ends it early; what was queued is still delivered."""
        publish, last, spoken = self._publisher.send, self.last, self._spoken
        stop = 0
        try:
            for ts, topic, key, value in items:
                if ts >= stop:
                    stop = self._reach(ts)
                publish(topic, key, value, ANY)
                if topic in spoken:
                    spoken[topic].add(key)
                last[topic] = ts
                self.readings += 1
        except KeyboardInterrupt:
            self._progress.show(self.readings, "interrupted", last=True)
            return
        self._progress.show(self.readings, last=True)

    def close(self) -> None:
        """Move event time past the last window on every partition."""
        for topic, lane in self._lanes.items():
            if topic not in self.last:
                continue
            ts = close_ts(self.last[topic], lane.kind)
            self._wait_for_wall_clock(ts)
            for partition in range(lane.partitions):
                self._publisher.send(topic, contracts.CLOCK.encode(), clock_reading(ts), partition)

    def _reach(self, ts: int) -> int:
        """Wait until `ts` is due, tick silent partitions; returns the ts at which to call again."""
        if self._begin is None:
            self._begin = (time.monotonic(), ts)
        step_ms = self._tick_ms
        if self._speed is not None:
            wall, first = self._begin
            self._sleep_until(wall + (ts - first) / 1000 / self._speed)
            step_ms = min(step_ms, max(1, int(self._speed * _STEP_S * 1000)))
        self._wait_for_wall_clock(ts)
        if ts >= self._next_tick:
            self._next_tick = ts + self._tick_ms
            for lane in self._lanes.values():
                self._tick_silent(lane, ts)
        self._progress.show(self.readings, f"at {shown_time(ts)}")
        return ts + step_ms

    def _tick_silent(self, lane: Lane, ts: int) -> None:
        keys = self._spoken[lane.topic]
        heard = {partition_of(key, lane.partitions) for key in keys}
        keys.clear()
        for partition in set(range(lane.partitions)) - heard:
            self._publisher.send(lane.topic, contracts.CLOCK.encode(), clock_reading(ts), partition)

    def _sleep_until(self, due: float) -> None:
        while (remaining := due - time.monotonic()) > 0:
            self._publisher.poll()
            self._progress.show(self.readings)
            time.sleep(min(remaining, _WAIT_S))

    def _wait_for_wall_clock(self, ts: int) -> None:
        allowed = ts - int(self._ahead_ms * _AHEAD_SHARE)
        now = time.time() * 1000
        if allowed > now + _DAY_MS:
            raise ToolError(f"the data reaches {shown_time(ts)}, which is in the future")
        while (remaining := allowed / 1000 - time.time()) > 0:
            self._publisher.poll()
            self._progress.show(self.readings, f"waiting {remaining:.0f} s for the wall clock")
            time.sleep(min(remaining, _WAIT_S))


def _ts(raw: bytes | None) -> int | None:
    try:
        ts = orjson.loads(raw or b"")["ts"]
    except (ValueError, KeyError, TypeError):
        return None
    return ts if type(ts) is int else None
