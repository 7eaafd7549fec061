"""The benchmark of the stream (docs/benchmarks.md), on a test host of its own.

    python -m tests.bench.stream
    python -m tests.bench.stream --parts throughput --contestants loop plantline --readings 2000000

PLANTLINE_KEEP=1 leaves the host for the next run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from confluent_kafka import KafkaException

from flink_jobs.tools.kafka import ToolError
from tests.bench.stream import decoders, report
from tests.bench.stream import host as hosts
from tests.bench.stream.contestants import NAMES, PYTHON
from tests.bench.stream.decoders import Decoding
from tests.bench.stream.host import BenchError
from tests.bench.stream.results import TooFewError, WrongError
from tests.bench.stream.runs import LEAST_WINDOWS, Bench, Lane, Note, Size, Throughput
from tests.bench.stream.workload import Workload
from tools.hosts import HostsError

SCALE = (
    Size(1_000),
    Size(10_000),
    Size(100_000),
    # With 7 GB, and keys three times as large, it did little but collect garbage.
    Size(1_000_000, 30_000, taskmanager_memory_mb=12_000, host_memory_mb=20_480),
)
FAULTS = (BenchError, WrongError, TooFewError, ToolError, HostsError, KafkaException, OSError)
# With more it closes too few windows in the time that it has.
MOST_OF_QUIX = 10_000
# SQL without Python has no scores to be late with.
WAITED_FOR = ("loop", "loop_transactional", "plantline")


def main() -> int:
    options = _options().parse_args()
    keep = bool(os.environ.get("PLANTLINE_KEEP"))
    begin = time.monotonic()

    def note(text: str) -> None:
        print(f"bench: {time.monotonic() - begin:5.0f} s: {text}", file=sys.stderr, flush=True)

    try:
        if not PYTHON.exists():
            raise BenchError("the contestants have no .venv-bench; `make bench` makes it")
        _bench(options, note)
    except FAULTS as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except (subprocess.SubprocessError, KeyboardInterrupt) as error:
        print(f"bench: cut off: {error!r}", file=sys.stderr)
        return 1
    finally:
        if not keep:
            hosts.down()
    return 0


def _bench(options: argparse.Namespace, note: Note) -> None:
    throughput: list[Throughput] = []
    latency: list[Lane] = []
    scale: list[tuple[Size, Throughput]] = []
    decoding: list[Decoding] = []
    bench = Bench(hosts.up(options.memory_mb, note), note)
    try:
        if "decoding" in options.parts:
            decoding += decoders.measured()
        if "throughput" in options.parts:
            for machines in options.machines:
                work = Workload.of(options.readings, machines, LEAST_WINDOWS)
                names = [
                    name
                    for name in options.contestants
                    if name != "quixstreams" or machines <= MOST_OF_QUIX
                ]
                throughput += bench.throughput(work, names, options.processes, options.limit_s)
        if "latency" in options.parts:
            names = [name for name in WAITED_FOR if name in options.contestants]
            latency += bench.latency(names, options.paced_machines, options.rate, options.paced_s)
        if "scale" in options.parts:
            for size in SCALE:
                work = Workload.of(options.scale_readings, size.machines, LEAST_WINDOWS)
                bench = Bench(hosts.up(options.memory_mb, note, size.settings), note)
                scale.append((size, bench.scale(work, options.scale_limit_s)))
    finally:
        # What failed takes nothing of what was measured before it away.
        figures = throughput, latency, scale, decoding
        report.write_json(*figures)
        print(report.tables(*figures))
    if options.document:
        report.document(report.tables(*figures))


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.stream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name: str, value: int, text: str) -> None:
        parser.add_argument(name, type=int, default=value, help=f"{text} (default {value:,})")

    parser.add_argument(
        "--parts",
        nargs="+",
        choices=["throughput", "latency", "scale", "decoding"],
        default=["throughput", "latency", "decoding"],
    )
    parser.add_argument("--contestants", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument(
        "--machines", nargs="+", type=int, default=[10_000, 100_000], help="of the throughput part"
    )
    parser.add_argument(
        "--processes",
        nargs="+",
        type=int,
        choices=[1, 2],
        default=[1, 2],
        help="of the loop and of Quix Streams",
    )
    add("--readings", 24_000_000, "readings on the topic, for each number of machines")
    add("--limit-s", 180, "seconds after which a contestant is stopped and measured")
    add("--rate", 20_000, "readings per second of the latency part")
    add("--paced-machines", 10_000, "machines of the latency part")
    add("--paced-s", 110, "seconds of the latency part")
    # More than elsewhere: each size starts with other settings, and the JVM compiles anew.
    add("--scale-readings", 30_000_000, "readings of the scale part, for fewer machines")
    add("--scale-limit-s", 3_600, "seconds after which the job is stopped and measured")
    add("--memory-mb", 12_288, "the host's share of this machine's memory")
    parser.add_argument(
        "--document", action="store_true", help="put the figures into docs/benchmarks.md"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
