"""The truth about machines where it is known: simulated faults, labels of recorded data.

`simulate` and `replay` write it with `--truth FILE.json`, `report` holds alerts against it. The
file is one JSON list, times in epoch ms, ends exclusive:

    [{"machine_id": "pump-001", "begin": 0, "end": 2400000,
      "faults": [{"fault": "wear", "begin": 900000, "end": 1500000}]}]

Between `begin` and `end` a machine is normal outside its faults. Of other machines and times
nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson

from flink_jobs.tools.kafka import ToolError

LABELLED = "labelled fault"


@dataclass(frozen=True)
class TrueFault:
    """A fault from `begin` to `end`, exclusive, in epoch ms."""

    fault: str
    begin: int
    end: int


@dataclass(frozen=True)
class Truth:
    """What is known of one machine between `begin` and `end`: its faults, by time."""

    machine_id: str
    begin: int
    end: int
    faults: tuple[TrueFault, ...] = ()

    def until(self, end: int) -> Truth:
        """The part before `end`; a fault that has begun by then stays whole."""
        faults = tuple(fault for fault in self.faults if fault.begin < end)
        return Truth(self.machine_id, self.begin, min(self.end, end), faults)


def from_labels(machine_id: str, ts: npt.NDArray[np.int64], labels: npt.NDArray[np.bool_]) -> Truth:
    """The truth of a recording: readings at ts (n,), sorted, labels (n,) True where faulty.

    A fault ends at the first normal reading after it.
    """
    after = np.append(ts[1:], ts[-1] + 1)
    edges = np.flatnonzero(np.diff(labels.astype(np.int8), prepend=0, append=0))
    faults = tuple(
        TrueFault(LABELLED, int(ts[first]), int(after[stop - 1]))
        for first, stop in zip(edges[::2], edges[1::2], strict=True)
    )
    return Truth(machine_id, int(ts[0]), int(after[-1]), faults)


def write_truths(path: Path, truths: Iterable[Truth]) -> None:
    """Write the file anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(list(truths), option=orjson.OPT_APPEND_NEWLINE))


def read_truths(path: Path) -> dict[str, Truth]:
    """{machine_id: truth}; fields not known here are ignored. Raises ToolError naming the file."""
    try:
        records = orjson.loads(path.read_bytes())
        found = [
            Truth(
                str(record["machine_id"]),
                int(record["begin"]),
                int(record["end"]),
                tuple(
                    TrueFault(str(fault["fault"]), int(fault["begin"]), int(fault["end"]))
                    for fault in sorted(record["faults"], key=lambda fault: int(fault["begin"]))
                ),
            )
            for record in records
        ]
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ToolError(
            f"{path}: not a file of truths ({error!r}); simulate and replay write one with"
            " --truth FILE.json"
        ) from error
    return {truth.machine_id: truth for truth in found}
