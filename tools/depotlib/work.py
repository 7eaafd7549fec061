"""What every source needs: whole files, equal archives, news, and clients that can be ended."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

# Lines of clients that say what went wrong; to pip, a dead network is only worth a warning.
TELLING = re.compile(
    r"(\[ERROR\]|ERROR:|E:|error:) *\S|.*connection broken by|.*\.java:\d+: error:"
)
EPOCH = 315532800  # 1980-01-01, the oldest time that zip files can carry


class DepotError(Exception):
    """An error whose text is all that its reader needs."""


class SourceError(DepotError):
    """One source could not serve its artifact; another one may."""


class WrongChecksumError(SourceError):
    """A source served another file than the one declared."""


class Stopped(DepotError):  # noqa: N818 (nothing went wrong)
    """The fill is being interrupted."""


# ── Files ────────────────────────────────────────────────────────────────────────────────────────


def sha512_of(path: Path) -> str:
    """sha512 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hex; for pip's and apt's indexes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a file so that readers see the old one or the new one, also after a power cut."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:.1f} MB"


def pack(tree: Path, target: Path, mtime: int = EPOCH) -> None:
    """Pack a folder's content into a tar made of names, contents and execute bits only.

    Not compressed: jars and wheels are so already, and gzip's output depends on the zlib at hand.
    """
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(tree.rglob("*")):
            info = tar.gettarinfo(path, str(path.relative_to(tree)))
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            info.mtime = mtime
            info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
            if info.isreg():
                with path.open("rb") as content:
                    tar.addfile(info, content)
            else:
                tar.addfile(info)


# ── News ─────────────────────────────────────────────────────────────────────────────────────────


class Reporter(Protocol):
    """Where the news of a fill go; called from several threads."""

    def say(self, name: str, text: str) -> None:
        """Print one line about an artifact."""

    def step(self, name: str, text: str, done: int = 0, total: int = 0) -> None:
        """Show what is being done for an artifact; `done` of `total` bytes, where known."""

    def finished(self, name: str) -> None:
        """Nothing more is done for an artifact."""


class Lines:
    """Reporter for logs: plain lines, one for each quarter of a download."""

    def __init__(self) -> None:
        self._quarter: dict[str, int] = {}

    def say(self, name: str, text: str) -> None:
        print(f"{name}: {text}", flush=True)

    def step(self, name: str, text: str, done: int = 0, total: int = 0) -> None:
        quarter = 4 * done // total if total else 0
        if quarter > self._quarter.get(name, 0):
            self.say(name, f"{text}, {megabytes(done)} of {megabytes(total)}")
        self._quarter[name] = quarter

    def finished(self, name: str) -> None:
        self._quarter.pop(name, None)


class Bars:
    """Reporter for terminals: a bar for each artifact in work, lines above them."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._tasks: dict[str, TaskID] = {}

    def say(self, name: str, text: str) -> None:
        self.progress.console.print(f"[bold]{name}[/]: {escape(text)}", highlight=False)

    def step(self, name: str, text: str, done: int = 0, total: int = 0) -> None:
        if name not in self._tasks:
            self._tasks[name] = self.progress.add_task(name, total=None, step="")
        if total:
            text = f"{text}, {megabytes(done)} of {megabytes(total)}"
        self.progress.update(
            self._tasks[name], step=escape(text), completed=done, total=total or None
        )

    def finished(self, name: str) -> None:
        if name in self._tasks:
            self.progress.remove_task(self._tasks.pop(name))


@contextlib.contextmanager
def reporter() -> Iterator[Reporter]:
    """The reporter that suits standard output."""
    console = Console()
    if not console.is_terminal:
        yield Lines()
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[step]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(progress)


# ── Clients ──────────────────────────────────────────────────────────────────────────────────────


class Runner:
    """Runs package clients, so that all can be ended at once.

    Children inherit `lock_fd`: after a kill -9 of this process, the next fill waits for orphans.
    """

    def __init__(self, lock_fd: int) -> None:
        self._lock_fd = lock_fd
        self._stopping = threading.Event()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._mutex = threading.Lock()

    def run(
        self, argv: list[str], *, needs: str, log: Path, env: Mapping[str, str] | None = None
    ) -> str:
        """Output of a command, which is also appended to `log`.

        Raises SourceError that says what went wrong, or which Debian package to install (`needs`)
        where there is no such command; Stopped.
        """
        if shutil.which(argv[0]) is None:
            raise SourceError(
                f"{argv[0]} is not installed: `make prerequisites`, or apt-get install {needs}"
            )
        start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            with self._mutex:
                self.check()
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
                    start_new_session=True,
                    pass_fds=[self._lock_fd],
                )
                self._children.add(child)
            code = child.wait()
            with self._mutex:
                self._children.discard(child)
        self.check()
        said = log.read_bytes()[start:].decode(errors="replace")
        if code != 0:
            program = argv[2] if argv[1:2] == ["-m"] else argv[0]
            raise SourceError(f"{program} failed ({code}): {gist(said)}")
        return said

    def check(self) -> None:
        """Raises Stopped once `stop` was called."""
        if self._stopping.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait. Raises Stopped as soon as `stop` is called."""
        self._stopping.wait(seconds)
        self.check()

    def stop(self, patience_s: float = 5.0) -> None:
        """End all children: politely, then not."""
        self._stopping.set()
        with self._mutex:
            children = list(self._children)
        deadline = time.monotonic() + patience_s
        for signum in (signal.SIGTERM, signal.SIGKILL):
            for child in children:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signum)
            for child in children:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(max(0.0, deadline - time.monotonic()))


def gist(output: str, lines: int = 4) -> str:
    """The lines of a client's output that say what went wrong; its last ones, if none does."""
    text = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in output.splitlines()]
    telling = [t for t in text if TELLING.match(t)]
    chosen = telling[:lines] or [t for t in text if t][-lines:]
    return " | ".join(chosen)[:800] or "it said nothing"
