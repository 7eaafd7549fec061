"""The depot folder: what it holds, and how it gets what it lacks."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from depotlib import sources
from depotlib.declaration import Artifact, DeclarationError, Lock, load
from depotlib.sources import Fetched, Job, MavenSource, Source, wrong_checksum
from depotlib.work import (
    DepotError,
    Reporter,
    Runner,
    SourceError,
    WrongChecksumError,
    megabytes,
    sha512_of,
    write_whole,
)

RECIPE = 1  # to be raised when the same declaration makes other files than before
JOBS = 8  # artifacts in work at once; most of the time they wait for the network
ASK_AGAIN_S = 86_400  # after which an optional artifact that no source served is asked for again


@dataclass
class Outcome:
    """What became of a fill."""

    filled: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # artifact → each source and why not
    left_out: list[str] = field(default_factory=list)  # optional artifacts that no source served


class LeftOutError(DepotError):
    """An optional artifact could not be had; the text is the reason."""


class Depot:
    """The depot of a repository; `root` holds depot.yml, depot.lock and the folder depot/."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.folder = self.root / "depot"
        self.artifacts = load(root / "depot.yml")
        self.lock = Lock(root / "depot.lock")
        self.entries = self._read_manifest()
        self._mutex = threading.Lock()
        self._maven = threading.Lock()

    # ── What is there

    @property
    def _manifest(self) -> Path:
        return self.folder / "manifest.json"

    def _read_manifest(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(json.loads(self._manifest.read_text())["artifacts"])
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError):
            raise DepotError(
                f"{self._manifest} is damaged: remove it, and fill the depot again"
            ) from None

    def _write_manifest(self) -> None:
        entries = {name: self.entries[name] for name in self.artifacts if name in self.entries}
        write_whole(self._manifest, json.dumps({"artifacts": entries}, indent=2) + "\n")

    def select(self, names: Iterable[str], groups: Iterable[str]) -> list[Artifact]:
        """Artifacts by name or group, all if neither is given.

        Raises DeclarationError for a name or group that nothing has.
        """
        names, groups = set(names), set(groups)
        known = {artifact.group for artifact in self.artifacts.values()}
        for name in sorted(names - self.artifacts.keys()):
            raise DeclarationError(f"no artifact '{name}'; there are: {', '.join(self.artifacts)}")
        for group in sorted(groups - known):
            raise DeclarationError(f"no group '{group}'; there are: {', '.join(sorted(known))}")
        return [
            artifact
            for artifact in self.artifacts.values()
            if not (names or groups) or artifact.name in names or artifact.group in groups
        ]

    def fingerprint(self, artifact: Artifact, source: Source) -> str:
        """Digest of all that decides what a source makes."""
        declared = {
            "recipe": RECIPE,
            "kind": source.kind,
            "version": artifact.version,
            **dataclasses.asdict(source),
            "inputs": source.inputs(self.root),
            "locked": self.lock.of(artifact.name) if isinstance(source, MavenSource) else {},
        }
        if source.needs:
            declared["needs"] = {name: self.artifacts[name].version for name in source.needs}
        return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()

    def present(self, artifact: Artifact) -> bool:
        """Whether the artifact is there, whole, and as one of its sources is declared now.

        A file is hashed only if it has the right size and another time, as in a copied depot.
        """
        entry = self.entries.get(artifact.name)
        if not entry:
            return False
        if entry["fingerprint"] not in self._fingerprints(artifact):
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
            entry["mtime_ns"] = found.st_mtime_ns
            with contextlib.suppress(OSError), self._mutex:  # it may be on a read-only medium
                self._write_manifest()
        return True

    def file(self, name: str) -> Path:
        """An artifact's file. Raises SourceError if it is not there."""
        if not self.present(self.artifacts[name]):
            raise SourceError(f"it is made with {name}, which is not in the depot")
        return self.folder / str(self.entries[name]["file"])

    def verify(self) -> dict[str, str]:
        """{artifact: what is wrong with its file, or ''} of all in the manifest, by hash."""

        def trouble(entry: Mapping[str, Any]) -> str:
            path = self.folder / entry["file"]
            if not path.exists():
                return f"{path} is missing"
            return "" if sha512_of(path) == entry["sha512"] else f"{path} is damaged"

        with concurrent.futures.ThreadPoolExecutor() as pool:
            return dict(zip(self.entries, pool.map(trouble, self.entries.values()), strict=True))

    # ── Bringing what is not

    def fill(
        self,
        artifacts: Iterable[Artifact],
        reporter: Reporter,
        *,
        refresh: bool = False,
        needed: Collection[str] = (),
    ) -> Outcome:
        """Bring the artifacts that are not there, or all of them anew (`refresh`).

        One that cannot be had keeps none of the others from being had. An optional one that no
        source serves is left out, and not asked for again before ASK_AGAIN_S, unless `needed`
        names it: then it is like any other.
        """
        outcome = Outcome()
        missing = []
        for declared in artifacts:
            optional = declared.optional and declared.name not in needed
            artifact = dataclasses.replace(declared, optional=optional)
            if not refresh and self.present(artifact):
                source = self.entries[artifact.name]["source"]
                reporter.say(artifact.name, f"{artifact.version} is there, from {source}")
            elif not refresh and (reason := self._known_to_fail(artifact)):
                outcome.left_out.append(artifact.name)
                reporter.say(artifact.name, left_out(artifact, reason))
            else:
                missing.append(artifact)
        if not missing:
            return outcome
        with self._exclusive(reporter) as runner:
            if not refresh:  # another fill may have brought some while this one waited
                missing = [artifact for artifact in missing if not self.present(artifact)]
            self._prune()
            pool = concurrent.futures.ThreadPoolExecutor(JOBS)
            futures: dict[concurrent.futures.Future[None], str] = {}
            try:
                for turn in in_turn(missing):
                    futures = {
                        pool.submit(self._bring, artifact, reporter, runner): artifact.name
                        for artifact in turn
                    }
                    for future in concurrent.futures.as_completed(futures):
                        name = futures[future]
                        try:
                            future.result()
                            outcome.filled.append(name)
                        except LeftOutError:
                            outcome.left_out.append(name)
                        except DepotError as error:
                            outcome.failed[name] = str(error)
                        reporter.finished(name)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                runner.stop()
                # All end at once but one that reads from a silent server, into a part that stays.
                concurrent.futures.wait(futures, timeout=2)
                raise
            pool.shutdown()
        return outcome

    @contextlib.contextmanager
    def _exclusive(self, reporter: Reporter) -> Iterator[Runner]:
        """Holds the depot for one process; work in progress is gone before and afterwards."""
        self.folder.mkdir(exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                reporter.say("depot", "waiting for another fill, or what a killed one left running")
                fcntl.flock(file, fcntl.LOCK_EX)
            self.entries = self._read_manifest()
            self._tidy()
            try:
                yield Runner(file.fileno())
            finally:
                self._tidy()

    @property
    def _temporary(self) -> Path:
        return self.folder / ".tmp"

    def _tidy(self) -> None:
        """Remove work in progress, except downloads that can go on."""
        for path in self._temporary.glob("*"):
            if path.suffix != ".part":
                shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._temporary.rmdir()

    def _prune(self) -> None:
        """Remove what depot.yml no longer declares."""
        for name in self.entries.keys() - self.artifacts.keys():
            (self.folder / self.entries.pop(name)["file"]).unlink(missing_ok=True)
            self._write_manifest()

    @contextlib.contextmanager
    def _job(self, artifact: Artifact, reporter: Reporter, runner: Runner) -> Iterator[Job]:
        work = self._temporary / artifact.name
        work.mkdir(parents=True)
        try:
            yield Job(
                name=artifact.name,
                version=artifact.version,
                root=self.root,
                work=work,
                part=work,
                locked=self.lock.of(artifact.name),
                runner=runner,
                reporter=reporter,
                maven=self._maven,
                depot=self.file,
                timeout_s=sources.OPTIONAL_TIMEOUT_S if artifact.optional else sources.TIMEOUT_S,
            )
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _bring(self, artifact: Artifact, reporter: Reporter, runner: Runner) -> None:
        """Bring one artifact from the first source that can serve it.

        Raises DepotError with each source and its reason, LeftOutError, Stopped.
        """
        started = time.monotonic()
        optional = artifact.optional
        reasons = [f"{artifact.name} {artifact.version}: no source could serve it"]
        for source in artifact.sources:
            with self._job(artifact, reporter, runner) as job:
                try:
                    fetched = source.fetch(job)
                    if source.sha512 and fetched.sha512 != source.sha512:
                        raise wrong_checksum("sha512", fetched.sha512, source.sha512)
                    size = self._accept(artifact, source, fetched)
                except (SourceError, OSError) as error:
                    reasons.append(f"  {source.label}: {error}")
                    # Optional or not, a file that is not the declared one is nobody's mishap.
                    optional = optional and not isinstance(error, WrongChecksumError)
                    if not optional:
                        reporter.say(artifact.name, f"not from {source.label}: {error}")
                    continue
            seconds = time.monotonic() - started
            news = f"{artifact.version}, {megabytes(size)} from {source.label} in {seconds:.0f} s"
            reporter.say(artifact.name, news)
            return
        if optional:
            reason = "; ".join(reason.strip() for reason in reasons[1:])
            self._remember_failure(artifact, reason)
            reporter.say(artifact.name, left_out(artifact, reason))
            raise LeftOutError(reason)
        raise DepotError("\n".join(reasons))

    # ── Optional artifacts that could not be had

    @property
    def _left_out(self) -> Path:
        return self.folder / "left-out.json"

    def _failures(self) -> dict[str, dict[str, Any]]:
        try:
            return dict(json.loads(self._left_out.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return {}  # lost, it costs one question more

    def _fingerprints(self, artifact: Artifact) -> list[str]:
        return [self.fingerprint(artifact, source) for source in artifact.sources]

    def _known_to_fail(self, artifact: Artifact) -> str:
        """Why an optional artifact could not be had less than ASK_AGAIN_S ago, or ''."""
        known = self._failures().get(artifact.name)
        if not known or not artifact.optional:
            return ""
        age_s = time.time() - known["asked"]
        if known["fingerprints"] != self._fingerprints(artifact) or not 0 <= age_s < ASK_AGAIN_S:
            return ""
        return str(known["reason"])

    def _remember_failure(self, artifact: Artifact, reason: str) -> None:
        known = {"asked": time.time(), "reason": reason}
        with self._mutex:
            failures = self._failures()
            failures[artifact.name] = known | {"fingerprints": self._fingerprints(artifact)}
            write_whole(self._left_out, json.dumps(failures, indent=2) + "\n")

    def _accept(self, artifact: Artifact, source: Source, fetched: Fetched) -> int:
        """Take a file into the depot; its size in bytes."""
        target = self.folder / fetched.file
        with fetched.path.open("rb") as file:
            os.fsync(file.fileno())
        fetched.path.replace(target)
        found = target.stat()
        entry = {
            "version": artifact.version,
            "file": fetched.file,
            "sha512": fetched.sha512,
            "source": source.label,
            "licence": artifact.licence,
            "size": found.st_size,
            "mtime_ns": found.st_mtime_ns,
            "fingerprint": self.fingerprint(artifact, source),
            "contents": fetched.contents,
        }
        with self._mutex:
            before = self.entries.get(artifact.name, entry)["file"]
            self.entries[artifact.name] = entry
            self._write_manifest()
        if before != fetched.file:
            (self.folder / before).unlink(missing_ok=True)
        for part in self._temporary.glob(f"{artifact.name}.*.part"):
            part.unlink()
        return found.st_size

    # ── depot.lock

    def relock(self, artifacts: Iterable[Artifact], reporter: Reporter) -> None:
        """Write depot.lock anew with the jars that Maven resolves now. Raises SourceError."""
        with self._exclusive(reporter) as runner:
            try:
                for artifact in artifacts:
                    for source in artifact.sources:
                        if not isinstance(source, MavenSource):
                            continue
                        with self._job(artifact, reporter, runner) as job:
                            jars = source.resolve(job)
                            digests = {path.name: sha512_of(path) for path in jars.iterdir()}
                        self.lock.replace(artifact.name, digests)
                        reporter.finished(artifact.name)
                        reporter.say(artifact.name, f"{len(digests)} jars locked")
            except BaseException:
                runner.stop()
                raise


def in_turn(artifacts: Iterable[Artifact]) -> list[list[Artifact]]:
    """Those that are made with others after all of these."""
    turns: list[list[Artifact]] = [[], []]
    for artifact in artifacts:
        turns[any(source.needs for source in artifact.sources)].append(artifact)
    return turns


def left_out(artifact: Artifact, reason: str) -> str:
    """The one line that is said of an optional artifact that could not be had."""
    return (
        f"{artifact.version} is optional and is left out ({reason}); to ask for it again before"
        f" a day is over: python tools/depot.py fill --only {artifact.name}"
    )
