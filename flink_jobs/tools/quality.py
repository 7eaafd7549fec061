"""How well the running plant detects SKAB's faults, beside a T²+Q detector on the same rows.

    python -m flink_jobs.tools.quality --data DIR --config out/client.conf --out out/quality.json

Every labelled SKAB file under DIR/skab/data/*/ is sent through Kafka and Flink as a pump of its
own. The first readings of each are its normal reference; each later row takes the verdict of the
newest window that ended at or before it; counts are pooled over the files. Flagging every row
scores an F1 near .7, so F1 says nothing without FAR and MAR.

It can run again on the same plant: the pumps get new names each time, since the plant remembers a
machine's reference, and they start behind the event time of the topic, since older data is late.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from flink_jobs import contracts, registry
from flink_jobs.contracts import Prediction
from flink_jobs.evaluate import Counts, count, row_verdicts, t2q_verdicts
from flink_jobs.plant import MachineType, load_plant
from flink_jobs.tools import cli, datasets, replay, stream
from flink_jobs.tools.datasets import Series
from flink_jobs.tools.kafka import Publisher, Tail, ToolError, read_config

_TYPE = "pump"
_POLL_S = 0.5
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Result:
    """Pooled counts of our verdicts and of the baseline's, over `files` files."""

    ours: Counts
    baseline: Counts
    files: int

    def as_json(self) -> bytes:
        """F1 from 0 to 1, FAR and MAR in percent, null where undefined."""
        ours, baseline = _rates(self.ours), _rates(self.baseline)
        record = {"skab": {**ours, "files": self.files}, "t2q": baseline}
        return orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    def as_text(self) -> str:
        """A small table for people."""
        rows = [("plantline", self.ours), ("T²+Q", self.baseline)]
        lines = [f"{'':<10} {'F1':>6} {'FAR %':>7} {'MAR %':>7}"]
        lines += [f"{name:<10} {c.f1:>6.3f} {c.far:>7.1f} {c.mar:>7.1f}" for name, c in rows]
        return "\n".join(lines)


def window_ends(ts: npt.NDArray[np.int64], kind: MachineType) -> npt.NDArray[np.int64]:
    """Exclusive ends (B,), sorted, of all windows that hold one of the readings ts (n,)."""
    slide_ms = kind.slide_s * 1000
    first = np.unique(ts // slide_ms) * slide_ms
    per_reading = kind.window_s // kind.slide_s
    steps = np.arange(1, per_reading + 1, dtype=np.int64) * slide_ms
    return np.unique(first[:, None] + steps)


def judge(series: list[Series], found: dict[str, list[Prediction]], readings: int) -> Result:
    """Compare rows after the first `readings` of each labelled series with its predictions."""
    ours, baseline = Counts(), Counts()
    for one in series:
        if one.truth is None:
            raise ValueError(f"{one.machine_id} has no labels")
        predictions = found[one.machine_id]
        ends = np.array([p.window_end for p in predictions], dtype=np.int64)
        alerts = np.array([p.is_alert for p in predictions], dtype=np.bool_)
        rest = slice(readings, None)
        ours += count(row_verdicts(one.ts, ends, alerts)[rest], one.truth[rest])
        baseline += count(t2q_verdicts(one.values, readings)[rest], one.truth[rest])
    return Result(ours, baseline, len(series))


def unwindowed(one: Series, predictions: list[Prediction], kind: MachineType) -> int:
    """How many times a reading is missing from a window: 0 unless readings were late or refused."""
    per_reading = kind.window_s // kind.slide_s
    return len(one.ts) * per_reading - sum(p.readings for p in predictions)


def collect(
    tail: Tail, expected: dict[str, npt.NDArray[np.int64]], timeout_s: float
) -> dict[str, list[Prediction]]:
    """The predictions of the expected windows {machine_id: ends}.

    Raises ToolError when none came for `timeout_s`, or when a window was predicted twice.
    """
    total = sum(len(ends) for ends in expected.values())
    missing = {(name, end) for name, ends in expected.items() for end in ends.tolist()}
    found: dict[str, list[Prediction]] = {name: [] for name in expected}
    progress = cli.Progress("windows predicted", total)
    newest = time.monotonic()
    while missing:
        for message in tail.read(_POLL_S):
            prediction = contracts.parse_prediction(message.value() or b"")
            if prediction.machine_id not in expected or prediction.kind != "anomaly":
                continue
            window = (prediction.machine_id, prediction.window_end)
            if window not in missing:
                raise ToolError(f"the window of {window[0]} ending at {window[1]} came twice")
            missing.discard(window)
            found[prediction.machine_id].append(prediction)
            newest = time.monotonic()
        progress.show(total - len(missing))
        if time.monotonic() - newest > timeout_s:
            raise ToolError(
                f"{len(missing):,} of {total:,} windows were not predicted, and none came for"
                f" {timeout_s:.0f} s; is the job plantline-anomaly-{_TYPE} running?"
            )
    progress.show(total, last=True)
    return found


def labelled(series: list[Series], readings: int) -> list[Series]:
    """The series that can be judged; says which cannot. Raises ToolError where none can."""
    usable = []
    for one in series:
        if one.truth is None:
            print(f"{one.source}: no labels, left out", file=sys.stderr)
        elif len(one.ts) <= readings:
            print(f"{one.source}: {len(one.ts)} rows, all reference, left out", file=sys.stderr)
        else:
            usable.append(one)
    if not usable:
        raise ToolError("no labelled SKAB file is longer than the normal reference")
    return usable


def quality(options: argparse.Namespace) -> int:
    """Send, wait, judge, write; returns the exit code."""
    plant = load_plant(options.plant)
    kind = plant.machine_types.get(_TYPE)
    if kind is None:
        raise ToolError(f"plant {plant.name} has no machine type {_TYPE}")
    config = read_config(options.config)
    series = labelled(datasets.load_skab(options.data), kind.commissioning_readings)
    mark = run_mark(time.time())
    series = [one.renamed(f"{one.machine_id[:100]}-q{mark}") for one in series]
    earliest = min(int(one.ts[0]) for one in series)
    start = stream.free_start(stream.event_time(config, kind), kind, earliest)
    series = replay.aligned(series, start)
    expected = {one.machine_id: window_ends(one.ts, kind) for one in series}
    total = sum(len(one.ts) for one in series)
    print(f"{len(series)} files, {total:,} readings from {cli.shown_time(start)}", file=sys.stderr)

    lanes = stream.lanes(config, dict.fromkeys(expected, kind))
    with Tail(config, [contracts.PREDICTIONS]) as tail:
        with Publisher(config) as publisher:
            registry.register(config, publisher, replay.registrations(series, plant))
            publisher.finish()
            progress = cli.Progress("readings sent", total)
            sender = stream.Stream(publisher, lanes, None, progress)
            sender.send(replay.merged(series))
            sender.close()
        if sender.readings < total:
            raise KeyboardInterrupt
        found = collect(tail, expected, options.timeout)

    lost = sum(unwindowed(one, found[one.machine_id], kind) for one in series)
    if lost:
        raise ToolError(f"readings are missing from windows ({lost} times): late or dead letters")
    result = judge(series, found, kind.commissioning_readings)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(result.as_json())
    print(f"SKAB, {result.files} files through Kafka and Flink (written to {options.out})")
    print(result.as_text())
    return 0


def run_mark(now_s: float) -> str:
    """A short name that no other run has: the time to the second, base 36."""
    number, text = int(now_s), ""
    while number:
        number, digit = divmod(number, len(_ALPHABET))
        text = _ALPHABET[digit] + text
    return text


def _rates(counts: Counts) -> dict[str, float | None]:
    rates = {"f1": counts.f1, "far": counts.far, "mar": counts.mar}
    return {name: None if math.isnan(rate) else round(rate, 4) for name, rate in rates.items()}


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser("quality", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds skab/data")
    parser.add_argument("--out", type=Path, default=Path("out/quality.json"), help="(%(default)s)")
    parser.add_argument(
        "--timeout", type=cli.positive, default=180.0, help="seconds without a new window (180)"
    )
    options = parser.parse_args(argv)
    return cli.run(lambda: quality(options))


if __name__ == "__main__":
    sys.exit(main())
