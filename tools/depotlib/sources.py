"""The kinds of source in depot.yml. Each makes the one file that an artifact is in the depot."""

from __future__ import annotations

import email.utils
import http.client
import os
import re
import shutil
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from xml.sax.saxutils import escape

from depotlib.work import (
    EPOCH,
    Reporter,
    Runner,
    SourceError,
    WrongChecksumError,
    megabytes,
    pack,
    sha256_of,
    sha512_of,
)

TIMEOUT_S = 10.0  # of connecting, and of silence on a connection
OPTIONAL_TIMEOUT_S = 3.0  # the same for optional artifacts: nobody waits long for them
DOWNLOAD_TRIES = 5  # of a transfer that breaks off; each goes on where the last one stopped
FIRST_PAUSE_S = 0.5  # between them, doubled each time: who cuts connections is usually overloaded
CHUNK = 1 << 20
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
SHA512 = re.compile(r"[0-9a-f]{128}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What a source made."""

    path: Path
    file: str  # its name in the depot
    sha512: str
    contents: tuple[str, ...] = ()  # what came, where that is not pinned one by one


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a source gets to work with."""

    name: str  # of the artifact
    version: str
    root: Path  # what paths of depot.yml are relative to
    work: Path  # empty folder of its own, on the depot's file system, removed afterwards
    part: Path  # start of the names of downloads that a later fill can go on with
    locked: Mapping[str, str]  # {file name: sha512} of the artifact, from depot.lock
    runner: Runner
    reporter: Reporter
    maven: threading.Lock  # Maven's local repository takes one process at a time
    depot: Callable[[str], Path]  # file of another artifact, which a source `needs`
    timeout_s: float  # of HTTP: connecting, and silence on a connection

    @property
    def log(self) -> Path:
        return self.work / "log"

    def folder(self, name: str) -> Path:
        """A new folder inside `work`."""
        path = self.work / name
        path.mkdir(parents=True)
        return path

    def step(self, text: str, done: int = 0, total: int = 0) -> None:
        """Tell what is being done."""
        self.runner.check()
        self.reporter.step(self.name, text, done, total)

    def packed(self, tree: Path, contents: Iterable[str] = (), mtime: int = EPOCH) -> Fetched:
        """The artifact assembled in `tree`, as a tar."""
        self.step("packing")
        path = self.work / f"{self.name}-{self.version}.tar"
        pack(tree, path, mtime)
        return Fetched(path=path, file=path.name, sha512=sha512_of(path), contents=tuple(contents))


@dataclass(frozen=True, kw_only=True)
class Source:
    """One way to come by an artifact: subclasses are the kinds, their fields keys of depot.yml."""

    kind: ClassVar[str]
    sha512: str = (
        ""  # of the resulting file; empty where versions move and something else is trusted
    )

    @property
    def label(self) -> str:
        """Name for people, and in the manifest."""
        return self.kind

    @property
    def needs(self) -> tuple[str, ...]:
        """Other artifacts that it is made with."""
        return ()

    def inputs(self, root: Path) -> list[str]:
        """Digests of the repository's files that the source reads besides its declaration."""
        return []

    def fetch(self, job: Job) -> Fetched:
        """Make the artifact's file.

        Raises SourceError or OSError if this source cannot serve, Stopped.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class UrlSource(Source):
    """A published archive, taken as it is."""

    kind: ClassVar[str] = "url"
    url: str
    # File with the digest, where `sha512` is not given: Apache has sha512, Grafana sha256.
    sha512_url: str = ""
    sha256_url: str = ""

    @property
    def label(self) -> str:
        return self.url

    def fetch(self, job: Job) -> Fetched:
        file = self.url.rsplit("/", 1)[-1]
        job.step(f"asking {self.url}")
        kind, digest = self.expected(file, job.timeout_s)
        # The digest is in the name: a part of one file is never continued with another's.
        part = job.part.with_name(f"{job.part.name}.{digest[:16]}.part")
        resumed = part.exists()
        download(self.url, part, job)
        job.step("checking")
        sha512 = sha512_of(part)
        actual = sha256_of(part) if kind == "sha256" else sha512
        if actual != digest:
            part.unlink()
            if resumed:  # what an earlier fill left may be the damaged half
                return self.fetch(job)
            raise wrong_checksum(kind, actual, digest)
        return Fetched(path=part, file=file, sha512=sha512)

    def expected(self, file: str, timeout_s: float) -> tuple[str, str]:
        """Kind of digest and digest that the file must have. Raises SourceError."""
        if self.sha512:
            return "sha512", self.sha512
        if self.sha512_url:
            return "sha512", published("sha512", self.sha512_url, file, timeout_s)
        return "sha256", published("sha256", self.sha256_url, file, timeout_s)


@dataclass(frozen=True, kw_only=True)
class MavenSource(Source):
    """Jars, fetched by Maven and laid out as one archive; each is pinned in depot.lock."""

    kind: ClassVar[str] = "maven"
    artifacts: tuple[str, ...]  # group:artifact:version[:classifier]
    transitive: bool  # whether what they depend on at run time comes too
    top: str = "."  # top folder inside the archive
    into: str = "."  # folder of the jars, inside `top`
    files: str = ""  # folder of this repository that is laid over `top`
    # Script in bin/ → class that it runs, by way of Kafka's launcher in `files`.
    launchers: Mapping[str, str] = field(default_factory=dict)

    LAUNCHER: ClassVar[str] = (
        '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/kafka-run-class.sh" {} "$@"\n'
    )

    def inputs(self, root: Path) -> list[str]:
        return digests(root, self.files) if self.files else []

    def fetch(self, job: Job) -> Fetched:
        jars = self.resolve(job)
        self.check(jars, job.locked)
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
        """Folder with the jars as Maven resolves them, unchecked. Raises SourceError."""
        jars = job.folder("jars")
        pom = job.work / "pom.xml"
        pom.write_text(self.pom())
        argv = [
            *("mvn", "--batch-mode", "--no-transfer-progress", "--file", str(pom)),
            "--update-snapshots",  # Maven remembers failures for a day, without this
            *("-Dmaven.wagon.http.connectionTimeout=10000", "-Dmaven.wagon.rto=60000"),
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
            f"<dependency>{''.join(f'<{k}>{escape(v)}</{k}>' for k, v in pairs)}</dependency>"
            for pairs in (zip(keys, a.split(":"), strict=False) for a in self.artifacts)
        )
        return (
            "<project><modelVersion>4.0.0</modelVersion><groupId>depot</groupId>"
            "<artifactId>depot</artifactId><version>1</version><packaging>pom</packaging>"
            f"<dependencies>{dependencies}</dependencies></project>"
        )

    @staticmethod
    def check(jars: Path, locked: Mapping[str, str], shown: int = 3) -> None:
        """Raises SourceError that names jars which are not the locked ones."""
        came = {path.name: sha512_of(path) for path in jars.iterdir()}
        wrong = [f"{name} is missing" for name in sorted(locked.keys() - came.keys())]
        wrong += [f"{name} is not locked" for name in sorted(came.keys() - locked.keys())]
        wrong += [
            f"{name} has sha512 {came[name]}, locked is {locked[name]}"
            for name in sorted(came.keys() & locked.keys())
            if came[name] != locked[name]
        ]
        if wrong:
            more = f"; and {len(wrong) - shown} more" if len(wrong) > shown else ""
            raise WrongChecksumError(
                f"the jars differ from depot.lock: {'; '.join(wrong[:shown])}{more}. A damaged jar"
                " has to go from Maven's local repository (~/.m2); a change of depot.yml that was"
                " meant is locked by `python tools/depot.py lock`"
            )


@dataclass(frozen=True, kw_only=True)
class PypiSource(Source):
    """Packages of the Python package index, pinned by hash: as they are, or repacked."""

    kind: ClassVar[str] = "pypi"
    requirements: tuple[str, ...]  # lines of a requirements file, with hashes
    top: str = "."  # top folder inside the archive
    unpack: Mapping[str, str] = field(default_factory=dict)  # path in a package → path in `top`

    def fetch(self, job: Job) -> Fetched:
        packages = job.folder("packages")
        requirements = job.work / "requirements.txt"
        requirements.write_text("\n".join(self.requirements) + "\n")
        pip(job, "download", "--dest", str(packages), "--requirement", str(requirements))
        if not self.unpack:
            return job.packed(packages)
        unpacked = job.folder("unpacked")
        for package in sorted(packages.iterdir()):
            job.step(f"unpacking {package.name}")
            # Without tarfile's filters, which Debian 12's Python lacks: pip has checked the hashes.
            shutil.unpack_archive(package, unpacked, "zip" if package.suffix == ".whl" else None)
        tree = job.folder("tree")
        top = tree / self.top
        for inside, target in self.unpack.items():
            path = unpacked / inside
            if path.is_dir():
                shutil.copytree(path, top / target, dirs_exist_ok=True, copy_function=shutil.move)
            elif path.exists():
                shutil.move(path, top / target)
            else:
                raise SourceError(f"there is no {inside} in the packages")
        # Wheels lose execute bits; but for jars, a distribution's bin/ holds programs.
        for script in (top / "bin").glob("*"):
            script.chmod(0o644 if script.suffix == ".jar" else 0o755)
        return job.packed(tree)


@dataclass(frozen=True, kw_only=True)
class WheelhouseSource(Source):
    """Wheels of a locked requirements file, built where only sources are published.

    The archive's own requirements.txt lists them with the hashes that they have, so that
    `pip install --no-index --require-hashes` works from it.
    """

    kind: ClassVar[str] = "wheelhouse"
    requirements: str  # file of this repository
    also: tuple[str, ...] = ()  # further requirement lines, with hashes

    def inputs(self, root: Path) -> list[str]:
        path = root / self.requirements
        return [sha512_of(path)] if path.exists() else []

    def fetch(self, job: Job) -> Fetched:
        wheels = job.folder("wheels")
        also = job.work / "also.txt"
        also.write_text("\n".join(self.also) + "\n")
        files = ("--requirement", str(job.root / self.requirements), "--requirement", str(also))
        pip(job, "wheel", "--wheel-dir", str(wheels), *files)
        built = sorted(wheels.iterdir())
        lines = [
            "{}=={} --hash=sha256:{}\n".format(*wheel.name.split("-")[:2], sha256_of(wheel))
            for wheel in built
        ]
        (wheels / "requirements.txt").write_text("".join(lines))
        return job.packed(wheels, [wheel.name for wheel in built])


@dataclass(frozen=True, kw_only=True)
class AptSource(Source):
    """Debian packages with all that they depend on, as a flat apt repository.

    They come from the control node's own apt sources and are checked by apt's signatures.
    Dependencies are resolved as if nothing were installed, so that the repository also serves
    hosts which lag behind by a point release.
    """

    kind: ClassVar[str] = "apt"
    release: str  # code name
    packages: tuple[str, ...]

    def fetch(self, job: Job) -> Fetched:
        state, cache = job.folder("state"), job.folder("cache")
        (state / "lists/partial").mkdir(parents=True)
        archives = cache / "archives"
        (archives / "partial").mkdir(parents=True)
        (state / "status").touch()
        options = {
            "Dir::State": state,
            "Dir::State::status": state / "status",
            "Dir::Cache": cache,
            "Acquire::Languages": "none",
            "Acquire::http::Timeout": f"{TIMEOUT_S:.0f}",
            # Only this release and its updates, whatever else the control node's sources offer.
            "APT::Default-Release": f"/^{self.release}(-updates|-security)?$/",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",  # apt's own user may not enter a folder below a home
            "Debug::NoLocking": "true",
        }
        apt = ["apt-get", "--yes", *(f"--option={key}={value}" for key, value in options.items())]
        job.step("apt: package lists")
        job.runner.run([*apt, "update", "--error-on=any"], needs="apt", log=job.log)
        codenames = [*apt, "indextargets", "--format=$(CODENAME)", "Created-By: Packages"]
        offered = set(job.runner.run(codenames, needs="apt", log=job.log).split())
        if self.release not in offered:
            raise SourceError(
                f"the control node's apt sources offer {', '.join(sorted(offered)) or 'nothing'},"
                f" not {self.release}"
            )
        job.step("apt: packages")
        job.runner.run(
            [*apt, "install", "--download-only", *self.packages], needs="apt", log=job.log
        )
        now = int(time.time())
        repository = job.folder("repository")
        contents = [self.add(job, deb, repository) for deb in sorted(archives.glob("*.deb"))]
        packages = repository / "Packages"
        (repository / "Release").write_text(
            f"Origin: Plantline depot\nCodename: {self.release}\n"
            f"Date: {email.utils.formatdate(now, usegmt=True)}\n"
            f"SHA256:\n {sha256_of(packages)} {packages.stat().st_size} Packages\n"
        )
        # With the time of today: apt takes an index that is not newer for one that it knows.
        return job.packed(repository, contents, mtime=now)

    @staticmethod
    def add(job: Job, deb: Path, repository: Path) -> str:
        """Move a package into a repository and its index; its name and version."""
        control = job.runner.run(["dpkg-deb", "--field", str(deb)], needs="dpkg", log=job.log)
        fields = dict(re.findall(r"^(Package|Version|Architecture): (.+)$", control, re.MULTILINE))
        package, version = fields["Package"], fields["Version"]
        # apt's cache quotes an epoch's colon. Without the epoch, as in Debian's own archive, there
        # is nothing that a URL would have to quote again.
        name = f"{package}_{version.rpartition(':')[2]}_{fields['Architecture']}.deb"
        target = deb.rename(repository / name)
        with (repository / "Packages").open("a") as index:
            index.write(
                f"{control.rstrip()}\nFilename: ./{name}\nSize: {target.stat().st_size}\n"
                f"SHA256: {sha256_of(target)}\n\n"
            )
        return f"{package} {version}"


@dataclass(frozen=True, kw_only=True)
class MmdebstrapSource(Source):
    """A root file system: Debian's smallest variant and some packages."""

    kind: ClassVar[str] = "mmdebstrap"
    release: str  # code name
    packages: tuple[str, ...]

    def fetch(self, job: Job) -> Fetched:
        path = job.work / f"{job.name}-{job.version}.tar"
        argv = ["mmdebstrap", "--variant=minbase", f"--include={','.join(self.packages)}"]
        env = {}
        if os.geteuid() == 0:  # others build under ids that may not enter a home: in /tmp
            env["TMPDIR"] = str(job.folder("chroot"))
        job.step("mmdebstrap")
        job.runner.run([*argv, self.release, str(path)], needs="mmdebstrap", log=job.log, env=env)
        return Fetched(path=path, file=path.name, sha512=sha512_of(path))


@dataclass(frozen=True, kw_only=True)
class JavacSource(Source):
    """A jar of this repository's own Java sources, compiled against the jars of other artifacts.

    It has no pinned sha512: another JDK may compile the same sources into other bytes. The manifest
    keeps the digests of the sources.
    """

    kind: ClassVar[str] = "javac"
    files: str  # folder of this repository: sources, and META-INF as it is to be in the jar
    release: str  # of Java, the oldest that is to run it
    classpath: tuple[str, ...]  # artifacts; the sources are compiled against their jars

    @property
    def needs(self) -> tuple[str, ...]:
        return self.classpath

    def inputs(self, root: Path) -> list[str]:
        return digests(root, self.files)

    def fetch(self, job: Job) -> Fetched:
        jars = job.folder("jars")
        for name in self.classpath:
            job.step(f"unpacking {name}")
            unpack_jars(job.depot(name), jars)
        folder = job.root / self.files
        classes = job.folder("classes")
        argv = [
            *("javac", "--release", self.release, "--class-path", f"{jars}/*", "-d", str(classes)),
            "-proc:none",  # log4j's jar brings an annotation processor, which is none of ours
            *sorted(str(path) for path in folder.rglob("*.java")),
        ]
        job.step("javac")
        job.runner.run(argv, needs="default-jdk-headless", log=job.log)
        if (folder / "META-INF").exists():
            shutil.copytree(folder / "META-INF", classes / "META-INF")
        tree = job.folder("tree")
        write_jar(classes, tree / f"{job.name}-{job.version}.jar")
        return job.packed(tree, self.inputs(job.root))


KINDS: dict[str, type[Source]] = {
    cls.kind: cls
    for cls in (
        UrlSource,
        MavenSource,
        PypiSource,
        WheelhouseSource,
        AptSource,
        MmdebstrapSource,
        JavacSource,
    )
}


# ── Files ────────────────────────────────────────────────────────────────────────────────────────


def digests(root: Path, folder: str) -> list[str]:
    """`<path> <sha512>` of all files in a folder of the repository."""
    files = sorted(path for path in (root / folder).rglob("*") if path.is_file())
    return [f"{path.relative_to(root)} {sha512_of(path)}" for path in files]


def unpack_jars(archive: Path, target: Path) -> None:
    """Copy the jars in an archive's lib folder, or lying bare in the archive, into `target`.

    Raises SourceError if there are none.
    """
    found = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            is_one = path.suffix == ".jar" and path.parent.name in ("lib", "")
            content = tar.extractfile(member) if is_one else None
            if content:
                found += 1
                with content, (target / path.name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    if not found:
        raise SourceError(f"there are no jars, or none in lib/, in {archive.name}")


def write_jar(classes: Path, jar: Path) -> None:
    """Zip a folder's content like `pack`: sorted, with a fixed time, not compressed."""
    with zipfile.ZipFile(jar, "w") as archive:
        for path in sorted(path for path in classes.rglob("*") if path.is_file()):
            archive.writestr(zipfile.ZipInfo(str(path.relative_to(classes))), path.read_bytes())


# ── pip ──────────────────────────────────────────────────────────────────────────────────────────


def pip(job: Job, command: str, *arguments: str) -> None:
    """Run this environment's pip; every requirement must carry a hash.

    What has to be built is built with this environment's locked setuptools, not with the newest.
    """
    argv = [
        *(sys.executable, "-m", "pip", command, "--no-deps", "--require-hashes"),
        *("--no-build-isolation", "--disable-pip-version-check", "--progress-bar=off"),
        *("--retries=1", f"--timeout={TIMEOUT_S:.0f}", *arguments),
    ]
    job.step("pip")
    # The builders' clock: a wheel built twice is the same wheel.
    env = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    job.runner.run(argv, needs="python3-venv", log=job.log, env=env)


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────


def wrong_checksum(kind: str, actual: str, expected: str) -> WrongChecksumError:
    return WrongChecksumError(f"wrong checksum: {kind} is {actual}, expected {expected}")


def published(kind: str, url: str, file: str, timeout_s: float) -> str:
    """The digest in a `.sha512` or `.sha256` file (`kind`).

    It may stand alone (Grafana's), in sha512sum's form, or in that of gpg --print-md (Kafka's).
    Raises SourceError.
    """
    try:
        with _open(url, {}, timeout_s) as response:
            text = response.read(4096).decode("ascii", errors="replace")
    except urllib.error.HTTPError as error:
        raise SourceError(f"no published {kind}: HTTP {error.code} {error.reason}") from None
    digest = re.sub(r"[\s:*]", "", text.replace(file, "")).lower()
    if not (SHA256 if kind == "sha256" else SHA512).fullmatch(digest):
        raise SourceError(f"no published {kind}: {url} holds none of {file}")
    return digest


def download(url: str, part: Path, job: Job) -> None:
    """Fetch a URL into `part`, going on where an earlier attempt stopped.

    Raises SourceError if the server is not there, refuses, or cuts the connection too often; what
    came stays in `part`, to be continued.
    """
    trouble = ""
    for attempt in range(DOWNLOAD_TRIES):
        if attempt:
            job.runner.pause(FIRST_PAUSE_S * 2 ** (attempt - 1))
        try:
            if _transfer(url, part, job):
                return
            trouble = "the connection was cut"
        except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
            trouble = reason(error, job.timeout_s)
    size = part.stat().st_size if part.exists() else 0
    raise SourceError(
        f"{trouble}, {DOWNLOAD_TRIES} times; {megabytes(size)} are kept for the next fill"
    )


def _transfer(url: str, part: Path, job: Job) -> bool:
    """One attempt; whether the file is whole now.

    Raises SourceError if nothing comes, and what sockets raise if it stops coming.
    """
    have = part.stat().st_size if part.exists() else 0
    try:
        response = _open(url, {"Range": f"bytes={have}-"} if have else {}, job.timeout_s)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return True  # there is nothing after what we have; the checksum tells if that is all
        raise SourceError(f"HTTP {error.code} {error.reason}") from None
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else 0
        with part.open("ab" if have else "wb") as file:
            while chunk := response.read1(CHUNK):
                file.write(chunk)
                have += len(chunk)
                job.step("downloading", have, total)
    return not total or have >= total


def _open(url: str, headers: Mapping[str, str], timeout_s: float) -> http.client.HTTPResponse:
    """Raises HTTPError if the server refuses, SourceError if there is none."""
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 (loaded: http or https)
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(  # noqa: S310 (as above)
            request, timeout=timeout_s
        )
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise SourceError(f"unreachable: {reason(error, timeout_s)}") from None
    return response


def reason(error: Exception, timeout_s: float) -> str:
    """A network error in a few words."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, Exception):
        return reason(inner, timeout_s)
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_s:.0f} s"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
