"""The Java half of the jobs, asked from Python (tests/java/plantline/Harness.java)."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flink_jobs.contracts import MAX_ID_LENGTH, MAX_TS

ROOT = Path(__file__).resolve().parents[1]

# They know nothing of Flink, and neither does who asks them.
NAMES = ("Decoder", "Readings", "Check", "Zones")
SOURCES = [
    *(ROOT / "flink_java/plantline" / f"{name}.java" for name in NAMES),
    ROOT / "tests/java/plantline/Harness.java",
]


class Jvm:
    """A process that answers; `classes` is an empty folder to compile into."""

    def __init__(self, classes: Path) -> None:
        subprocess.run(["javac", "--release", "17", "-d", classes, *SOURCES], check=True)
        self._process = subprocess.Popen(
            ["java", "-Xshare:auto", "-cp", classes, "plantline.Harness"],
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
        values = [answer.unpack(">?d") for _ in range(channels)]
        return "", (machine_id, ts, [value if there else None for there, value in values])


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
