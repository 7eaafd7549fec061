"""What read_committed readers must find, computed from the input alone, and what they do find."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from flink_jobs import contracts
from flink_jobs.plant import MachineType
from flink_jobs.tools.kafka import Config, Publisher, partition_counts, read_all
from flink_jobs.tools.stream import clock_reading, close_ts

Window = tuple[str, int]


@dataclass(frozen=True)
class Balance:
    """Windows by (machine, end): missing and unexpected ones, and those predicted repeatedly."""

    expected: int
    missing: set[Window]
    unexpected: set[Window]
    doubled: set[Window]

    @property
    def exact(self) -> bool:
        return not (self.missing or self.unexpected or self.doubled)

    def __str__(self) -> str:
        return (
            f"{self.expected} expected, {len(self.missing)} missing, "
            f"{len(self.unexpected)} unexpected, {len(self.doubled)} doubled"
        )


def windows_of(readings: Iterable[tuple[str, int]], kind: MachineType) -> set[Window]:
    """Every window that holds one of the readings (machine_id, ts)."""
    slide, size = kind.slide_s * 1000, kind.window_s * 1000
    # A reading belongs to the windows that end in (ts, ts + size], at multiples of the slide.
    slots = {(machine, ts // slide) for machine, ts in readings}
    return {
        (machine, (slot + step) * slide)
        for machine, slot in slots
        for step in range(1, size // slide + 1)
    }


def send(
    config: Config,
    kind: MachineType,
    readings: Sequence[tuple[str, int, Mapping[str, float | None]]],
    *,
    close: bool = True,
) -> None:
    """Send readings (machine_id, ts, values), then close event time behind the last of them."""
    topic = contracts.telemetry_topic(kind.name)
    with Publisher(config) as publisher:
        for machine, ts, values in readings:
            reading = contracts.Reading(machine, ts, values)
            publisher.send(topic, machine.encode(), contracts.encode_reading(reading))
        if close:
            end = clock_reading(close_ts(max(ts for _, ts, _ in readings), kind))
            for partition in range(partition_counts(config, [topic])[topic]):
                publisher.send(topic, contracts.CLOCK.encode(), end, partition)


def sent(config: Config, kind: MachineType, machines: set[str]) -> list[tuple[str, int]]:
    """(machine_id, ts) of every reading of the machines on the telemetry topic."""
    result = []
    for message in read_all(config, contracts.telemetry_topic(kind.name)):
        if (message.key() or b"").decode(errors="replace") in machines:
            reading = contracts.parse_reading(message.value() or b"", ())
            result.append((reading.machine_id, reading.ts))
    return result


def balance(config: Config, expected: set[Window], within_s: float) -> Balance:
    """Compare with the predictions once as many as expected are there, or time is up."""
    machines = {machine for machine, _ in expected}
    deadline = time.monotonic() + within_s
    while True:
        found: Counter[tuple[str, int, str]] = Counter()
        for message in read_all(config, contracts.PREDICTIONS):
            record = orjson.loads(message.value() or b"{}")
            if record["machine_id"] in machines:
                found[record["machine_id"], record["window_end"], record["model"]] += 1
        windows = {(machine, end) for machine, end, _ in found}
        if expected <= windows or time.monotonic() > deadline:
            doubled = {(machine, end) for (machine, end, _), n in found.items() if n > 1}
            return Balance(len(expected), expected - windows, windows - expected, doubled)
