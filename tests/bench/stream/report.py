"""Figures as JSON, as a table on the terminal, and as the same table in the documentation."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from tests.bench.stream.contestants import PYTHON
from tests.bench.stream.decoders import Decoding
from tests.bench.stream.host import ROOT
from tests.bench.stream.results import PERCENTILES
from tests.bench.stream.runs import Lane, Size, Throughput

FILE = ROOT / "out" / "bench.json"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: make bench -->", "<!-- end of figures -->"

_LIBRARIES = ("quixstreams", "confluent-kafka", "orjson", "numpy", "onnxruntime")
# What the job is to reach of each contestant's throughput.
TARGETS = {"loop_transactional": 1.25, "quixstreams": 8.0, "sql_without_python": 0.8}
# By how much it may fall from few to many machines.
FEW, MANY, MOST_FALL_PERCENT = 10_000, 1_000_000, 30
_MB_PER_KB = 1 / 1024


def about() -> dict[str, Any]:
    """The machine and the versions."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    program = (
        "import importlib.metadata as m, json, sys;"
        "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    )
    libraries = subprocess.run(
        [PYTHON, "-c", program, *_LIBRARIES], capture_output=True, text=True, check=True
    )
    roles = {
        name: yaml.safe_load((ROOT / "roles" / name / "defaults" / "main.yml").read_text())
        for name in ("kafka", "flink")
    }
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory[1]) * _MB_PER_KB / 1024) if memory else None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: roles[name][f"{name}_version"] for name in roles},
        **json.loads(libraries.stdout),
    }


def best(rows: Iterable[Throughput]) -> list[Throughput]:
    """Of each contestant and number of machines the fastest run, in the order of the runs."""
    found: dict[tuple[int, str], Throughput] = {}
    for row in rows:
        key = (row.machines, row.contestant)
        if key not in found or row.readings_per_s > found[key].readings_per_s:
            found[key] = row
    return list(found.values())


def write_json(
    throughput: Sequence[Throughput],
    latency: Sequence[Lane],
    scale: Sequence[tuple[Size, Throughput]],
    decoding: Sequence[Decoding],
) -> None:
    """out/bench.json: of each contestant its fastest run."""
    content = {
        "about": about(),
        "throughput": [_rounded(asdict(row)) for row in best(throughput)],
        "latency": [
            {
                "contestant": lane.contestant,
                "what": lane.what,
                "count": lane.latency.count,
                **{
                    f"p{percent}_ms": round(value, 1)
                    for percent, value in zip(PERCENTILES, lane.latency.percentiles, strict=True)
                },
            }
            for lane in latency
        ],
        "scale": [_rounded(asdict(size) | asdict(row)) for size, row in scale],
        "decoding": [_rounded(asdict(row)) for row in decoding],
    }
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def tables(
    throughput: Sequence[Throughput],
    latency: Sequence[Lane],
    scale: Sequence[tuple[Size, Throughput]],
    decoding: Sequence[Decoding],
) -> str:
    """All figures as Markdown, which reads well on a terminal, too."""
    parts = []
    for machines in dict.fromkeys(row.machines for row in throughput):
        rows = [row for row in throughput if row.machines == machines]
        parts += [f"**Throughput, {machines:,} machines**", _table(map(_of_throughput, rows))]
        if not all(row.whole for row in rows):
            parts.append("\\* stopped before the end, and measured on what it had done.")
        if ratios := _ratios(rows):
            parts.append(ratios)
    if latency:
        parts += ["**Latency, ms**", _table(map(_of_latency, latency))]
    if scale:
        parts += [
            "**Scale: the job with ever more machines**",
            _table(itertools.starmap(_of_scale, scale)),
            *_fall(row for _, row in scale),
        ]
    if decoding:
        parts += ["**Decoding**", _table(map(_of_decoding, decoding))]
    return "\n\n".join(parts)


def document(figures: str) -> None:
    """Puts the figures and the machine into docs/benchmarks.md; ValueError without the markers."""
    known = about()
    machine = (
        f"{known['date']}: {known['processor']}, {known['cores']} cores,"
        f" {known['memory_gb']} GB of memory. Kafka {known['kafka']}, Flink {known['flink']},"
        f" Python {known['python']}; "
        + ", ".join(f"{name} {known[name]}" for name in _LIBRARIES)
        + "."
    )
    page = inserted(PAGE.read_text(encoding="utf-8"), f"{machine}\n\n{figures}")
    PAGE.write_text(page, encoding="utf-8")


def inserted(page: str, figures: str) -> str:
    """The page with other figures between its markers; ValueError if they are not there."""
    before, begins, rest = page.partition(BEGIN)
    _, ends, after = rest.partition(END)
    if not begins or not ends:
        raise ValueError(f"{PAGE} has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def _ratios(rows: Sequence[Throughput]) -> str:
    """What the job reaches of the others."""
    fastest = {row.contestant: row.readings_per_s for row in best(rows)}
    if "plantline" not in fastest:
        return ""
    parts = [
        f"{fastest['plantline'] / fastest[name]:.2f} times {name} (target {target:g})"
        for name, target in TARGETS.items()
        if name in fastest
    ]
    return f"plantline is {', '.join(parts)}." if parts else ""


def _fall(rows: Iterable[Throughput]) -> Iterator[str]:
    """How much slower the largest number of machines is, if it was measured."""
    speeds = {row.machines: row.readings_per_s for row in rows}
    if speeds.keys() >= {FEW, MANY}:
        yield (
            f"From {FEW:,} to {MANY:,} machines throughput changes by"
            f" {100 * (speeds[MANY] / speeds[FEW] - 1):+.0f} % (target -{MOST_FALL_PERCENT} %)."
        )


def _of_throughput(row: Throughput) -> dict[str, str]:
    return {
        "": row.contestant + ("" if row.whole else " *"),
        "processes": str(row.processes),
        "readings/s": f"{row.readings_per_s:,.0f}",
        "windows/s": f"{row.windows_per_s:,.0f}",
        "CPU, µs per reading": f"{1e6 * row.cpu_s / row.readings:.2f}",
        "the broker's": f"{1e6 * row.broker_cpu_s / row.readings:.2f}",
        "memory, MB": f"{row.rss_mb:,.0f}",
        "start, s": f"{row.startup_s:.0f}",
    }


def _of_latency(lane: Lane) -> dict[str, str]:
    figures = zip(PERCENTILES, lane.latency.percentiles, strict=True)
    return {
        "": f"{lane.contestant}, {lane.what.replace('_', ' ')}",
        **{f"p{percent}": f"{value:,.0f}" for percent, value in figures},
        "measured": f"{lane.latency.count:,}",
    }


def _of_scale(size: Size, row: Throughput) -> dict[str, str]:
    interval, memory = size.checkpoint_interval_ms, size.taskmanager_memory_mb
    return {
        "machines": f"{row.machines:,}",
        "checkpoint every, s": f"{interval / 1000:g}" if interval else "default",
        "TaskManager, MB": f"{memory:,}" if memory else "default",
        "readings/s": f"{row.readings_per_s:,.0f}",
        "windows/s": f"{row.windows_per_s:,.0f}",
        "state, MB": f"{row.state_mb:,.1f}",
        "memory, MB": f"{row.rss_mb:,.0f}",
        "start, s": f"{row.startup_s:.0f}",
    }


def _of_decoding(row: Decoding) -> dict[str, str]:
    return {"": row.decoder, "ns per reading": f"{row.ns_per_reading:,.0f}"}


def _table(figures: Iterable[Mapping[str, str]]) -> str:
    """Rows of equal keys; all columns but the first are figures, to the right."""
    rows = list(figures)
    head, cells = list(rows[0]), [list(row.values()) for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    rule = ["-" * (width - 1) + (":" if place else "-") for place, width in enumerate(widths)]
    lines = [head, rule, *cells]
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(v, 1) if isinstance(v, float) else v for key, v in row.items()}
