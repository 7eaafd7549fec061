"""The Java half of the jobs, asked from Python (tests/java/plantline/Harness.java)."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flink_jobs.contracts import MAX_ID_LENGTH, MAX_TS

sys.path.append(str(Path(__file__).resolve().parents[1] / "tools"))

from depotlib.sources import unpack_jars

ROOT = Path(__file__).resolve().parents[1]


def compiled(folder: Path) -> str:
    """A class path in an empty folder: Flink and its connectors out of the depot, and all Java of
    ours and of tests/java."""
    (folder / "lib").mkdir()
    artifacts = json.loads((ROOT / "depot/manifest.json").read_text())["artifacts"]
    for name in ("flink", "flink-connectors"):
        unpack_jars(ROOT / "depot" / artifacts[name]["file"], folder / "lib")
    sources = [
        *(ROOT / "flink_java/plantline").glob("*.java"),
        *(ROOT / "tests/java/plantline").glob("*.java"),
    ]
    path = f"{folder}/classes:{ROOT}/flink_java:{folder}/lib/*"
    command = ["javac", "-proc:none", "-cp", path, "-d", folder / "classes", *sources]
    subprocess.run(command, check=True)
    return path


class Jvm:
    """A process that answers; `class_path` has all Java of ours and of tests/java."""

    def __init__(self, class_path: str) -> None:
        self._process = subprocess.Popen(
            ["java", "-Xshare:auto", "-cp", class_path, "plantline.Harness"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def close(self) -> None:
        self._process.communicate()

    def decode(
        self, records: Sequence[bytes | None], valid: Mapping[str, tuple[float, float]]
    ) -> list[tuple[str, object]]:
        """For each record: (reason, detail), or ("", (machine_id, ts, values)) for a good one.

        `valid` has all channels, in order; a value that is missing is None.
        """
        question = [b"d", struct.pack(">qii", MAX_TS, MAX_ID_LENGTH, len(valid))]
        for channel, (low, high) in valid.items():
            question.append(_text(channel) + struct.pack(">dd", low, high))
        question.append(struct.pack(">i", len(records)))
        for record in records:
            length = -1 if record is None else len(record)
            question.append(struct.pack(">i", length) + (record or b""))
        answer = _Reader(self._ask(question))
        return [self._verdict(answer, len(valid)) for _ in records]

    def pack(
        self, windows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]]
    ) -> list[tuple[bytes, bytes]]:
        """What each window is packed into, merged and joined; its parts are (ts, values) each."""
        question = [b"p", struct.pack(">i", len(windows))]
        for parts in windows:
            question.append(struct.pack(">ii", parts[0][1].shape[1], len(parts)))
            for ts, values in parts:
                question.append(struct.pack(">i", len(ts)))
                rows = np.empty(len(ts), [("ts", ">i8"), ("values", ">f8", values.shape[1:])])
                rows["ts"], rows["values"] = ts, values
                question.append(rows.tobytes())
        answer = _Reader(self._ask(question))
        return [(answer.part(), answer.part()) for _ in windows]

    def judge(
        self,
        checks: str,
        readings: Sequence[tuple[str, int, Sequence[float]]],
        most_machines: int = 4_000_000,
    ) -> list[list[tuple[str, str, int, float, float]]]:
        """The changes (channel, kind, zone, value, threshold) of each (machine_id, ts, values).

        One memory for all; NaN stands for a missing value, or a threshold that is not known.
        """
        channels = len(readings[0][2])
        numbers = struct.pack(">iii", most_machines, channels, len(readings))
        question = [b"z", _text(checks), numbers]
        for machine_id, ts, values in readings:
            question.append(_text(machine_id) + struct.pack(f">q{channels}d", ts, *values))
        answer = _Reader(self._ask(question))
        return [
            [
                (answer.part().decode(), answer.part().decode(), *answer.unpack(">idd"))
                for _ in range(*answer.unpack(">i"))
            ]
            for _ in readings
        ]

    def json(
        self, text: str, long: int, small: int, double: float, *, flag: bool, length: int
    ) -> bytes:
        """A row of these as JSON; its list has the text and the double, so many times."""
        numbers = struct.pack(">qid?i", long, small, double, flag, length)
        return _Reader(self._ask([b"j", _text(text), numbers])).part()

    def _ask(self, question: list[bytes]) -> bytes:
        self._process.stdin.write(b"".join(question))
        self._process.stdin.flush()
        (length,) = struct.unpack(">i", self._process.stdout.read(4))
        return self._process.stdout.read(length)

    @staticmethod
    def _verdict(answer: _Reader, channels: int) -> tuple[str, object]:
        if reason := answer.part().decode():
            return reason, answer.part().decode()
        machine_id = answer.part().decode()
        (ts,) = answer.unpack(">q")
        values = answer.unpack(f">{channels}d")
        return "", (machine_id, ts, [None if math.isnan(value) else value for value in values])


class _Reader:
    """Takes an answer apart from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, length: int) -> bytes:
        self._at += length
        return self._data[self._at - length : self._at]

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def part(self) -> bytes:
        """Bytes that are led by their number."""
        return self.take(*self.unpack(">i"))


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()
