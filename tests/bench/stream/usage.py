"""What processes take of the machine, from /proc: processor time and memory of whole trees."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVERY_S = 1.0

# Fields of /proc/PID/stat behind the name of the command.
_PARENT = 1
_TIMES = slice(11, 15)  # utime, stime, and those of children that ended
_RSS = 21


@dataclass(frozen=True)
class Usage:
    """Processor seconds since the processes began, and resident memory now."""

    cpu_s: float
    rss_mb: float


@dataclass(frozen=True)
class _Process:
    parent: int
    cpu_s: float
    rss_mb: float


def trees(*roots: Collection[int]) -> list[Usage]:
    """For each set of processes: they and all their descendants."""
    processes = {pid: found for pid in _pids() if (found := _process(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    result = []
    for pids in roots:
        tree = [processes[pid] for pid in _below(pids, children) if pid in processes]
        result.append(Usage(sum(p.cpu_s for p in tree), sum(p.rss_mb for p in tree)))
    return result


def descendants(root: int) -> set[int]:
    """All processes below one."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        if (process := _process(pid)) is not None:
            children.setdefault(process.parent, []).append(pid)
    return _below([root], children) - {root}


def running(pids: Iterable[int], word: str) -> set[int]:
    """Those with this word on their command line."""
    return {pid for pid in pids if word in _command(pid)}


def _below(roots: Iterable[int], children: dict[int, list[int]]) -> set[int]:
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def _pids() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]


def _process(pid: int) -> _Process | None:
    """None for one that is gone by now."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name stands in parentheses, and may hold any sign itself.
    fields = text.rpartition(")")[2].split()
    ticks = sum(int(field) for field in fields[_TIMES])
    return _Process(int(fields[_PARENT]), ticks / _TICKS, int(fields[_RSS]) * _PAGE / 2**20)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class Taken:
    """Of a span of time: processor seconds, and the most memory."""

    cpu_s: float
    rss_mb: float


@dataclass(frozen=True)
class _Sample:
    at_ms: float
    own: Usage
    broker: Usage


class Sampler:
    """Looks once a second at a contestant's processes, which may change, and at the broker's."""

    def __init__(self, own: Callable[[], Collection[int]], broker: Collection[int]) -> None:
        self._own, self._broker = own, broker
        self._samples: list[_Sample] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def taken(self, begin_ms: float, end_ms: float) -> tuple[Taken, Taken]:
        """By the contestant and by the broker; ValueError where nobody has looked."""
        at = np.array([sample.at_ms for sample in self._samples])
        inside = (at >= begin_ms) & (at <= end_ms)
        if not inside.any():
            raise ValueError("the processes were not looked at in that time")

        def of(usages: list[Usage]) -> Taken:
            cpu = np.interp([begin_ms, end_ms], at, [usage.cpu_s for usage in usages])
            memory = np.array([usage.rss_mb for usage in usages])[inside]
            return Taken(float(cpu[1] - cpu[0]), float(memory.max()))

        samples = self._samples
        return of([one.own for one in samples]), of([one.broker for one in samples])

    def _run(self) -> None:
        self._look()
        while not self._over.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        own, broker = trees(self._own(), self._broker)
        self._samples.append(_Sample(time.time() * 1000, own, broker))
