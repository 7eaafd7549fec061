"""Simulate machines: seeded, physical enough to be believed, with the truth about every fault.

    python -m flink_jobs.tools.simulate --machines 200 --readings 1000000 --flat-out --close
    python -m flink_jobs.tools.simulate --machines 20 --speed 60         # until interrupted
    python -m flink_jobs.tools.simulate --readings 100000 --faults none --out out/normal.csv
    python -m flink_jobs.tools.simulate --type fan --speed 60            # any type of the plant

A pump works where its curve meets that of its pipes; motor load, heat and vibration follow from
there. Four faults develop and are repaired: bearing wear, cavitation, overheating and a closing
valve. The channels are those of the SKAB test bench, of comparable size and noise. Of a machine
type with other channels nothing is known but their valid ranges: each channel wanders about a level
of its own, and a fault moves one of them away. The same seed gives the same bytes, and a machine's
readings do not depend on how many others run.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from flink_jobs import contracts, registry
from flink_jobs.plant import Channel, MachineType, Plant, load_plant
from flink_jobs.tools import cli, stream
from flink_jobs.tools.kafka import Publisher, ToolError, read_config
from flink_jobs.tools.truth import TrueFault, Truth, write_truths

Array = npt.NDArray[np.float64]

CHANNELS: Final = (
    "accelerometer1_rms",
    "accelerometer2_rms",
    "current",
    "pressure",
    "temperature",
    "thermocouple",
    "voltage",
    "volume_flow",
)
FAULTS: Final = ("wear", "cavitation", "overheating", "closing_valve")

_FILE_START_MS = 1_704_067_200_000  # 2024-01-01T00:00:00Z, so that files repeat byte for byte
_CHUNK = 50_000
_REPAIR_S = 20.0
_FAULTY_SHARE = 0.6
_COMMISSIONING = 400
_SETTLE = 1.25  # faults wait for commissioning and a margin


@dataclass(frozen=True)
class Fault:
    """A fault of one machine: it grows from `begin` to `full` and is repaired at `end` (epoch ms).

    `severity` is 0.4 to 1. This is a line of the truth file.
    """

    machine_id: str
    fault: str
    begin: int
    full: int
    end: int
    severity: float


@dataclass(frozen=True)
class Chunk:
    """Readings number `seq` and on of M machines, n each.

    ts int64 (n, M); values float64 (n, M, C); fault int8 (n, M), an index of the fleet's faults, or
    -1 for none.
    """

    seq: int
    ts: npt.NDArray[np.int64]
    values: Array
    fault: npt.NDArray[np.int8]


class Fleet:
    """M machines of one type that run on from chunk to chunk: pumps where no type is given."""

    def __init__(
        self,
        machines: int,
        kind: MachineType | None = None,
        *,
        seed: int = 1,
        start_ms: int = _FILE_START_MS,
        period_s: float = 1.0,
        faults: str = "mixed",
    ) -> None:
        """`faults` is "mixed" (six machines in ten have some, one after the other) or "none"."""
        name = kind.name if kind else "pump"
        self.ids = [f"{name}-{number:03d}" for number in range(1, machines + 1)]
        self._start_ms = start_ms
        self._period_s = period_s
        self._done = 0
        seeds = [np.random.SeedSequence(seed, spawn_key=(index,)) for index in range(machines)]
        children = [one.spawn(3) for one in seeds]
        self._noise = [np.random.default_rng(child[0]) for child in children]
        others = () if kind is None or set(kind.channel_names) <= set(CHANNELS) else kind.channels
        wanted = 8 + len(others)
        traits = np.array([np.random.default_rng(child[1]).random(wanted) for child in children])
        self._machine: _Machine = _Plain(traits, others) if others else _Pump(traits)
        self.channels = self._machine.channels
        self.faults = self._machine.faults
        commissioning = kind.commissioning_readings if kind else _COMMISSIONING
        self._settle_s = _SETTLE * commissioning * period_s
        self._phase_ms = np.floor(traits[:, 7] * period_s * 1000).astype(np.int64)
        self.order = np.argsort(self._phase_ms, kind="stable").tolist()
        self._schedules = [
            self._faults(index, np.random.default_rng(child[2])) if faults == "mixed" else iter(())
            for index, child in enumerate(children)
        ]
        self._next = [next(schedule, None) for schedule in self._schedules]
        self._begun: dict[tuple[int, int], Fault] = {}

    def run(self, steps: int) -> Chunk:
        """The next `steps` readings of every machine."""
        first = self._done
        self._done += steps
        count = np.arange(first, first + steps)
        ts = self._start_ms + (count * self._period_s * 1000).astype(np.int64)[:, None]
        ts = ts + self._phase_ms
        shape = (steps, self._machine.noises)
        noise = np.stack([rng.standard_normal(shape) for rng in self._noise], 1)
        level, fault = self._levels(ts)
        values = self._machine.run(ts, self._period_s, noise, level)
        values = np.rint(values / self._machine.resolution) * self._machine.resolution
        for channel, decimals in enumerate(self._machine.decimals):
            values[..., channel] = np.round(values[..., channel], decimals)
        return Chunk(first, ts, values, fault)

    @property
    def truth(self) -> list[Fault]:
        """The faults that have begun so far, by time."""
        return sorted(self._begun.values(), key=lambda fault: (fault.begin, fault.machine_id))

    @property
    def now(self) -> int:
        """When the next readings are due, epoch ms."""
        return self._start_ms + int(self._done * self._period_s * 1000)

    def truths(self, end: int) -> list[Truth]:
        """What is true of each machine, also of the healthy ones, from the start until `end`."""
        faults: dict[str, list[TrueFault]] = {name: [] for name in self.ids}
        for fault in self.truth:
            if fault.begin < end:
                known = TrueFault(fault.fault, fault.begin, fault.end)
                faults[fault.machine_id].append(known)
        return [Truth(name, self._start_ms, end, tuple(found)) for name, found in faults.items()]

    def _levels(self, ts: npt.NDArray[np.int64]) -> tuple[Array, npt.NDArray[np.int8]]:
        """How far each fault has developed, float64 (faults, n, M), and the label int8 (n, M)."""
        level = np.zeros((len(self.faults), *ts.shape))
        label = np.full(ts.shape, -1, dtype=np.int8)
        for machine, _ in enumerate(self.ids):
            own = ts[:, machine]
            while (fault := self._next[machine]) is not None and fault.begin <= own[-1]:
                self._begun[machine, fault.begin] = fault
                kind = self.faults.index(fault.fault)
                grown = np.clip((own - fault.begin) / (fault.full - fault.begin), 0.0, 1.0)
                # Wear feeds on itself; the others grow steadily.
                grown = grown**2 if fault.fault == "wear" else grown
                left = np.clip(1.0 - (own - fault.end) / (_REPAIR_S * 1000), 0.0, 1.0)
                level[kind, :, machine] += fault.severity * grown * left
                label[(own >= fault.begin) & (own < fault.end), machine] = kind
                if fault.end + _REPAIR_S * 1000 > own[-1]:
                    break
                self._next[machine] = next(self._schedules[machine], None)
        return level, label

    def _faults(self, machine: int, rng: np.random.Generator) -> Iterator[Fault]:
        if rng.random() >= _FAULTY_SHARE:
            return
        at_s = self._settle_s
        while True:
            gap, length, growth, severity = rng.random(4).tolist()
            begin = at_s + 60 + 1200 * gap
            end = begin + 240 + 660 * length
            full = begin + (end - begin) * (0.2 + 0.4 * growth)
            kind = self.faults[int(rng.integers(len(self.faults)))]
            begin_ms, full_ms, end_ms = (
                self._start_ms + round(second * 1000) for second in (begin, full, end)
            )
            severity = round(0.4 + 0.6 * severity, 3)
            yield Fault(self.ids[machine], kind, begin_ms, full_ms, end_ms, severity)
            at_s = end + 300


class _Machine(Protocol):
    """The physics of M machines with C channels. `resolution` (C,) is what each sensor can resolve,
    `decimals` those that show it."""

    channels: tuple[str, ...]
    faults: tuple[str, ...]
    noises: int
    resolution: Array
    decimals: tuple[int, ...]

    def run(self, ts: npt.NDArray[np.int64], period_s: float, noise: Array, level: Array) -> Array:
        """Channel values float64 (n, M, C) for ts (n, M), noise (n, M, noises) of unit variance and
        level (faults, n, M), how far each fault has developed."""


class _Plain:
    """M machines of which only the valid ranges of the channels are known."""

    def __init__(self, traits: Array, channels: tuple[Channel, ...]) -> None:
        """`traits` float64 (M, 8 + C), uniform in [0, 1): the last ones place each channel."""
        self.channels = tuple(channel.name for channel in channels)
        self.faults = tuple(f"{channel}_shift" for channel in self.channels)
        self.noises = 2 * len(channels)
        low = np.array([channel.valid_min for channel in channels])
        self._span: Array = np.array([channel.valid_max for channel in channels]) - low
        magnitude = np.floor(np.log10(self._span)).astype(int)
        self.resolution = 10.0 ** (magnitude - 4)
        self.decimals = tuple(np.maximum(4 - magnitude, 0).tolist())
        self._level = low + self._span * (0.3 + 0.4 * traits[:, 8:])
        self._slow = np.zeros((len(channels), len(traits)))

    def run(self, ts: npt.NDArray[np.int64], period_s: float, noise: Array, level: Array) -> Array:
        count = len(self.channels)
        decay = np.full((count, 1), np.exp(-period_s / 300.0))
        kicks = np.moveaxis(noise[..., :count], 2, 1) * np.sqrt(1 - decay**2)
        slow, self._slow = _follow(self._slow, decay, kicks)
        away = 0.004 * np.moveaxis(slow, 1, 2) + 0.01 * noise[..., count:]
        away += 0.2 * np.moveaxis(level, 0, 2)
        return np.asarray(self._level + self._span * away)


class _Pump:
    """The physics of M pumps, vectorised over time and machines. Units: bar, l/min, A, °C, V, g."""

    channels: tuple[str, ...] = CHANNELS
    faults: tuple[str, ...] = FAULTS
    noises = 11
    resolution = np.array([1e-4, 1e-4, 1e-3, 0.05, 0.01, 0.01, 0.1, 0.1])
    decimals: tuple[int, ...] = (4, 4, 3, 2, 2, 2, 1, 1)

    def __init__(self, traits: Array) -> None:
        """`traits` float64 (M, 8), uniform in [0, 1): what makes each pump its own."""
        size, self._current_trait, rough, warm, water, voltage, head, _ = traits.T
        self._flow = 30.0 + 95.0 * size  # at the best point
        self._head = 0.9 + 0.8 * head  # shut-off head
        self._current = 0.9 + 1.6 * (0.7 * size + 0.3 * self._current_trait)
        self._vibration1 = (0.022 + 0.19 * size) * (0.9 + 0.2 * rough)
        self._vibration2 = self._vibration1 * (1.2 + 0.3 * rough)
        self._warm = 45.0 + 14.0 * warm  # rise of the body over the room at nominal load
        self._room = 20.0 + 4.0 * water
        self._mains = 228.0 + 6.0 * voltage
        machines = len(traits)
        # Slow states: demand, mains (standard deviations), body and water temperature (°C).
        self._slow = np.zeros((2, machines))
        self._heat = np.stack([self._room + self._warm, self._room + 3.5])

    def run(self, ts: npt.NDArray[np.int64], period_s: float, noise: Array, level: Array) -> Array:
        wear, cavitation, overheating, closing = level
        white = np.moveaxis(noise, 2, 0)

        # Demand and mains wander: Ornstein-Uhlenbeck processes of unit variance.
        decay = np.exp(-period_s / np.array([[180.0], [300.0]]))
        kicks = np.moveaxis(white[:2], 0, 1) * np.sqrt(1 - decay**2)
        slow, self._slow = _follow(self._slow, decay, kicks)
        demand = 1.0 + 0.012 * slow[:, 0]
        voltage = self._mains + 1.5 * slow[:, 1]

        # Where the pump's curve meets the pipes': head = head0 - a q², head = 0.15 head0 + b q².
        # With an open valve a = 0.40 and b = 0.45 of head0, so q = 1 at the best point.
        opening = 1.0 - 0.8 * closing
        relative = demand * np.sqrt(0.85 / (0.40 + 0.45 / opening**2))
        boiling = 1.0 + 0.35 * white[2]  # vapour comes and goes
        relative = relative * (1.0 - 0.14 * cavitation * boiling)
        head = self._head * (1.0 - 0.40 * relative**2) * (1.0 - 0.10 * cavitation * boiling)
        flow = self._flow * relative

        # Shaft load: idle losses, hydraulic work over an efficiency that falls off the best point.
        efficiency = 1.0 - 0.55 * (relative - 1.0) ** 2
        load = 0.35 + 0.65 * relative * (head / (0.6 * self._head)) / efficiency
        load = load * (1.0 + 0.10 * wear + 0.05 * overheating)
        current = self._current * load * (self._mains / voltage)

        # Heat follows the losses slowly; the room follows the day, warmest in mid-afternoon.
        hour = (ts / 3_600_000.0) % 24.0
        room = self._room + 1.5 * np.sin(2 * np.pi * (hour - 9.0) / 24.0)
        body = room + self._warm * (0.3 + 0.7 * load**2) + 18.0 * overheating + 5.0 * wear
        water = room + 3.5 * (0.5 + 0.5 * load) / np.maximum(relative, 0.2) + 2.0 * overheating
        decay = np.exp(-period_s / np.array([[240.0], [420.0]]))
        heat, self._heat = _follow(self._heat, decay, np.stack([body, water], 1) * (1 - decay))

        # Off its best point the flow separates and shakes; wear knocks; cavitation crackles.
        shake = 1.0 + 0.9 * (relative - 1.0) ** 2 + 0.5 * cavitation * np.abs(boiling)
        knock = wear * (1.0 + 0.25 * np.abs(white[3]))
        vibration1 = self._vibration1 * (shake + 1.1 * knock) * np.exp(0.018 * white[4])
        vibration2 = self._vibration2 * (shake + 0.6 * knock) * np.exp(0.018 * white[5])

        return np.stack(
            [
                vibration1,
                vibration2,
                np.maximum(current + 0.16 * self._current * white[6], 0.0),
                head + 0.10 * white[7],
                heat[:, 0] + 0.10 * white[8],
                heat[:, 1] + 0.02 * white[8],
                voltage + 6.0 * white[9],
                np.maximum(flow + (0.25 + 0.008 * self._flow) * white[10], 0.0),
            ],
            axis=2,
        )


def _follow(state: Array, decay: Array, push: Array) -> tuple[Array, Array]:
    """state(t) = decay * state(t-1) + push(t) along axis 0 of push (n, K, M); all and the last."""
    states = np.empty_like(push)
    for step, kick in enumerate(push):
        state = state * decay + kick
        states[step] = state
    return states, state


def chunks(fleet: Fleet, readings: int | None) -> Iterator[tuple[Chunk, int]]:
    """Chunks and how many of their readings (by time) count, until `readings` in all."""
    machines = len(fleet.ids)
    steps = max(1, _CHUNK // machines)
    left = readings
    while left is None or left > 0:
        now = steps if left is None else min(steps, -(-left // machines))
        size = now * machines if left is None else min(now * machines, left)
        yield fleet.run(now), size
        left = None if left is None else left - size


def items(fleet: Fleet, topic: str, readings: int | None) -> Iterator[stream.Item]:
    """The readings by time, as JSON by the contract."""
    dumps, names = orjson.dumps, fleet.channels
    own = [(index, fleet.ids[index], fleet.ids[index].encode()) for index in fleet.order]
    for chunk, size in chunks(fleet, readings):
        left = size
        for seq, moments, rows in zip(
            itertools.count(chunk.seq), chunk.ts.tolist(), chunk.values.tolist(), strict=False
        ):
            for index, machine_id, key in own[:left]:
                moment = moments[index]
                record = {"machine_id": machine_id, "ts": moment, "seq": seq}
                record.update(zip(names, rows[index], strict=True))
                yield moment, topic, key, dumps(record)
            left = max(left - len(own), 0)


def write(fleet: Fleet, path: Path, readings: int) -> None:
    """Readings into a file: .csv with the fault of each row, or .jsonl as on the topic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    progress = cli.Progress(f"readings to {path}", readings)
    if path.suffix == ".jsonl":
        with path.open("wb") as file:
            for count, (_, _, _, value) in enumerate(items(fleet, "", readings)):
                file.write(value + b"\n")
                progress.show(count)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            _write_csv(fleet, file, readings, progress)
    progress.show(readings, last=True)


def _write_csv(fleet: Fleet, file: IO[str], readings: int, progress: cli.Progress) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["machine_id", "ts", *fleet.channels, "fault"])
    done = 0
    for chunk, size in chunks(fleet, readings):
        places = itertools.product(range(len(chunk.ts)), fleet.order)
        ts, values, fault = chunk.ts.tolist(), chunk.values.tolist(), chunk.fault.tolist()
        for step, index in itertools.islice(places, size):
            which = fault[step][index]
            label = "" if which < 0 else fleet.faults[which]
            writer.writerow([fleet.ids[index], ts[step][index], *values[step][index], label])
        done += size
        progress.show(done)


def write_truth(path: Path, fleet: Fleet, end: int) -> None:
    """The faults, a line each, as CSV or JSON lines; as .json what is true until `end`."""
    if path.suffix == ".json":
        write_truths(path, fleet.truths(end))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(Fault.__dataclass_fields__), lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, fleet.truth))
    else:
        path.write_bytes(b"".join(orjson.dumps(fault) + b"\n" for fault in fleet.truth))


def _kind(options: argparse.Namespace, plant: Plant) -> MachineType:
    if options.type not in plant.machine_types:
        known = ", ".join(sorted(plant.machine_types))
        raise ToolError(f"{options.plant} has no machine type {options.type!r}; use {known}")
    return plant.machine_types[options.type]


def _to_kafka(options: argparse.Namespace, plant: Plant) -> None:
    config = read_config(options.config)
    kind = _kind(options, plant)
    now = int(time.time() * 1000)
    live = not options.flat_out and options.speed == 1.0
    start = options.start
    if start is None:
        span_ms = int((options.readings or 0) / options.machines * options.period * 1000)
        newest = stream.event_time(config, kind, not_before=now if live else 0)
        start = stream.free_start(newest, kind, now if live else now - span_ms - stream.ROOM_MS)
        start = max(start, now) if live else start
    fleet = _fleet(options, kind, start)
    lanes = stream.lanes(config, dict.fromkeys(fleet.ids, kind))
    declared = {machine.machine_id: machine for machine in plant.machines}
    known = [
        contracts.registration(
            machine_id,
            kind.name,
            valid_from=0,
            line=machine.line if machine else None,
            area=machine.area if machine else None,
            installed=machine.installed if machine else None,
        )
        for machine_id, machine in ((name, declared.get(name)) for name in fleet.ids)
    ]
    with Publisher(config) as publisher:
        registry.register(config, publisher, known)
        publisher.finish()
        progress = cli.Progress("readings sent", options.readings, quiet=options.quiet)
        speed = None if options.flat_out else options.speed
        sender = stream.Stream(publisher, lanes, speed, progress)
        try:
            sender.send(items(fleet, contracts.telemetry_topic(kind.name), options.readings))
        finally:
            end = sender.last.get(contracts.telemetry_topic(kind.name), start) + 1
            write_truth(options.truth, fleet, end)
        if options.close:
            sender.close()
    print(
        f"{sender.readings:,} readings of {len(fleet.ids)} machines delivered,"
        f" {len(fleet.truth)} faults in {options.truth}",
        file=sys.stderr,
    )


def _fleet(options: argparse.Namespace, kind: MachineType, start: int) -> Fleet:
    return Fleet(
        options.machines,
        kind,
        seed=options.seed,
        start_ms=start,
        period_s=options.period,
        faults=options.faults,
    )


def simulate(options: argparse.Namespace) -> int:
    """Run to Kafka or to a file; returns the exit code."""
    plant = load_plant(options.plant)
    if options.out:
        start = _FILE_START_MS if options.start is None else options.start
        fleet = _fleet(options, _kind(options, plant), start)
        write(fleet, options.out, options.readings)
        write_truth(options.truth, fleet, fleet.now)
    else:
        _to_kafka(options, plant)
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser("simulate", __doc__)
    parser.add_argument("--type", default="pump", help="machine type of the plant model (pump)")
    parser.add_argument("--machines", type=_count, default=6, help="how many machines (6)")
    parser.add_argument("--readings", type=_count, help="in all; default: until interrupted")
    parser.add_argument("--seed", type=int, default=1, help="same seed, same bytes (1)")
    parser.add_argument("--faults", choices=["mixed", "none"], default="mixed")
    parser.add_argument(
        "--period", type=cli.positive, default=1.0, help="seconds between readings (1)"
    )
    parser.add_argument(
        "--start",
        type=cli.time_argument,
        metavar="TIME",
        help="ts of the first readings; default: now in real time, else behind the topic's event"
        " time (a week ago on a fresh topic)",
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=cli.positive, default=1.0, help="times real time (1)")
    pace.add_argument("--flat-out", action="store_true", help="as fast as Kafka takes it")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--close", action="store_true", help="end with event time past all windows")
    parser.add_argument("--out", type=Path, help="write a .csv or .jsonl file instead of to Kafka")
    parser.add_argument(
        "--truth", type=Path, default=Path("out/truth.jsonl"), help="the faults (%(default)s)"
    )
    options = parser.parse_args(argv)
    if options.readings is None and (options.out or options.flat_out):
        parser.error("--out and --flat-out need --readings")
    return cli.run(lambda: simulate(options))


if __name__ == "__main__":
    sys.exit(main())
