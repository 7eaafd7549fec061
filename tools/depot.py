"""Fill the depot: the folder from which everything on the plant's hosts is installed.

    python tools/depot.py fill [--only NAME...] [--group GROUP...] [--refresh]
    python tools/depot.py verify | list | lock

`depot.yml` declares the artifacts, each with sources in order of preference. `fill` makes one file per artifact in
`depot/`, verified, and records it in `depot/manifest.json`, which the role `artifact` reads:

    {"artifacts": {"kafka": {"version": "3.8.1", "file": "kafka_2.13-3.8.1.tgz", "sha512": "...", "source": "...", ...}}}

Work in progress lives in `depot/.tmp` and enters the depot by rename, so whatever interrupts a fill, the depot holds
only whole files. Archives assembled here are byte for byte the same everywhere (sorted, fixed times and owners, no
compression: jars and wheels are compressed already, and gzip's output depends on the zlib at hand).

Exit codes: 0 done, 1 an artifact could not be had or is damaged, 2 depot.yml or the command line is wrong,
130/143 interrupted.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol, get_args, get_origin, get_type_hints
from xml.sax.saxutils import escape

import yaml
from rich.console import Console
from rich.markup import escape as rich_escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RECIPE = 1  # raise it when the same declaration makes other files: everything assembled is then made again
EPOCH = (
    315532800  # 1980-01-01, the oldest time zip files can carry; the time of every assembled file
)
TIMEOUT_S = 10.0  # of connecting, and of silence on a connection
DOWNLOAD_TRIES = 5  # of one URL whose transfer breaks off; each goes on where the last one stopped
CHUNK = 1 << 20
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
SHA512 = re.compile(r"[0-9a-f]{128}")


class DepotError(Exception):
    """An error whose text is all that its reader needs."""


class DeclarationError(DepotError):
    """depot.yml says something that cannot be done; the text names file and line."""


class SourceError(DepotError):
    """One source could not serve its artifact."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


# ── The declaration ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Source:
    """One way to come by an artifact. Subclasses are the kinds of depot.yml; their fields are its keys."""

    kind: ClassVar[str]
    sha512: str = ""  # of the file that this source makes; empty where versions move (then something else is trusted)

    @property
    def label(self) -> str:
        """Name shown to people and kept in the manifest as `source`."""
        return self.kind

    def inputs(self, root: Path, lock: Lock, name: str) -> list[str]:
        """Digests of what the source reads besides its declaration: a change makes the artifact anew."""
        return []

    def fetch(self, job: Job) -> Fetched:
        """Make the artifact's file inside `job.work` (or a resumable download beside it).

        Raises SourceError if this source cannot serve; another one may.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One artifact of depot.yml."""

    name: str
    version: str
    licence: str
    group: str
    sources: tuple[Source, ...]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What a source made."""

    path: Path
    file: str  # its name in the depot
    sha512: str
    contents: tuple[str, ...] = ()  # what came, where versions move


class Lock:
    """depot.lock: the sha512 of every file that a package client resolves, one `<sha512>  <artifact>/<file>` a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digests: dict[str, str] = {}
        if path.exists():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                digest, _, name = line.partition("  ")
                if not SHA512.fullmatch(digest) or "/" not in name:
                    raise DeclarationError(f"{path}:{number}: not '<sha512>  <artifact>/<file>'")
                self.digests[name] = digest

    def of(self, artifact: str) -> dict[str, str]:
        """{file name: sha512} of one artifact."""
        prefix = f"{artifact}/"
        return {n.removeprefix(prefix): d for n, d in self.digests.items() if n.startswith(prefix)}

    def replace(self, artifact: str, digests: Mapping[str, str]) -> None:
        """Write the file with other digests for one artifact."""
        kept = {n: d for n, d in self.digests.items() if not n.startswith(f"{artifact}/")}
        self.digests = kept | {f"{artifact}/{n}": d for n, d in digests.items()}
        lines = (f"{digest}  {name}\n" for name, digest in sorted(self.digests.items()))
        write_whole(self.path, "".join(lines))


def load(path: Path) -> dict[str, Artifact]:
    """Artifacts of a depot.yml by name, in its order.

    Raises DeclarationError that names the line of the first thing wrong.
    """
    try:
        document = yaml.compose(path.read_text(), Loader=yaml.SafeLoader)
    except OSError as error:
        raise DeclarationError(f"{path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DeclarationError(f"{path}{line}: not YAML: {error.problem}") from None
    return _Reader(path).document(document)


class _Reader:
    """Turns YAML nodes into Artifacts. Nodes, not plain data: they know their lines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrong(self, node: yaml.Node, text: str) -> DeclarationError:
        return DeclarationError(f"{self.path}:{node.start_mark.line + 1}: {text}")

    def document(self, node: yaml.Node | None) -> dict[str, Artifact]:
        if node is None:
            raise DeclarationError(f"{self.path}:1: empty; expected 'artifacts:'")
        top = self.mapping(node, "the file")
        self.keys(node, top, "the file", required={"artifacts"}, known={"artifacts"})
        artifacts = self.mapping(top["artifacts"], "artifacts")
        return {name: self.artifact(name, n) for name, n in artifacts.items()}

    def artifact(self, name: str, node: yaml.Node) -> Artifact:
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
            raise self.wrong(node, f"{name}: a name is lower-case letters, digits, '.' and '-'")
        known = self.mapping(node, name)
        required = {"version", "licence", "sources"}
        self.keys(node, known, name, required=required, known=required | {"group"})
        version = self.text(known["version"], f"{name}: version", "")
        sources = known["sources"]
        if not isinstance(sources, yaml.SequenceNode) or not sources.value:
            raise self.wrong(sources, f"{name}: sources: expected a list with at least one source")
        return Artifact(
            name=name,
            version=version,
            licence=self.text(known["licence"], f"{name}: licence", version),
            group=self.text(known["group"], f"{name}: group", "") if "group" in known else "plant",
            sources=tuple(
                self.source(n, f"{name}: sources[{i}]", version)
                for i, n in enumerate(sources.value)
            ),
        )

    def source(self, node: yaml.Node, where: str, version: str) -> Source:
        given = self.mapping(node, where)
        kind_node = given.pop("kind", None)
        if kind_node is None:
            raise self.wrong(node, f"{where}: needs 'kind', one of {', '.join(KINDS)}")
        kind = self.text(kind_node, f"{where}: kind", "")
        if kind not in KINDS:
            raise self.wrong(kind_node, f"{where}: no kind '{kind}'; known: {', '.join(KINDS)}")
        cls = KINDS[kind]
        fields = {f.name: f for f in dataclasses.fields(cls)}
        required = {n for n, f in fields.items() if _is_required(f)}
        self.keys(node, given, where, required=required, known=set(fields))
        types = get_type_hints(cls)
        values = {
            key: self.value(types[key], child, f"{where}: {key}", version)
            for key, child in given.items()
        }
        if (sha512 := values.get("sha512")) is not None and not SHA512.fullmatch(str(sha512)):
            raise self.wrong(given["sha512"], f"{where}: sha512: expected 128 hex digits")
        if kind == UrlSource.kind and not (values.get("sha512") or values.get("sha512_url")):
            raise self.wrong(node, f"{where}: needs 'sha512' or 'sha512_url'")
        if not str(values.get("sha512_url", "https:")).startswith("https:"):
            raise self.wrong(given["sha512_url"], f"{where}: sha512_url: only https can be trusted")
        return cls(**values)

    def value(self, kind: Any, node: yaml.Node, where: str, version: str) -> object:
        if kind is bool:
            if node.tag != "tag:yaml.org,2002:bool":
                raise self.wrong(node, f"{where}: expected true or false")
            return node.value in {"true", "True"}
        if get_origin(kind) is tuple:
            if not isinstance(node, yaml.SequenceNode) or not node.value:
                raise self.wrong(node, f"{where}: expected a list with at least one entry")
            return tuple(self.text(n, where, version) for n in node.value)
        if get_origin(kind) is not None and get_args(kind) == (str, str):
            entries = self.mapping(node, where)
            return {
                _expand(key, version): self.text(n, f"{where}: {key}", version)
                for key, n in entries.items()
            }
        return self.text(node, where, version)

    def text(self, node: yaml.Node, where: str, version: str | None = None) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str":
            raise self.wrong(node, f"{where}: expected text (quote it, if it looks like a number)")
        if not node.value:
            raise self.wrong(node, f"{where}: is empty")
        return node.value if version is None else _expand(node.value, version)

    def mapping(self, node: yaml.Node, where: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.wrong(node, f"{where}: expected a mapping")
        result: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self.text(key, where)
            if name in result:
                raise self.wrong(key, f"{where}: '{name}' is there twice")
            result[name] = value
        return result

    def keys(
        self,
        node: yaml.Node,
        given: Mapping[str, yaml.Node],
        where: str,
        *,
        required: set[str],
        known: set[str],
    ) -> None:
        for key, value in given.items():
            if key not in known:
                raise self.wrong(
                    value, f"{where}: no key '{key}'; known: {', '.join(sorted(known))}"
                )
        for key in sorted(required - given.keys()):
            raise self.wrong(node, f"{where}: needs '{key}'")


def _is_required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _expand(text: str, version: str) -> str:
    return text.replace("{version}", version)


# ── Files ────────────────────────────────────────────────────────────────────────────────────────


def sha512_of(path: Path) -> str:
    """sha512 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a file so that others see the old one or the new one, never a part; also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class _Hashing(io.RawIOBase):
    """Passes what is written on to a file, and hashes it on the way."""

    def __init__(self, target: IO[bytes]) -> None:
        self.target = target
        self.digest = hashlib.sha512()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return self.target.write(data)


def pack(tree: Path, target: Path) -> str:
    """Pack a folder's content into a tar whose bytes depend on names, content and execute bits only.

    Returns the tar's sha512.
    """
    with target.open("wb") as file:
        hashing = _Hashing(file)
        with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for path in sorted(tree.rglob("*")):
                info = tar.gettarinfo(path, str(path.relative_to(tree)))
                info.uid = info.gid = 0
                info.uname = info.gname = "root"
                info.mtime = EPOCH
                info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
                if info.isreg():
                    with path.open("rb") as content:
                        tar.addfile(info, content)
                else:
                    tar.addfile(info)
    return hashing.digest.hexdigest()


# ── Doing the work ───────────────────────────────────────────────────────────────────────────────


class Reporter(Protocol):
    """Where news of a fill go."""

    def say(self, name: str, text: str) -> None:
        """Print one line about an artifact."""

    def step(self, name: str, text: str, done: int = 0, total: int = 0) -> None:
        """Show what is being done for an artifact; `done` and `total` in bytes, where known."""

    def finished(self, name: str) -> None:
        """An artifact needs no more work."""


class Lines:
    """Reporter for logs: plain lines, and a line per quarter of a long download."""

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
        self.progress.console.print(f"[bold]{name}[/]: {rich_escape(text)}", highlight=False)

    def step(self, name: str, text: str, done: int = 0, total: int = 0) -> None:
        if name not in self._tasks:
            self._tasks[name] = self.progress.add_task(name, total=None, step="")
        self.progress.update(
            self._tasks[name], step=rich_escape(text), completed=done, total=total or None
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
        DownloadColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[step]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(progress)


class Runner:
    """Runs package clients, so that all can be ended at once.

    Children inherit `lock_fd`: after a kill -9 of this process, the next fill waits for the orphans to end.
    """

    def __init__(self, lock_fd: int | None = None) -> None:
        self.stopping = threading.Event()
        self._children: set[subprocess.Popen[bytes]] = set()
        self._mutex = threading.Lock()
        self._lock_fds = () if lock_fd is None else (lock_fd,)

    def run(
        self, argv: list[str], *, needs: str, log: Path, env: Mapping[str, str] | None = None
    ) -> str:
        """Output of a command, which is also kept in `log`.

        Raises SourceError with the output's end if the command fails, or with the Debian package to install
        (`needs`) if it is not there.
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
                    pass_fds=self._lock_fds,
                )
                self._children.add(child)
            code = child.wait()
            with self._mutex:
                self._children.discard(child)
        self.check()
        with log.open("rb") as file:
            file.seek(start)
            said = file.read().decode(errors="replace")
        if code != 0:
            raise SourceError(f"{argv[0]} failed ({code}): {_gist(said)}")
        return said

    def check(self) -> None:
        """Raises SourceError once the fill is being stopped."""
        if self.stopping.is_set():
            raise SourceError("stopped")

    def stop(self, patience_s: float = 5.0) -> None:
        """End all children: politely, then not."""
        self.stopping.set()
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


def _gist(output: str, lines: int = 4) -> str:
    """The lines of a command's output that say what went wrong."""
    text = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in output.splitlines()]
    telling = [
        t for t in text if re.match(r"(\[ERROR\]|ERROR:|E:|error)", t) and len(t) > len("[ERROR] ")
    ]
    chosen = telling[:lines] or [t for t in text if t][-lines:]
    return " | ".join(chosen)[:600] or "it said nothing"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a source gets to work with."""

    artifact: Artifact
    root: Path  # paths of depot.yml are relative to it
    work: Path  # empty folder of its own, on the depot's file system, removed afterwards
    parts: Path  # folder of downloads that a later fill can go on with
    lock: Lock
    runner: Runner
    reporter: Reporter
    maven: threading.Lock  # Maven's local repository takes one process at a time

    @property
    def log(self) -> Path:
        return self.work / "log"

    def folder(self, name: str) -> Path:
        """A new folder inside `work`."""
        path = self.work / name
        path.mkdir(parents=True)
        return path

    def step(self, text: str, done: int = 0, total: int = 0) -> None:
        self.reporter.step(self.artifact.name, text, done, total)

    def packed(self, tree: Path, contents: Iterable[str] = ()) -> Fetched:
        """The artifact assembled in `tree`, as a tar."""
        self.step("packing")
        file = f"{self.artifact.name}-{self.artifact.version}.tar"
        sha512 = pack(tree, self.work / file)
        return Fetched(path=self.work / file, file=file, sha512=sha512, contents=tuple(contents))


# ── Sources ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class UrlSource(Source):
    """A published archive, taken as it is."""

    kind: ClassVar[str] = "url"
    url: str
    sha512_url: str = (
        ""  # file with the digest, as Apache publishes it; used where `sha512` is not given
    )

    @property
    def label(self) -> str:
        return self.url

    def fetch(self, job: Job) -> Fetched:
        file = self.url.rsplit("/", 1)[-1]
        sha512 = self.sha512 or published_sha512(self.sha512_url, file)
        # The digest is in the name: a part of one file is never continued with another.
        part = job.parts / f"{file}.{sha512[:16]}.part"
        resumed = part.exists()
        download(self.url, part, job.runner, job.step)
        job.step("checking")
        if (actual := sha512_of(part)) != sha512:
            part.unlink()
            if not resumed:
                raise wrong_sha512(actual, sha512)
            # What an earlier fill left may be the damaged half: once more from the beginning.
            return self.fetch(job)
        return Fetched(path=part, file=file, sha512=sha512)


@dataclass(frozen=True, kw_only=True)
class MavenSource(Source):
    """Jars, fetched by Maven and laid out as one archive; each is pinned in depot.lock."""

    kind: ClassVar[str] = "maven"
    artifacts: tuple[str, ...]  # group:artifact:version[:classifier]
    transitive: bool  # whether what they depend on at run time comes too
    top: str = "."  # top folder inside the archive
    into: str = "."  # folder of the jars, inside `top`
    files: str = ""  # folder of this repository that is laid over `top`
    launchers: Mapping[str, str] = field(
        default_factory=dict
    )  # script in bin/ → class that it runs

    LAUNCHER: ClassVar[str] = (
        '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/kafka-run-class.sh" {} "$@"\n'
    )

    def inputs(self, root: Path, lock: Lock, name: str) -> list[str]:
        files = (
            sorted(p for p in (root / self.files).rglob("*") if p.is_file()) if self.files else []
        )
        return [
            *(f"{p.relative_to(root)} {sha512_of(p)}" for p in files),
            *sorted(lock.of(name).values()),
        ]

    def fetch(self, job: Job) -> Fetched:
        jars = self.resolve(job)
        self.check(jars, job.lock.of(job.artifact.name), job.lock.path.name)
        tree = job.folder("tree")
        top = tree / self.top
        shutil.copytree(jars, top / self.into, dirs_exist_ok=True)
        if self.files:
            shutil.copytree(job.root / self.files, top, dirs_exist_ok=True)
        for script, main_class in self.launchers.items():
            path = top / "bin" / script
            path.write_text(self.LAUNCHER.format(main_class))
            path.chmod(0o755)
        return job.packed(tree)

    def resolve(self, job: Job) -> Path:
        """Folder with the jars as Maven resolves them, unchecked."""
        jars = job.folder("jars")
        pom = job.work / "pom.xml"
        pom.write_text(self.pom())
        argv = [
            *(
                "mvn",
                "--batch-mode",
                "--no-transfer-progress",
                "--update-snapshots",
                "--file",
                str(pom),
            ),
            *("-Dmaven.wagon.http.connectionTimeout=5000", "-Dmaven.wagon.rto=60000"),
            *(MAVEN_COPY, "-DincludeScope=runtime", f"-DoutputDirectory={jars}"),
            f"-DexcludeTransitive={str(not self.transitive).lower()}",
        ]
        job.step("waiting for Maven")
        with job.maven:
            job.step("Maven")
            job.runner.run(argv, needs="maven", log=job.log)
        return jars

    def pom(self) -> str:
        """A project that depends on the artifacts and does nothing else."""
        keys = ("groupId", "artifactId", "version", "classifier")
        dependencies = "".join(
            "<dependency>{}</dependency>".format(
                "".join(
                    f"<{k}>{escape(v)}</{k}>"
                    for k, v in zip(keys, coordinates.split(":"), strict=False)
                )
            )
            for coordinates in self.artifacts
        )
        return (
            "<project><modelVersion>4.0.0</modelVersion><groupId>depot</groupId><artifactId>depot</artifactId>"
            f"<version>1</version><packaging>pom</packaging><dependencies>{dependencies}</dependencies></project>"
        )

    @staticmethod
    def check(jars: Path, locked: Mapping[str, str], lock_name: str) -> None:
        """Raises SourceError that names each jar which is not the locked one."""
        came = {path.name: sha512_of(path) for path in jars.iterdir()}
        wrong = [f"{n} is missing" for n in sorted(locked.keys() - came.keys())]
        wrong += [f"{n} is not locked" for n in sorted(came.keys() - locked.keys())]
        wrong += [
            f"{n} has sha512 {came[n]}, locked is {locked[n]}"
            for n in sorted(came.keys() & locked.keys())
            if came[n] != locked[n]
        ]
        if wrong:
            rest = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""  # noqa: PLR2004
            raise SourceError(
                f"the jars differ from {lock_name}: {'; '.join(wrong[:3])}{rest}. If depot.yml was changed on purpose:"
                " `python tools/depot.py lock`"
            )


@dataclass(frozen=True, kw_only=True)
class PypiSource(Source):
    """Packages of the Python package index, pinned by hash: as they are, or repacked."""

    kind: ClassVar[str] = "pypi"
    requirements: tuple[str, ...]  # lines of a requirements file, with hashes
    top: str = "."  # top folder inside the archive
    unpack: Mapping[str, str] = field(
        default_factory=dict
    )  # path inside a package → path inside `top`

    def fetch(self, job: Job) -> Fetched:
        packages = job.folder("packages")
        requirements = job.work / "requirements.txt"
        requirements.write_text("\n".join(self.requirements) + "\n")
        job.step("pip")
        pip(job, "download", "--dest", str(packages), "--requirement", str(requirements))
        if not self.unpack:
            return job.packed(packages)
        unpacked = job.folder("unpacked")
        job.step("unpacking")
        for package in sorted(packages.iterdir()):
            if package.suffix == ".whl":
                with zipfile.ZipFile(package) as wheel:
                    wheel.extractall(unpacked)
            else:
                with tarfile.open(package) as sdist:
                    sdist.extractall(unpacked, filter="data")
        tree = job.folder("tree")
        top = tree / self.top
        for inside, target in self.unpack.items():
            path = unpacked / inside
            if not path.exists():
                raise SourceError(f"there is no {inside} in the packages")
            if path.is_dir():
                shutil.copytree(path, top / target, dirs_exist_ok=True, copy_function=shutil.move)
            else:
                shutil.move(path, top / target)
        # Wheels and source packages lose execute bits; a distribution's bin/ has nothing else than programs.
        for script in (top / "bin").glob("*"):
            script.chmod(0o644 if script.suffix == ".jar" else 0o755)
        return job.packed(tree)


@dataclass(frozen=True, kw_only=True)
class WheelhouseSource(Source):
    """Wheels of a locked requirements file, built where only sources are published, with the file itself."""

    kind: ClassVar[str] = "wheelhouse"
    requirements: str  # file of this repository
    also: tuple[str, ...] = ()  # further requirement lines, with hashes

    def inputs(self, root: Path, lock: Lock, name: str) -> list[str]:
        path = root / self.requirements
        return [sha512_of(path) if path.exists() else ""]

    def fetch(self, job: Job) -> Fetched:
        path = job.root / self.requirements
        if not path.exists():
            raise SourceError(f"there is no {self.requirements}")
        wheels = job.folder("wheels")
        also = job.work / "also.txt"
        also.write_text("\n".join(self.also) + "\n")
        job.step("pip")
        pip(
            job,
            "wheel",
            "--wheel-dir",
            str(wheels),
            "--requirement",
            str(path),
            "--requirement",
            str(also),
        )
        contents = sorted(wheel.name for wheel in wheels.iterdir())
        shutil.copy(path, wheels / "requirements.txt")
        return job.packed(wheels, contents)


@dataclass(frozen=True, kw_only=True)
class AptSource(Source):
    """Debian packages with all that they depend on, as a flat apt repository.

    The packages come from the control node's own apt sources, checked by apt's signatures. Dependencies are
    resolved as if nothing were installed, so the repository also serves hosts that lag behind by a point release.
    """

    kind: ClassVar[str] = "apt"
    release: str  # code name
    packages: tuple[str, ...]

    def fetch(self, job: Job) -> Fetched:
        state, cache = job.folder("state"), job.folder("cache")
        (state / "lists/partial").mkdir(parents=True)
        (cache / "archives/partial").mkdir(parents=True)
        (state / "status").touch()
        options = {
            "Dir::State": state,
            "Dir::State::status": state / "status",
            "Dir::Cache": cache,
            "Acquire::Languages": "none",
            "Acquire::http::Timeout": f"{TIMEOUT_S:.0f}",
            "Acquire::Retries": 2,
            # Only this release, with its updates, whatever else the control node's sources offer.
            "APT::Default-Release": f"/^{self.release}(-updates|-security)?$/",
            "APT::Install-Recommends": "false",
            "APT::Get::Assume-Yes": "true",
            "Debug::NoLocking": "true",
            # A folder below a home is closed to apt's own user.
            "APT::Sandbox::User": "root",
        }
        apt = ["apt-get", *(f"--option={k}={v}" for k, v in options.items())]
        job.step("apt: package lists")
        job.runner.run([*apt, "update", "--error-on=any"], needs="apt", log=job.log)
        job.step("apt: packages")
        job.runner.run(
            [*apt, "install", "--download-only", *self.packages], needs="apt", log=job.log
        )
        repository = job.folder("repository")
        index, contents = [], []
        for deb in sorted((cache / "archives").glob("*.deb")):
            control = job.runner.run(["dpkg-deb", "--field", str(deb)], needs="dpkg", log=job.log)
            fields = dict(
                re.findall(r"^(Package|Version|Architecture): (.+)$", control, re.MULTILINE)
            )
            # apt quotes the epoch's colon in its cache; a '%' in a repository's file names asks for trouble.
            version = fields["Version"].partition(":")[2] or fields["Version"]
            name = f"{fields['Package']}_{version}_{fields['Architecture']}.deb"
            target = deb.rename(repository / name)
            sha256 = hashlib.sha256(target.read_bytes()).hexdigest()
            size = target.stat().st_size
            index.append(
                f"{control.rstrip()}\nFilename: ./{name}\nSize: {size}\nSHA256: {sha256}\n"
            )
            contents.append(f"{fields['Package']} {fields['Version']}")
        (repository / "Packages").write_text("\n".join(index))
        return job.packed(repository, contents)


@dataclass(frozen=True, kw_only=True)
class MmdebstrapSource(Source):
    """A root file system of Debian's smallest kind with some packages."""

    kind: ClassVar[str] = "mmdebstrap"
    release: str  # code name
    packages: tuple[str, ...]

    def fetch(self, job: Job) -> Fetched:
        file = f"{job.artifact.name}-{job.artifact.version}.tar"
        argv = ["mmdebstrap", "--variant=minbase", f"--include={','.join(self.packages)}"]
        env = {"SOURCE_DATE_EPOCH": str(EPOCH)}
        if os.geteuid() == 0:  # as an ordinary user it works under ids that may not enter a home
            env["TMPDIR"] = str(job.folder("chroot"))
        job.step("mmdebstrap")
        job.runner.run(
            [*argv, self.release, str(job.work / file)], needs="mmdebstrap", log=job.log, env=env
        )
        path = job.work / file
        return Fetched(path=path, file=file, sha512=sha512_of(path))


KINDS: dict[str, type[Source]] = {
    cls.kind: cls
    for cls in (UrlSource, MavenSource, PypiSource, WheelhouseSource, AptSource, MmdebstrapSource)
}


def pip(job: Job, command: str, *arguments: str) -> None:
    """Run this environment's pip; every requirement must carry a hash.

    Source packages are built with the locked setuptools of this environment, not with whatever is newest.
    """
    fixed = (
        "--no-deps",
        "--require-hashes",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "--progress-bar=off",
    )
    argv = [
        sys.executable,
        "-m",
        "pip",
        command,
        *fixed,
        "--retries=1",
        f"--timeout={TIMEOUT_S:.0f}",
        *arguments,
    ]
    job.runner.run(argv, needs="python3-venv", log=job.log, env={"SOURCE_DATE_EPOCH": str(EPOCH)})


def wrong_sha512(actual: str, expected: str) -> SourceError:
    return SourceError(f"wrong checksum: sha512 is {actual}, expected {expected}")


def published_sha512(url: str, file: str) -> str:
    """The digest in a `.sha512` file, either of sha512sum's form or of gpg --print-md's (Kafka's).

    Raises SourceError.
    """
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:  # noqa: S310 (https, by the declaration)
            text = response.read(4096).decode("ascii", errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"{url}: {_reason(error)}") from None
    digest = re.sub(r"[\s:*]", "", text.replace(file, "")).lower()
    if not SHA512.fullmatch(digest):
        raise SourceError(f"{url}: holds no sha512 of {file}")
    return digest


def download(url: str, part: Path, runner: Runner, step: Callable[[str, int, int], None]) -> None:
    """Fetch a URL into `part`, going on where an earlier attempt stopped.

    Raises SourceError if the server cannot be reached or refuses, or if the transfer broke off too often. `part`
    then stays, to be continued.
    """
    for attempt in range(DOWNLOAD_TRIES):
        runner.check()
        # A pause grows with each try: a server that cuts connections is usually overloaded.
        if attempt and runner.stopping.wait(0.25 * 2**attempt):
            runner.check()
        try:
            if _transfer(url, part, runner, step):
                return
            trouble = "the connection was cut"
        except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
            trouble = _reason(error)
    size = part.stat().st_size if part.exists() else 0
    raise SourceError(
        f"{trouble}, {DOWNLOAD_TRIES} times; {megabytes(size)} are kept for the next fill"
    )


def _transfer(url: str, part: Path, runner: Runner, step: Callable[[str, int, int], None]) -> bool:
    """One attempt of `download`; whether the file is whole. Raises what urllib and sockets raise once data flows."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            # Nothing comes after what we have: whole, or longer than the file ever was; the checksum tells.
            return True
        raise SourceError(f"HTTP {error.code} {error.reason}") from None
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise SourceError(f"unreachable: {_reason(error)}") from None
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else 0
        with part.open("ab" if have else "wb") as file:
            while chunk := response.read1(CHUNK):
                runner.check()
                file.write(chunk)
                have += len(chunk)
                step("downloading", have, total)
    return not total or have >= total


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):
        return _reason(inner)
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


# ── The depot ────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Report:
    """Outcome of a fill."""

    filled: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # artifact → the whole story


class Depot:
    """A depot folder with its manifest.

    `root` holds depot.yml, depot.lock and the files that they name.
    """

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        self.root = root
        self.folder = folder or root / "depot"
        self.artifacts = load(root / "depot.yml")
        self.lock = Lock(root / "depot.lock")
        self.manifest_path = self.folder / "manifest.json"
        self.entries: dict[str, dict[str, Any]] = self._read_manifest()
        self._mutex = threading.Lock()

    def _read_manifest(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(json.loads(self.manifest_path.read_text())["artifacts"])
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError):
            raise DepotError(
                f"{self.manifest_path} is damaged. Remove it and fill again: files that are whole are found by hash"
            ) from None

    def select(self, only: Iterable[str], groups: Iterable[str]) -> list[Artifact]:
        """Artifacts by name or group; all if neither is given. Raises DeclarationError for a name nobody has."""
        names, wanted = set(only), set(groups)
        known_groups = {a.group for a in self.artifacts.values()}
        for unknown in sorted(names - self.artifacts.keys()):
            raise DeclarationError(
                f"no artifact '{unknown}'; there are: {', '.join(self.artifacts)}"
            )
        for unknown in sorted(wanted - known_groups):
            raise DeclarationError(
                f"no group '{unknown}'; there are: {', '.join(sorted(known_groups))}"
            )
        return [
            a
            for a in self.artifacts.values()
            if not (names or wanted) or a.name in names or a.group in wanted
        ]

    def fingerprint(self, artifact: Artifact, source: Source) -> str:
        """Digest of all that decides what a source makes."""
        declared = {
            "recipe": RECIPE,
            "kind": source.kind,
            "version": artifact.version,
            **dataclasses.asdict(source),
            "inputs": source.inputs(self.root, self.lock, artifact.name),
        }
        return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()

    def present(self, artifact: Artifact) -> bool:
        """Whether the file is there, whole, and made as one of the sources is declared now.

        A file is hashed only if its size is right and its time is not (a copied depot).
        """
        entry = self.entries.get(artifact.name)
        if not entry or entry["fingerprint"] not in (
            self.fingerprint(artifact, s) for s in artifact.sources
        ):
            return False
        path = self.folder / entry["file"]
        try:
            found = path.stat()
        except FileNotFoundError:
            return False
        if found.st_size != entry["size"]:
            return False
        if found.st_mtime_ns != entry["mtime_ns"]:
            if sha512_of(path) != entry["sha512"]:
                return False
            self._record(artifact.name, {**entry, "mtime_ns": found.st_mtime_ns})
        return True

    def _record(self, name: str, entry: dict[str, Any]) -> None:
        with self._mutex:
            self.entries[name] = entry
            order = [n for n in self.artifacts if n in self.entries]
            text = json.dumps({"artifacts": {n: self.entries[n] for n in order}}, indent=2)
            write_whole(self.manifest_path, text + "\n")

    # ── fill

    def fill(
        self,
        artifacts: Iterable[Artifact],
        report: Reporter,
        *,
        refresh: bool = False,
        jobs: int = 4,
    ) -> Report:
        """Bring the artifacts that are not there; those that can be had are had, whatever becomes of the others.

        `refresh` makes them again even if they are there. Raises Interrupted after ending what was under way.
        """
        result = Report()
        missing = []
        for artifact in artifacts:
            if not refresh and self.present(artifact):
                report.say(
                    artifact.name,
                    f"{artifact.version} is there, from {self.entries[artifact.name]['source']}",
                )
            else:
                missing.append(artifact)
        if not missing:
            return result
        with self._exclusive(report) as lock_fd:
            runner = Runner(lock_fd)
            pool = concurrent.futures.ThreadPoolExecutor(jobs)
            maven = threading.Lock()
            try:
                futures = {
                    pool.submit(self._fill_one, artifact, report, runner, maven): artifact
                    for artifact in missing
                }
                for future in concurrent.futures.as_completed(futures):
                    name = futures[future].name
                    try:
                        future.result()
                        result.filled.append(name)
                    except DepotError as error:
                        result.failed[name] = str(error)
                        report.say(name, "FAILED")
                    report.finished(name)
            except BaseException:
                runner.stop()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            finally:
                self._tidy()
            pool.shutdown()
        return result

    @contextlib.contextmanager
    def _exclusive(self, report: Reporter) -> Iterator[int]:
        """Holds the depot for one fill at a time; leftovers of dead ones are gone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report.say(
                    "depot",
                    "another fill is at work, or what one that was killed left running; waiting for it",
                )
                fcntl.flock(file, fcntl.LOCK_EX)
            self.entries = self._read_manifest()
            self._tidy()
            yield file.fileno()

    def _tidy(self) -> None:
        """Remove all work in progress but downloads that can go on."""
        temporary = self.folder / ".tmp"
        for path in temporary.glob("*"):
            if path.suffix != ".part":
                shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            temporary.rmdir()

    def _fill_one(
        self, artifact: Artifact, report: Reporter, runner: Runner, maven: threading.Lock
    ) -> None:
        if self.present(artifact):  # another fill brought it while this one waited
            return
        started = time.monotonic()
        reasons = []
        for source in artifact.sources:
            work = self.folder / ".tmp" / artifact.name
            work.mkdir(parents=True)
            job = Job(
                artifact=artifact,
                root=self.root,
                work=work,
                parts=work.parent,
                lock=self.lock,
                runner=runner,
                reporter=report,
                maven=maven,
            )
            report.step(artifact.name, f"trying {source.label}")
            try:
                fetched = source.fetch(job)
                if source.sha512 and fetched.sha512 != source.sha512:
                    raise wrong_sha512(fetched.sha512, source.sha512)
                size = self._accept(artifact, source, fetched)
            except SourceError as error:
                runner.check()
                reasons.append(f"  - {source.label}: {error}")
                report.say(artifact.name, f"not from {source.label}: {error}")
            else:
                seconds = time.monotonic() - started
                report.say(
                    artifact.name,
                    f"{artifact.version}, {megabytes(size)} from {source.label} in {seconds:.0f} s",
                )
                return
            finally:
                shutil.rmtree(work, ignore_errors=True)
        raise DepotError(
            "\n".join((f"{artifact.name} {artifact.version}: no source could serve it", *reasons))
        )

    def _accept(self, artifact: Artifact, source: Source, fetched: Fetched) -> int:
        """Take a finished file into the depot; its size."""
        target = self.folder / fetched.file
        before = self.entries.get(artifact.name)
        with fetched.path.open("rb") as file:
            os.fsync(file.fileno())
        fetched.path.replace(target)
        found = target.stat()
        entry: dict[str, Any] = {
            "version": artifact.version,
            "file": fetched.file,
            "sha512": fetched.sha512,
            "source": source.label,
            "licence": artifact.licence,
            "size": found.st_size,
            "mtime_ns": found.st_mtime_ns,
            "fingerprint": self.fingerprint(artifact, source),
        }
        if fetched.contents:
            entry["contents"] = fetched.contents
        self._record(artifact.name, entry)
        if before and before["file"] != fetched.file:
            (self.folder / before["file"]).unlink(missing_ok=True)
        return found.st_size

    # ── verify, list, lock

    def verify(self) -> dict[str, str]:
        """{artifact: what is wrong} with what the manifest lists, by hash; '' where nothing is."""

        def check(entry: Mapping[str, Any]) -> str:
            path = self.folder / entry["file"]
            if not path.exists():
                return f"{path} is missing"
            return "" if sha512_of(path) == entry["sha512"] else f"{path} is damaged"

        with concurrent.futures.ThreadPoolExecutor() as pool:
            return dict(zip(self.entries, pool.map(check, self.entries.values()), strict=True))

    def relock(self, artifacts: Iterable[Artifact], report: Reporter) -> None:
        """Write depot.lock anew from what Maven resolves now. Raises SourceError."""
        with self._exclusive(report) as lock_fd:
            runner = Runner(lock_fd)
            try:
                for artifact in artifacts:
                    for source in artifact.sources:
                        if not isinstance(source, MavenSource):
                            continue
                        work = self.folder / ".tmp" / artifact.name
                        work.mkdir(parents=True)
                        job = Job(
                            artifact=artifact,
                            root=self.root,
                            work=work,
                            parts=work.parent,
                            lock=self.lock,
                            runner=runner,
                            reporter=report,
                            maven=threading.Lock(),
                        )
                        digests = {p.name: sha512_of(p) for p in source.resolve(job).iterdir()}
                        self.lock.replace(artifact.name, digests)
                        report.finished(artifact.name)
                        report.say(artifact.name, f"{len(digests)} jars locked")
            except BaseException:
                runner.stop()
                raise
            finally:
                self._tidy()


# ── Command line ─────────────────────────────────────────────────────────────────────────────────

REMEDY = """\
What is complete stays, and the next fill goes on from here: `make depot`.
Without a network: fill the depot on a machine that has one, and copy its depot/ folder here.
A wrong checksum that stays is a damaged or exchanged source: do not change the pin before you know why."""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Fill and check the depot, from which the plant's hosts are installed."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fill = commands.add_parser("fill", help="bring what is missing (all, or what is named)")
    fill.add_argument(
        "--refresh",
        action="store_true",
        help="make it again, also if it is there (security updates)",
    )
    lock = commands.add_parser("lock", help="pin the jars that Maven resolves now in depot.lock")
    for command in (fill, lock):
        command.add_argument(
            "--only", nargs="+", default=[], metavar="NAME", help="artifacts by name"
        )
        command.add_argument(
            "--group", nargs="+", default=[], metavar="GROUP", help="artifacts by group"
        )
    commands.add_parser("verify", help="hash every file of the depot")
    commands.add_parser("list", help="show what is declared and what is there")
    for command in commands.choices.values():
        command.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)
    try:
        return _run(options)
    except DeclarationError as error:
        print(error, file=sys.stderr)
        return 2
    except DepotError as error:
        print(error, file=sys.stderr)
        return 1


def _interrupt(signum: int, _frame: object) -> None:
    raise Interrupted(signum)


def _run(options: argparse.Namespace) -> int:
    depot = Depot(options.root)
    if options.command == "fill":
        return _fill(depot, options)
    if options.command == "verify":
        return _verify(depot)
    if options.command == "lock":
        with reporter() as report:
            depot.relock(depot.select(options.only, options.group), report)
        return 0
    return _list(depot)


def _fill(depot: Depot, options: argparse.Namespace) -> int:
    artifacts = depot.select(options.only, options.group)
    try:
        with reporter() as report:
            result = depot.fill(artifacts, report, refresh=options.refresh)
    except Interrupted as interrupted:
        print("Interrupted. The next fill goes on from here.", file=sys.stderr, flush=True)
        # A thread may still wait for a silent server; nothing that it could do now matters.
        os._exit(128 + interrupted.signum)
    for story in result.failed.values():
        print(f"\n{story}", file=sys.stderr)
    if result.failed:
        print(f"\n{REMEDY}", file=sys.stderr)
    return 1 if result.failed else 0


def _verify(depot: Depot) -> int:
    found = depot.verify()
    wrong = [name for name, trouble in found.items() if trouble]
    for name, trouble in found.items():
        print(f"{name}: {trouble or 'ok'}")
    if wrong:
        print(
            f"Bring it again: python tools/depot.py fill --refresh --only {' '.join(wrong)}",
            file=sys.stderr,
        )
    return 1 if wrong else 0


def _list(depot: Depot) -> int:
    table = Table("artifact", "version", "group", "licence", "in the depot", box=None)
    for artifact in depot.artifacts.values():
        entry = depot.entries.get(artifact.name)
        there = (
            f"{megabytes(entry['size'])} from {entry['source']}"
            if entry and depot.present(artifact)
            else "-"
        )
        table.add_row(artifact.name, artifact.version, artifact.group, artifact.licence, there)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
