"""Simulate pumps: seeded, physical enough to be believed, with the truth about every fault.

    python -m flink_jobs.tools.simulate --machines 200 --readings 1000000 --flat-out --close
    python -m flink_jobs.tools.simulate --machines 20 --speed 60         # until interrupted
    python -m flink_jobs.tools.simulate --readings 100000 --faults none --out out/normal.csv

A pump works where its curve meets that of its pipes; motor load, heat and vibration follow from
there. Four faults develop and are repaired: bearing wear, cavitation, overheating and a closing
valve. The channels are those of the SKAB test bench, of comparable size and noise. The same seed
gives the same bytes, and a machine's readings do not depend on how many others run.
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
from typing import IO, Final

import numpy as np
import numpy.typing as npt
import orjson

from flink_jobs import contracts
from flink_jobs.plant import load_plant
from flink_jobs.tools import cli, stream
from flink_jobs.tools.kafka import Publisher, ToolError, read_config

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
_WEAR, _CAVITATION, _OVERHEATING, _CLOSING = range(len(FAULTS))

# What each sensor can resolve, and the decimals that show it.
_RESOLUTION = np.array([1e-4, 1e-4, 1e-3, 0.05, 0.01, 0.01, 0.1, 0.1])
_DECIMALS = (4, 4, 3, 2, 2, 2, 1, 1)

_FILE_START_MS = 1_704_067_200_000  # 2024-01-01T00:00:00Z, so that files repeat byte for byte
_CHUNK = 50_000
_REPAIR_S = 20.0
_FAULTY_SHARE = 0.6
_SETTLE_READINGS = 500  # faults wait for commissioning (400 readings) and a margin


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

    ts int64 (n, M); values float64 (n, M, 8); fault int8 (n, M), an index of FAULTS or -1.
    """

    seq: int
    ts: npt.NDArray[np.int64]
    values: Array
    fault: npt.NDArray[np.int8]


class Fleet:
    """M pumps that run on from chunk to chunk."""

    def __init__(
        self,
        machines: int,
        *,
        seed: int = 1,
        start_ms: int = _FILE_START_MS,
        period_s: float = 1.0,
        faults: str = "mixed",
    ) -> None:
        """`faults` is "mixed" (six machines in ten have some, one after the other) or "none"."""
        self.ids = [f"pump-{number:03d}" for number in range(1, machines + 1)]
        self._start_ms = start_ms
        self._period_s = period_s
        self._done = 0
        seeds = [np.random.SeedSequence(seed, spawn_key=(index,)) for index in range(machines)]
        children = [one.spawn(3) for one in seeds]
        self._noise = [np.random.default_rng(child[0]) for child in children]
        traits = np.array([np.random.default_rng(child[1]).random(8) for child in children])
        self._pump = _Pump(traits)
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
        noise = np.stack([rng.standard_normal((steps, _Pump.NOISES)) for rng in self._noise], 1)
        level, fault = self._levels(ts)
        values = self._pump.run(ts, self._period_s, noise, level)
        values = np.rint(values / _RESOLUTION) * _RESOLUTION
        for channel, decimals in enumerate(_DECIMALS):
            values[..., channel] = np.round(values[..., channel], decimals)
        return Chunk(first, ts, values, fault)

    @property
    def truth(self) -> list[Fault]:
        """The faults that have begun so far, by time."""
        return sorted(self._begun.values(), key=lambda fault: (fault.begin, fault.machine_id))

    def _levels(self, ts: npt.NDArray[np.int64]) -> tuple[Array, npt.NDArray[np.int8]]:
        """How far each fault has developed, float64 (4, n, M), and the label int8 (n, M)."""
        level = np.zeros((len(FAULTS), *ts.shape))
        label = np.full(ts.shape, -1, dtype=np.int8)
        for machine, _ in enumerate(self.ids):
            own = ts[:, machine]
            while (fault := self._next[machine]) is not None and fault.begin <= own[-1]:
                self._begun[machine, fault.begin] = fault
                kind = FAULTS.index(fault.fault)
                grown = np.clip((own - fault.begin) / (fault.full - fault.begin), 0.0, 1.0)
                # Wear feeds on itself; the others grow steadily.
                grown = grown**2 if kind == _WEAR else grown
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
        at_s = _SETTLE_READINGS * self._period_s
        while True:
            gap, length, growth, severity = rng.random(4).tolist()
            begin = at_s + 60 + 1200 * gap
            end = begin + 240 + 660 * length
            full = begin + (end - begin) * (0.2 + 0.4 * growth)
            kind = FAULTS[int(rng.integers(len(FAULTS)))]
            begin_ms, full_ms, end_ms = (
                self._start_ms + round(second * 1000) for second in (begin, full, end)
            )
            severity = round(0.4 + 0.6 * severity, 3)
            yield Fault(self.ids[machine], kind, begin_ms, full_ms, end_ms, severity)
            at_s = end + 300


class _Pump:
    """The physics of M pumps, vectorised over time and machines. Units: bar, l/min, A, °C, V, g."""

    NOISES: Final = 11

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
        """Channel values float64 (n, M, 8) for ts (n, M), noise (n, M, NOISES), level (4, n, M)."""
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
    dumps, names = orjson.dumps, CHANNELS
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
    writer.writerow(["machine_id", "ts", *CHANNELS, "fault"])
    done = 0
    for chunk, size in chunks(fleet, readings):
        places = itertools.product(range(len(chunk.ts)), fleet.order)
        ts, values, fault = chunk.ts.tolist(), chunk.values.tolist(), chunk.fault.tolist()
        for step, index in itertools.islice(places, size):
            which = fault[step][index]
            label = "" if which < 0 else FAULTS[which]
            writer.writerow([fleet.ids[index], ts[step][index], *values[step][index], label])
        done += size
        progress.show(done)


def write_truth(path: Path, truth: list[Fault]) -> None:
    """The faults, one a line: CSV by that suffix, else JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(Fault.__dataclass_fields__), lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, truth))
    else:
        path.write_bytes(b"".join(orjson.dumps(fault) + b"\n" for fault in truth))


def _to_kafka(options: argparse.Namespace) -> None:
    plant = load_plant(options.plant)
    config = read_config(options.config)
    kind = plant.machine_types.get("pump")
    if kind is None:
        raise ToolError(
            f"plant {plant.name} has no machine type pump; the simulator has only pumps"
        )
    now = int(time.time() * 1000)
    live = not options.flat_out and options.speed == 1.0
    start = options.start
    if start is None:
        span_ms = int((options.readings or 0) / options.machines * options.period * 1000)
        newest = stream.event_time(config, kind, not_before=now if live else 0)
        start = stream.free_start(newest, kind, now if live else now - span_ms - stream.ROOM_MS)
        start = max(start, now) if live else start
    fleet = _fleet(options, start)
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
        stream.register(config, publisher, known)
        publisher.finish()
        progress = cli.Progress("readings sent", options.readings, quiet=options.quiet)
        speed = None if options.flat_out else options.speed
        sender = stream.Stream(publisher, lanes, speed, progress)
        try:
            sender.send(items(fleet, contracts.telemetry_topic(kind.name), options.readings))
        finally:
            write_truth(options.truth, fleet.truth)
        if options.close:
            sender.close()
    print(
        f"{sender.readings:,} readings of {len(fleet.ids)} machines delivered,"
        f" {len(fleet.truth)} faults in {options.truth}",
        file=sys.stderr,
    )


def _fleet(options: argparse.Namespace, start: int) -> Fleet:
    return Fleet(
        options.machines,
        seed=options.seed,
        start_ms=start,
        period_s=options.period,
        faults=options.faults,
    )


def simulate(options: argparse.Namespace) -> int:
    """Run to Kafka or to a file; returns the exit code."""
    if options.out:
        fleet = _fleet(options, _FILE_START_MS if options.start is None else options.start)
        write(fleet, options.out, options.readings)
        write_truth(options.truth, fleet.truth)
    else:
        _to_kafka(options)
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser("simulate", __doc__)
    parser.add_argument("--machines", type=_count, default=6, help="how many pumps (6)")
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
