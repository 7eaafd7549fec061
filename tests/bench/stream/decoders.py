"""How long one reading takes to decode: ours beside Flink's formats and Python's way."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flink_jobs import contracts
from tests.bench.stream import workload
from tests.jvm import compiled

_MACHINES = 10_000
_SECONDS = 10
_IN_PYTHON = "parse_reading"


@dataclass(frozen=True)
class Decoding:
    """One way to decode, as docs/benchmarks.md calls it."""

    decoder: str
    ns_per_reading: float


def measured() -> list[Decoding]:
    """All ways on the same records; subprocess.CalledProcessError if they read other things."""
    records = _records()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = compiled(folder)
        (folder / "records").write_bytes(b"".join(record + b"\n" for record in records))
        command = ["java", "-cp", path, "plantline.DecoderBench", folder / "records"]
        said = subprocess.run(
            [*command, *workload.CHANNELS], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
    rows = [line.split("\t") for line in said.splitlines()]
    return [*(Decoding(way, float(ns)) for way, ns in rows), _in_python(records)]


def _records() -> list[bytes]:
    readings = workload.Readings(_MACHINES, workload.PARTITIONS)
    return [
        record
        for second in range(_SECONDS)
        for record in readings.at(
            slice(None), np.full(_MACHINES, workload.START_MS + 1000 * second), second
        )
    ]


def _in_python(records: list[bytes]) -> Decoding:
    """The contract's own parser, which tests hold the decoder against."""
    valid = dict.fromkeys(workload.CHANNELS, (0.0, 100.0))
    begin = time.perf_counter_ns()
    for record in records:
        contracts.parse_reading(record, workload.CHANNELS, valid)
    return Decoding(_IN_PYTHON, (time.perf_counter_ns() - begin) / len(records))
