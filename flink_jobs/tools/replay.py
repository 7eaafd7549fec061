"""Replay a public data set into the plant's topics.

    python -m flink_jobs.tools.replay DATA --config out/client.conf [--speed 60 | --flat-out]
        [--align [TIME|now|start]] [--machines GLOB ...] [--limit N] [--close]

Machines are registered, then their readings (and errors, maintenance, failures where the set has
them) are sent merged by time. Event time of a topic only moves forward: data older than what the
topic has seen is late and ends as dead letters. `--align now` starts all machines together right
behind the present event time of their topic.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import orjson

from flink_jobs import contracts, registry
from flink_jobs.plant import MachineType, Plant, load_plant
from flink_jobs.tools import cli, datasets, stream
from flink_jobs.tools.datasets import Series
from flink_jobs.tools.kafka import Publisher, ToolError, read_config
from flink_jobs.tools.truth import Truth, from_labels, write_truths

_CHUNK = 20_000
_NOW = "now"
_START = "start"
_SHOWN_IDS = 5


def select(series: list[Series], patterns: list[str]) -> list[Series]:
    """The machines whose id matches one of the globs, all without a glob. Raises ToolError."""
    chosen = [
        one
        for one in series
        if not patterns or any(fnmatchcase(one.machine_id, pattern) for pattern in patterns)
    ]
    if not chosen:
        ids = [one.machine_id for one in series]
        shown = ", ".join(ids[:_SHOWN_IDS]) + (", …" if len(ids) > _SHOWN_IDS else "")
        raise ToolError(f"no machine matches {' '.join(patterns)}; there are {shown}")
    return chosen


def machine_types(series: list[Series], plant: Plant) -> dict[str, MachineType]:
    """The declared type of each machine. Raises ToolError where the plant has no such type."""
    missing = sorted({one.machine_type for one in series} - set(plant.machine_types))
    if missing:
        raise ToolError(
            f"plant {plant.name} has no machine type {', '.join(missing)}; declare it in plant.yml"
            " and run site.yml, or choose machines with --machines"
        )
    return {one.machine_id: plant.machine_types[one.machine_type] for one in series}


def aligned(series: list[Series], start: int) -> list[Series]:
    """The machines on clocks shifted so that each one's first reading is at `start`."""
    return [one.shifted(start - int(one.ts[0])) for one in series]


def merged(series: list[Series], limit: int | None = None) -> Iterator[stream.Item]:
    """All readings and records by time, at one time in the order of the series; `limit` readings.

    Encoded in chunks, so that a large set is not held twice.
    """
    ts = np.concatenate([one.ts for one in series])
    owner = np.repeat(np.arange(len(series)), [len(one.ts) for one in series])
    order = np.argsort(ts, kind="stable")[:limit]
    topics = [contracts.telemetry_topic(one.machine_type) for one in series]
    keys = [one.machine_id.encode() for one in series]
    records = sorted((r for one in series for r in one.records), key=lambda record: record.ts)
    sent = [0] * len(series)
    position = 0
    for begin in range(0, len(order), _CHUNK):
        part = order[begin : begin + _CHUNK]
        owners = owner[part]
        counts = np.bincount(owners, minlength=len(series)).tolist()
        encoded = [
            iter(one.encoded(done, done + count))
            for one, done, count in zip(series, sent, counts, strict=True)
        ]
        sent = [done + count for done, count in zip(sent, counts, strict=True)]
        for moment, which in zip(ts[part].tolist(), owners.tolist(), strict=True):
            while position < len(records) and records[position].ts <= moment:
                yield _record_item(records[position])
                position += 1
            yield moment, topics[which], keys[which], next(encoded[which])
    if limit is None:
        yield from map(_record_item, records[position:])


def _record_item(record: datasets.Record) -> stream.Item:
    value = orjson.dumps(record.value)
    return record.ts, record.topic, record.machine_id.encode(), value


def registrations(series: list[Series], plant: Plant) -> list[dict[str, object]]:
    """What topic `machines` should know: each machine from its first reading or record on."""
    declared = {machine.machine_id: machine for machine in plant.machines}
    result: list[dict[str, object]] = []
    for one in series:
        first = min([int(one.ts[0]), *(record.ts for record in one.records)])
        machine = declared.get(one.machine_id)
        result.append(
            contracts.registration(
                one.machine_id,
                one.machine_type,
                valid_from=0 if machine else first,
                line=machine.line if machine else None,
                area=machine.area if machine else None,
                installed=machine.installed if machine else None,
            )
        )
    return result


def truths(series: list[Series], last: dict[str, int]) -> list[Truth]:
    """What the labels say of machines that have some, up to the `last` ts sent, by topic."""
    known = []
    for one in series:
        end = last.get(contracts.telemetry_topic(one.machine_type), -1) + 1
        if one.truth is not None and one.ts[0] < end:
            known.append(from_labels(one.machine_id, one.ts, one.truth).until(end))
    return known


def _placed(series: list[Series], options: argparse.Namespace, plant: Plant) -> list[Series]:
    config = read_config(options.config)
    earliest = min(int(one.ts[0]) for one in series)
    kinds = {kind.name: kind for kind in machine_types(series, plant).values()}
    newest = {name: stream.event_time(config, kind) for name, kind in kinds.items()}
    if options.align == _NOW:
        start = max(stream.free_start(newest[name], kind, earliest) for name, kind in kinds.items())
        return aligned(series, start)
    if options.align is not None:
        series = aligned(series, earliest if options.align == _START else options.align)
    for name, moment in newest.items():
        behind = sum(
            int(np.count_nonzero(one.ts < moment - kinds[name].max_disorder_s * 1000))
            for one in series
            if moment is not None and one.machine_type == name
        )
        if moment is not None and behind:
            print(
                f"warning: event time of telemetry.{name} already stands at"
                f" {cli.shown_time(moment)}: {behind:,} readings are behind it and will be late;"
                " --align now starts behind it",
                file=sys.stderr,
            )
    return series


def replay(options: argparse.Namespace) -> int:
    """Read, place, register and send; returns the exit code."""
    plant = load_plant(options.plant)
    config = read_config(options.config)
    series = select(datasets.load(options.data), options.machines)
    kinds = machine_types(series, plant)
    lanes = stream.lanes(config, kinds)
    series = _placed(series, options, plant)
    total = sum(len(one.ts) for one in series)
    if any(one.synthetic_clock for one in series):
        print("note: this set has no dates; its clock is synthetic", file=sys.stderr)
    begin = min(int(one.ts[0]) for one in series)
    print(
        f"{len(series)} machines, {total:,} readings from {cli.shown_time(begin)}", file=sys.stderr
    )
    with Publisher(config) as publisher:
        registry.register(config, publisher, registrations(series, plant))
        publisher.finish()
        total = min(total, options.limit or total)
        progress = cli.Progress("readings sent", total, quiet=options.quiet)
        speed = None if options.flat_out else options.speed
        sender = stream.Stream(publisher, lanes, speed, progress)
        sender.send(merged(series, options.limit))
        if options.truth:
            write_truths(options.truth, truths(series, sender.last))
        if options.close:
            sender.close()
    print(f"{sender.readings:,} records delivered", file=sys.stderr)
    return 0


def _align_argument(text: str) -> int | str:
    return text if text in {_NOW, _START} else cli.time_argument(text)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser("replay", __doc__)
    parser.add_argument("data", type=Path, help="a file or folder of a known data set")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=cli.positive, default=60.0, help="times real time (60)")
    pace.add_argument("--flat-out", action="store_true", help="as fast as Kafka takes it")
    parser.add_argument(
        "--align",
        nargs="?",
        const=_START,
        type=_align_argument,
        metavar="TIME|now|start",
        help="start all machines together: at TIME, behind the topic's event time (now), or at the"
        " earliest of their own starts (start; the default)",
    )
    parser.add_argument("--machines", nargs="+", default=[], metavar="GLOB", help="only these")
    parser.add_argument("--limit", type=int, help="at most so many readings")
    parser.add_argument(
        "--truth", type=Path, metavar="FILE.json", help="write the set's labels, for report"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--close", action="store_true", help="end with event time past all windows")
    options = parser.parse_args(argv)
    return cli.run(lambda: replay(options))


if __name__ == "__main__":
    sys.exit(main())
