"""Keep Flink jobs as declared: started once, upgraded with their state, brought back when lost.

``apply`` makes what runs equal to what is declared. ``recover`` only starts what the JobManager
no longer knows (one without high availability comes back empty after a crash); a timer calls it.

What a running job was made from is written on the job itself, as labels among its global job
parameters (REST ``/jobs/<id>/config``, ``user-config``), so there is no record beside Flink that
could disagree with it. The words are those of the Flink Kubernetes operator:

- nothing that the job is made from changed: only its health is looked at;
- *savepoint* upgrade: the job is stopped with a savepoint and the new one starts from it;
- *last-state* upgrade: a job that cannot take a savepoint is cancelled, and the new one starts
  from its newest retained checkpoint;
- *stateless* upgrade: the newest state was written with another ``state_version``, so it does not
  fit. The new job starts without it, and the answer says so. Older state that would fit is not used
  either: it would rewind the sources and write results twice.

A job that starts without state is told so (``--fresh``): it is to read its sources from their
beginning, and to emit what it never has. What that is it keeps in a file beside its state, which
each later start names (``--emitted``), since a checkpoint may lie before it; see
flink_jobs/resume.py. What the job says on this on its standard output, in lines that begin with
``plantline:``, becomes part of the answer. A job whose program ends because others have to be
started first (``OTHERS_FIRST``) is tried once more after them.

State lies below ``<checkpoints>/<job>/<state_version>/`` and
``<savepoints>/<job>/<state_version>/``: its version is known by where it lies, even when no
JobManager is left to ask.

A job is healthy when it is RUNNING and has completed a checkpoint since it was started or
restored. Flink accepts jobs whose state it cannot restore and restarts them for ever: a
submission proves nothing.

Only the standard library is used: this runs on the master, beside the `flink` command.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypeVar

from flink_jobs.resume import OTHERS_FIRST

TERMINAL = frozenset({"FAILED", "CANCELED", "FINISHED", "SUSPENDED"})
# These last moments and end by themselves; nothing can be decided while they do.
PASSING = frozenset({"INITIALIZING", "CREATED", "RECONCILING", "FAILING", "CANCELLING"})

# Role pki's folder.
PKI = Path("/etc/plantline/pki")

LABEL = "plantline."
STATE_VERSION = f"{LABEL}state-version"
SAVEPOINTS_KEPT = 3
PATIENCE_S = 180.0
# A job that starts without state reads first what it has emitted: minutes, where that is millions.
PATIENCE_WITHOUT_STATE_S = 900.0
FIRST_RETRY_PAUSE_S, LONGEST_RETRY_PAUSE_S = 15.0, 600.0

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RUN = re.compile(r"[0-9a-f]{32}")
_SUBMITTED = re.compile(r"Job has been submitted with JobID ([0-9a-f]{32})")
_SAID = re.compile(r"^plantline: (.+)$", re.MULTILINE)

READS_ALL = "it reads its topic from the beginning, and emits what was not emitted before"

T = TypeVar("T")


class DeployError(Exception):
    """What is declared cannot be brought about; the message says why."""


class NoAnswerError(DeployError):
    """The JobManager does not answer now: it is starting, unreachable, or busy with the job."""


class LateError(DeployError):
    """Something did not happen before its deadline."""


@dataclass(frozen=True)
class JobSpec:
    """One declared job.

    ``inputs`` is what the job is made from besides what stands here (code, configuration, models):
    the content itself or its checksum, by part. ``state_version`` names the form of the operators'
    state: it has to change with whatever changes that form (SQL text, features), and with nothing
    else.
    """

    name: str
    module: str
    args: tuple[str, ...]
    parallelism: int
    state: Literal["running", "stopped"]
    state_version: str
    flink_config: Mapping[str, str]
    inputs: Mapping[str, str]
    healthy_within_s: float

    def labels(self) -> dict[str, str]:
        """What the job is made from, part by part, as label -> short checksum."""
        parts: dict[str, object] = {
            **self.inputs,
            "arguments": [self.module, *self.args],
            "settings": [self.parallelism, sorted(self.flink_config.items())],
        }
        labels = {
            LABEL + part: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
            for part, value in parts.items()
        }
        return {**labels, STATE_VERSION: self.state_version}


@dataclass(frozen=True)
class Declaration:
    """All jobs of the cluster, and the shared folders that hold their state."""

    checkpoints: Path
    savepoints: Path
    jobs: tuple[JobSpec, ...]


@dataclass(frozen=True)
class Job:
    """One line of Flink's job overview."""

    id: str
    name: str
    state: str
    started_ms: int
    ended_ms: int
    tasks: Mapping[str, int]


@dataclass(frozen=True)
class State:
    """A complete checkpoint or savepoint, and the state_version it was written with."""

    path: Path
    version: str


@dataclass(frozen=True)
class Outcome:
    """What was done about one job; in check mode, what would be done."""

    job: str
    action: Literal["unchanged", "started", "upgraded", "stopped", "failed"]
    message: str


def parse_declaration(text: str) -> Declaration:
    """Read a declaration.

    It is JSON: ``checkpoints`` and ``savepoints`` (folders), ``inputs`` (what all jobs are made
    from, name -> checksum), ``files`` (path -> checksum), ``config_dir``, and ``jobs``, whose
    entries are those of role flink_jobs.

    Raises:
        DeployError: it is not one; the message names the job and what is wrong with it.
    """
    try:
        document = json.loads(text)
        declaration = Declaration(
            checkpoints=Path(document["checkpoints"]),
            savepoints=Path(document["savepoints"]),
            jobs=tuple(_parse_job(entry, document) for entry in document["jobs"]),
        )
    except KeyError as missing:
        raise DeployError(f"the declaration has no {missing.args[0]!r}") from missing
    except (AttributeError, TypeError, json.JSONDecodeError) as error:
        raise DeployError(f"the declaration cannot be read: {error}") from error
    names = [spec.name for spec in declaration.jobs]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise DeployError(f"declared more than once: {', '.join(doubled)}")
    return declaration


def _parse_job(entry: Mapping[str, Any], document: Mapping[str, Any]) -> JobSpec:
    name = str(entry["name"])
    args = [str(arg) for arg in entry.get("args", [])]
    inputs = {str(part): str(checksum) for part, checksum in document["inputs"].items()}
    try:
        if "config" in entry:
            args = ["--config", f"{document['config_dir']}/{name}.config.json", *args]
            inputs["config"] = json.dumps(entry["config"], sort_keys=True)
        inputs["files"] = " ".join(document["files"][file] for file in entry.get("files", []))
        spec = JobSpec(
            name=name,
            module=str(entry["module"]),
            args=tuple(args),
            parallelism=int(entry["parallelism"]),
            state=entry.get("state", "running"),
            state_version=str(entry.get("state_version", "1")),
            flink_config={str(k): str(v) for k, v in entry.get("flink_config", {}).items()},
            inputs=inputs,
            healthy_within_s=float(entry.get("healthy_within_s", 180)),
        )
    except KeyError as missing:
        raise DeployError(f"job {name}: {missing.args[0]!r} is missing") from missing
    except (AttributeError, TypeError, ValueError) as error:
        raise DeployError(f"job {name}: {error}") from error
    if spec.state not in ("running", "stopped"):
        raise DeployError(f"job {name}: state {spec.state!r} is neither 'running' nor 'stopped'")
    if spec.parallelism < 1:
        raise DeployError(f"job {name}: parallelism {spec.parallelism} is less than 1")
    # They become folder names and parts of one `key:value,key:value` option.
    for word in (name, spec.state_version, *inputs):
        if not _WORD.fullmatch(word):
            raise DeployError(f"job {name}: {word!r} has other signs than letters, digits, . _ -")
    return spec


class Rest:
    """The few calls of Flink's REST interface that are needed here.

    context: makes what an https address needs, anew for each call: certificates change meanwhile.
    """

    def __init__(
        self, url: str, context: Callable[[], ssl.SSLContext], timeout_s: float = 10.0
    ) -> None:
        self._url = url.rstrip("/")
        self._context = context
        self._timeout_s = timeout_s

    def jobs(self) -> list[Job]:
        """All jobs that the JobManager knows, oldest first; ended ones for an hour."""
        jobs = [
            Job(
                id=job["jid"],
                name=job["name"],
                state=job["state"],
                started_ms=job["start-time"],
                ended_ms=job["end-time"],
                tasks={k: n for k, n in job["tasks"].items() if n and k != "total"},
            )
            for job in self._call("GET", "/jobs/overview")["jobs"]
        ]
        return sorted(jobs, key=lambda job: job.started_ms)

    def job(self, job_id: str) -> Job:
        for job in self.jobs():
            if job.id == job_id:
                return job
        raise DeployError(f"the JobManager no longer knows job {job_id}; was it restarted?")

    def labels(self, job_id: str) -> dict[str, str]:
        """Our labels on the job; empty when it was not started from a declaration."""
        config = self._call("GET", f"/jobs/{job_id}/config").get("execution-config") or {}
        parameters = config.get("user-config") or {}
        return {key: str(value) for key, value in parameters.items() if key.startswith(LABEL)}

    def has_checkpointed(self, job_id: str) -> bool:
        """Whether the job has completed a checkpoint since it was started or last restored."""
        latest = self._call("GET", f"/jobs/{job_id}/checkpoints").get("latest") or {}
        completed, restored = latest.get("completed"), latest.get("restored")
        if not completed:
            return False
        return not restored or completed["latest_ack_timestamp"] > restored["restore_timestamp"]

    def root_exception(self, job_id: str) -> str | None:
        """The newest failure, in one line."""
        answer = self._call("GET", f"/jobs/{job_id}/exceptions")
        history = (answer.get("exceptionHistory") or {}).get("entries") or []
        trace = history[0]["stacktrace"] if history else answer.get("root-exception")
        return summarize_trace(trace) if trace else None

    def stop_with_savepoint(self, job_id: str, directory: Path) -> str:
        """Ask for it; returns the id by which its progress is asked for."""
        body = {"targetDirectory": directory.as_uri(), "drain": False}
        return str(self._call("POST", f"/jobs/{job_id}/stop", body)["request-id"])

    def savepoint(self, job_id: str, request_id: str) -> str | None:
        """Where the savepoint lies; None while it is being written.

        Raises:
            DeployError: Flink could not write it.
        """
        answer = self._call("GET", f"/jobs/{job_id}/savepoints/{request_id}")
        if answer["status"]["id"] != "COMPLETED":
            return None
        operation = answer["operation"]
        if "failure-cause" in operation:
            raise DeployError(summarize_trace(operation["failure-cause"]["stack-trace"]))
        return str(operation["location"])

    def cancel(self, job_id: str) -> None:
        self._call("PATCH", f"/jobs/{job_id}?mode=cancel")

    def slots(self) -> str:
        overview = self._call("GET", "/overview")
        return f"{overview['slots-available']} of {overview['slots-total']} slots are free"

    def _call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        request = urllib.request.Request(  # noqa: S310 - the scheme is the operator's choice
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            context = self._context() if self._url.startswith("https:") else None
            with urllib.request.urlopen(  # noqa: S310 - as above
                request, timeout=self._timeout_s, context=context
            ) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            problem = summarize_trace(error.read().decode(errors="replace"))
            # Without a leader it answers 503, about a job that is being initialised 500.
            passing = error.code >= HTTPStatus.INTERNAL_SERVER_ERROR
            raise (NoAnswerError if passing else DeployError)(
                f"{method} {self._url}{path}: HTTP {error.code}: {problem}"
            ) from error
        except OSError as error:
            raise NoAnswerError(
                f"the JobManager at {self._url} does not answer: {error}"
            ) from error


def client_context(ca: Path, certificate: Path) -> ssl.SSLContext:
    """Trusts a CA (PEM), and says who asks by key and certificate in one file; raises OSError."""
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate)
    return context


def summarize_trace(trace: str) -> str:
    """A Java stack trace in one line: what it begins with, and its deepest cause."""
    lines = [line.strip() for line in trace.replace("\\n", "\n").splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("Caused by:")]
    return " ... ".join([*lines[:1], *causes[-1:]]) or "no reason given"


def summarize_submission(output: str) -> str:
    """What a person needs of a failed `flink run`: the Python traceback, without Java's frames."""
    python_said, *_ = output.partition("org.apache.flink.client.program.ProgramAbortException")
    lines = [line for line in python_said.splitlines() if line.strip() and "\tat " not in line]
    return "\n".join(lines[-25:])


def newest_state(*roots: Path) -> State | None:
    """The newest complete checkpoint or savepoint of a job, whatever version it is of.

    One counts only with its `_metadata`, which Flink writes last: the checkpoint that a crash cut
    off is newer than the one to restore.
    """
    found = [
        (metadata.stat().st_mtime_ns, metadata)
        for root in roots
        for form in ("*/savepoint-*/_metadata", "*/*/chk-*/_metadata")
        for metadata in root.glob(form)
    ]
    if not found:
        return None
    path = max(found)[1].parent
    version = path.parent if path.name.startswith("savepoint-") else path.parent.parent
    return State(path, version.name)


def module_file(module: str) -> Path:
    """The file of an importable module: `flink run` takes a file.

    Raises:
        DeployError: there is no such module in this Python environment.
    """
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        raise DeployError(f"{sys.executable} has no module {module}")
    return Path(found.origin)


def retry_pause_s(failures: int) -> float:
    """How long a job that failed for good rests before its next start; doubles each time."""
    return min(FIRST_RETRY_PAUSE_S * 2.0 ** (failures - 1), LONGEST_RETRY_PAUSE_S)


class Deployer:
    """Brings about on one Flink cluster what a declaration says."""

    def __init__(
        self, declaration: Declaration, rest: Rest, flink: Path, poll_s: float = 0.5
    ) -> None:
        self._declaration = declaration
        self._rest = rest
        self._flink = flink
        self._poll_s = poll_s

    def apply(self, *, check: bool = False) -> Iterator[Outcome]:
        """Make what runs equal to what is declared; one job's failure does not stop the others."""
        declared = {spec.name for spec in self._declaration.jobs}
        for job in self._rest.jobs():  # first, as its slots may be needed
            if job.name not in declared and job.state not in TERMINAL | PASSING:
                version = self._rest.labels(job.id).get(STATE_VERSION)
                if version is not None:
                    yield self._stop_outcome(job, version, PATIENCE_S, check=check)
        postponed = []
        for spec in self._declaration.jobs:
            outcome = _guarded(spec, partial(self._apply, check=check))
            if OTHERS_FIRST in outcome.message:
                postponed.append((spec, _SAID.findall(outcome.message)))
            else:
                yield outcome
        for spec, said in postponed:
            outcome = _guarded(spec, partial(self._apply, check=check))
            # What it did before it was held up, it does not do again.
            yield replace(outcome, message="; ".join([outcome.message, *said]))

    def recover(self, now_s: float) -> Iterator[Outcome]:
        """Start the declared jobs that the JobManager does not know or that failed for good.

        Active jobs are left to Flink's own restarts; one that somebody stopped or cancelled by
        hand stays down until the next ``apply``.
        """
        known = self._rest.jobs()
        for spec in self._declaration.jobs:
            mine = [job for job in known if job.name == spec.name]
            if spec.state == "stopped" or any(job.state not in TERMINAL for job in mine):
                continue
            if mine:
                last, failures = mine[-1], sum(job.state == "FAILED" for job in mine)
                if last.state != "FAILED" or now_s - last.ended_ms / 1000 < retry_pause_s(failures):
                    continue
            why = "it had failed" if mine else "the JobManager did not know it"
            yield _guarded(spec, partial(self._start, why=why, give_up=False))

    def _apply(self, spec: JobSpec, *, check: bool) -> Outcome:
        job = self._active(spec)
        if job is None:
            if spec.state == "stopped":
                return Outcome(spec.name, "unchanged", "is stopped, as declared")
            return self._start(spec, "it was not running", check=check)
        labels, wanted = self._rest.labels(job.id), spec.labels()
        version = labels.get(STATE_VERSION)
        if version is None:
            raise DeployError(
                f"job {job.id} has this name and was not started from a declaration; cancel it"
            )
        if spec.state == "stopped":
            return self._stop_outcome(job, version, spec.healthy_within_s, check=check)
        changed = sorted(
            part.removeprefix(LABEL)
            for part in labels.keys() | wanted.keys()
            if labels.get(part) != wanted.get(part)
        )
        if not changed:
            if not check:
                self._await_health(job.id, spec.healthy_within_s)
            return Outcome(spec.name, "unchanged", f"runs as declared ({job.id})")
        why = f"changed: {', '.join(changed)}"
        if check:
            how = "with its state"
            if version != spec.state_version:
                how = (
                    f"WITHOUT ITS STATE: that is of state_version {version}, not"
                    f" {spec.state_version}; {READS_ALL}"
                )
            return Outcome(spec.name, "upgraded", f"would be upgraded {how}; {why}")
        stopped = self._stop(job, version, spec.healthy_within_s)
        started = self._start(spec, why)
        return Outcome(spec.name, "upgraded", f"{stopped}; {started.message}")

    def _active(self, spec: JobSpec) -> Job | None:
        """The job of this name that is not at its end, once passing states have passed."""

        def settled() -> list[Job] | None:
            jobs = [j for j in self._rest.jobs() if j.name == spec.name and j.state not in TERMINAL]
            return None if any(job.state in PASSING for job in jobs) else jobs

        jobs = self._poll(settled, spec.healthy_within_s, "it neither runs nor ends")
        if len(jobs) > 1:
            ids = ", ".join(job.id for job in jobs)
            raise DeployError(
                f"runs {len(jobs)} times; cancel all but one of {ids}, and run this again"
            )
        return jobs[0] if jobs else None

    def _start(
        self, spec: JobSpec, why: str, *, check: bool = False, give_up: bool = True
    ) -> Outcome:
        """Start the job from its newest state, where that fits, and see it healthy.

        Args:
            give_up: cancel a job that does not become healthy. Otherwise Flink goes on restarting
                it, which is right when nobody is there and, say, Kafka is not back yet.
        """
        newest = newest_state(
            self._declaration.checkpoints / spec.name, self._declaration.savepoints / spec.name
        )
        restore = newest.path if newest and newest.version == spec.state_version else None
        origin = f"from {restore}" if restore else f"without state: {READS_ALL}"
        if newest and not restore:
            origin = (
                f"WITHOUT ITS STATE: {newest.path} is of state_version {newest.version}, not"
                f" {spec.state_version}; {READS_ALL}"
            )
        if check:
            return Outcome(spec.name, "started", f"would be started {origin}; {why}")
        job_id, said = self._submit(spec, restore)
        origin = "; ".join([origin, *said])
        try:
            self._await_health(job_id, spec.healthy_within_s)
        except NoAnswerError:
            raise
        except DeployError as error:
            if not give_up:
                raise
            self._cancel(job_id, spec.healthy_within_s)
            raise DeployError(f"started {origin}, and cancelled again: {error}") from error
        self._prune(spec, job_id)
        return Outcome(spec.name, "started", f"runs as {job_id}, started {origin}; {why}")

    def _submit(self, spec: JobSpec, restore: Path | None) -> tuple[str, list[str]]:
        """Hand the job to Flink; returns its id and what its program said."""
        where = Path(spec.name, spec.state_version)
        options = {
            **spec.flink_config,
            "pipeline.name": spec.name,
            "pipeline.global-job-parameters": ",".join(
                f"{k}:{v}" for k, v in spec.labels().items()
            ),
            # Names that Flink 1.18 to 1.20 read. Their 1.20 successors win where both are given,
            # so the cluster's configuration must use these too.
            "state.checkpoints.dir": (self._declaration.checkpoints / where).as_uri(),
            "state.savepoints.dir": (self._declaration.savepoints / where).as_uri(),
        }
        command = [str(self._flink), "run", "--detached", "--parallelism", str(spec.parallelism)]
        command += [f"-D{key}={value}" for key, value in options.items()]
        command += ["--fromSavepoint", restore.as_uri()] if restore else []
        command += ["--python", str(module_file(spec.module)), *spec.args]
        command += ["--emitted", str(self._declaration.checkpoints / where / "emitted.json")]
        command += [] if restore else ["--fresh"]
        patience = PATIENCE_S if restore else PATIENCE_WITHOUT_STATE_S
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=patience, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise LateError(f"`flink run` has not ended within {patience:g} s") from error
        except OSError as error:
            raise DeployError(f"cannot run {self._flink}: {error}") from error
        submitted = _SUBMITTED.findall(done.stdout)
        if len(submitted) != 1:
            said = summarize_submission(f"{done.stdout}\n{done.stderr}")
            raise DeployError(
                f"{spec.module} submitted {len(submitted)} jobs in place of one:\n{said}"
            )
        return str(submitted[0]), _SAID.findall(done.stdout)

    def _await_health(self, job_id: str, within_s: float) -> None:
        def healthy() -> bool:
            job = self._rest.job(job_id)
            if job.state in TERMINAL:
                raise DeployError(f"job {job_id} is {job.state}: {self._reason(job)}")
            return job.state == "RUNNING" and self._rest.has_checkpointed(job_id)

        try:
            self._poll(healthy, within_s, "it completed no checkpoint")
        except LateError as error:
            job = self._rest.job(job_id)
            raise DeployError(
                f"job {job_id} is {job.state}; {error}: {self._reason(job)}"
            ) from error

    def _reason(self, job: Job) -> str:
        if exception := self._rest.root_exception(job.id):
            return exception
        tasks = ", ".join(f"{count} {state}" for state, count in job.tasks.items()) or "none"
        return f"Flink names no exception; tasks: {tasks}; {self._rest.slots()}"

    def _stop_outcome(self, job: Job, version: str, within_s: float, *, check: bool) -> Outcome:
        if check:
            return Outcome(job.name, "stopped", f"would be stopped with a savepoint ({job.id})")
        return Outcome(job.name, "stopped", self._stop(job, version, within_s))

    def _stop(self, job: Job, version: str, within_s: float) -> str:
        """End the job on a savepoint or, where none can be had, on its newest checkpoint."""
        directory = self._declaration.savepoints / job.name / version
        try:
            request_id = self._rest.stop_with_savepoint(job.id, directory)
            savepoint = self._poll(
                lambda: self._rest.savepoint(job.id, request_id),
                within_s,
                "the savepoint is not complete",
            )
        except NoAnswerError:
            raise
        except DeployError as error:
            self._cancel(job.id, within_s)
            return f"cancelled on its newest checkpoint, as no savepoint could be had ({error})"
        self._await_end(job.id, within_s)
        return f"stopped with {savepoint}"

    def _cancel(self, job_id: str, within_s: float) -> None:
        if self._rest.job(job_id).state not in TERMINAL:
            self._rest.cancel(job_id)
        self._await_end(job_id, within_s)

    def _await_end(self, job_id: str, within_s: float) -> None:
        self._poll(
            lambda: self._rest.job(job_id).state in TERMINAL, within_s, f"job {job_id} did not end"
        )

    def _prune(self, spec: JobSpec, job_id: str) -> None:
        """Remove checkpoints of earlier runs, and all but the newest savepoints.

        A healthy job does not need them: it was restored without claiming the state (Flink's
        NO_CLAIM), so its first checkpoint is a full one and refers to nothing older.
        """
        runs = (self._declaration.checkpoints / spec.name / spec.state_version).iterdir()
        savepoints = sorted(
            (self._declaration.savepoints / spec.name).glob("*/savepoint-*"),
            key=lambda path: path.stat().st_mtime_ns,
        )
        earlier_runs = [run for run in runs if _RUN.fullmatch(run.name) and run.name != job_id]
        for path in (*earlier_runs, *savepoints[:-SAVEPOINTS_KEPT]):
            shutil.rmtree(path)

    def _poll(self, probe: Callable[[], T | None], within_s: float, otherwise: str) -> T:
        """The first answer of `probe` that is neither None nor False.

        Raises:
            LateError: there was none in time; it says `otherwise`.
        """
        deadline = time.monotonic() + within_s
        while True:
            try:
                answer = probe()
            except NoAnswerError:
                if time.monotonic() > deadline:
                    raise
            else:
                if answer is not None and answer is not False:
                    return answer
            if time.monotonic() > deadline:
                raise LateError(f"{otherwise} within {within_s:g} s")
            time.sleep(self._poll_s)


def _guarded(spec: JobSpec, act: Callable[[JobSpec], Outcome]) -> Outcome:
    try:
        return act(spec)
    except NoAnswerError:
        raise
    except DeployError as error:
        return Outcome(spec.name, "failed", str(error))


@contextmanager
def exclusive(path: Path, wait_s: float) -> Iterator[None]:
    """Hold the lock file, so that ``apply`` and ``recover`` never act at the same time.

    Raises:
        LateError: somebody else held it all the time.
    """
    deadline = time.monotonic() + wait_s
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LateError(
                        f"{path} has been held by another deployment for {wait_s:g} s"
                    ) from None
                time.sleep(0.2)
        yield


def run(options: argparse.Namespace) -> list[Outcome]:
    """Do what the command line asks for."""
    source: Path = options.declaration
    declaration = parse_declaration(
        sys.stdin.read() if source == Path("-") else source.read_text(encoding="utf-8")
    )
    rest = Rest(options.rest, partial(client_context, options.ca, options.certificate))
    deployer = Deployer(declaration, rest, options.flink)
    if options.check:
        try:
            return list(deployer.apply(check=True))
        except NoAnswerError as error:
            # Where Flink itself is only about to be installed or started, its jobs are about to
            # be, too.
            jobs = declaration.jobs
            return [Outcome(spec.name, "started", f"cannot be foreseen: {error}") for spec in jobs]
    if options.command == "apply":
        with exclusive(options.lock, options.wait):
            return list(deployer.apply())
    try:
        with exclusive(options.lock, 0.0):
            return list(deployer.recover(time.time()))
    except (NoAnswerError, LateError):
        return []  # the timer asks again


def main(arguments: Sequence[str] | None = None) -> int:
    """Act, and print ``{"changed": bool, "jobs": [{"job", "action", "message"}]}``.

    Returns:
        0, or 1 when a job could not be brought to what is declared.
    """
    parser = argparse.ArgumentParser(
        prog="python -m flink_jobs.deploy", description="Keep Flink jobs as they are declared."
    )
    parser.add_argument("command", choices=["apply", "recover"])
    parser.add_argument(
        "--declaration",
        type=Path,
        default=Path("/etc/plantline/jobs/declared.json"),
        help="JSON file; - reads it from standard input",
    )
    parser.add_argument("--check", action="store_true", help="only say what apply would do")
    parser.add_argument("--rest", default="https://localhost:8081", help="Flink's REST address")
    parser.add_argument("--ca", type=Path, default=PKI / "ca.pem", help="whom to trust")
    parser.add_argument(
        "--certificate", type=Path, default=PKI / "flink/bundle.pem", help="who asks: key and chain"
    )
    parser.add_argument("--flink", type=Path, default=Path("/opt/plantline/flink/bin/flink"))
    parser.add_argument("--lock", type=Path, default=Path("/var/lib/flink/deploy.lock"))
    parser.add_argument("--wait", type=float, default=600.0, help="seconds to wait for the lock")
    options = parser.parse_args(arguments)
    try:
        outcomes = run(options)
    except (DeployError, OSError) as error:
        print(f"flink_jobs.deploy: {error}", file=sys.stderr)
        return 1
    if outcomes or options.command == "apply":
        changed = any(outcome.action in ("started", "upgraded", "stopped") for outcome in outcomes)
        print(json.dumps({"changed": changed, "jobs": [asdict(outcome) for outcome in outcomes]}))
    return int(any(outcome.action == "failed" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
