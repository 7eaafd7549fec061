"""Who is compared: how each is started on a topic that it has not read yet, and stopped."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Protocol

from flink_jobs.contracts import DLQ, PRODUCER_DEFAULTS
from tests.bench.stream.host import (
    CONFIG,
    JOB,
    MODEL,
    OUT,
    REFUSED,
    ROOT,
    BenchError,
    Host,
    output_topic,
)
from tests.bench.stream.topics import Topics
from tests.bench.stream.workload import PARTITIONS
from tools.hosts import as_root

PYTHON = ROOT / ".venv-bench" / "bin" / "python"
PLAIN_SQL = Path(__file__).with_name("plain_sql.py")

# As often as the job takes checkpoints, after which readers see its results.
COMMIT_S = 2.0
_STOPPED_WITHIN_S = 60.0

PROGRAMS = {
    "loop": "tests.bench.stream.loop",
    "loop_transactional": "tests.bench.stream.loop",
    "quixstreams": "tests.bench.stream.quix",
}
NAMES = (*PROGRAMS, "sql_without_python", "plantline")


class Contestant(Protocol):
    """One way to do the work. Processes: how many readers share the partitions."""

    name: str
    processes: int
    group: str

    @property
    def output(self) -> str:
        """The topic that it writes."""

    def start(self) -> None:
        """From the beginning of the topic, knowing nothing; raises BenchError."""

    def stop(self) -> None:
        """Ends it in an orderly way."""

    def check(self) -> None:
        """Raises BenchError if it does not run, or not as it began."""

    def pids(self) -> set[int]:
        """Its processes; what they have started is left out."""

    def state_mb(self) -> float:
        """The size of the state that it last made safe; 0 if it does not do that."""


class Programs:
    """Processes beside the plant: the loop and Quix Streams."""

    def __init__(self, name: str, processes: int, host: Host, topics: Topics) -> None:
        self.name = name
        self.processes = processes
        self.output = output_topic(name)
        self.group = ""
        self._host, self._topics = host, topics
        self._running: list[subprocess.Popen[bytes]] = []
        self._folder = OUT / name

    def start(self) -> None:
        # Another name each time: nothing that Kafka remembers of the last time is in the way.
        self.group = f"bench-{self.name}-{time.time_ns() // 10**9}"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        for number in range(self.processes):
            settings = self._folder / f"{number}.json"
            settings.write_text(json.dumps(self._settings(number)), encoding="utf-8")
            command = self._host.beside(
                # As in the job's workers: their libraries must not each take all cores.
                *("env", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1"),
                *(str(PYTHON), "-m", PROGRAMS[self.name], str(settings)),
            )
            with self._log(number).open("wb") as log:
                self._running.append(
                    subprocess.Popen(
                        command,
                        cwd=ROOT,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                    )
                )

    def stop(self) -> None:
        for process in self._running:
            if process.poll() is None:
                subprocess.run(as_root("kill", str(process.pid)), check=False)
        try:
            for process in self._running:
                process.wait(_STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            for process in self._running:
                subprocess.run(as_root("kill", "-9", str(process.pid)), check=False)
                process.wait(_STOPPED_WITHIN_S)
        self._running = []
        self._topics.forget(self.group)
        # Where Quix Streams keeps its state.
        self._topics.remove(f"changelog__{self.group}--")

    def check(self) -> None:
        for number, process in enumerate(self._running):
            if process.poll() is not None:
                said = self._log(number).read_text(encoding="utf-8", errors="replace")
                raise BenchError(f"{self.name} ended by itself:\n{said[-3000:]}")

    def pids(self) -> set[int]:
        return {process.pid for process in self._running}

    def state_mb(self) -> float:
        return 0.0

    def _settings(self, number: int) -> dict[str, Any]:
        kafka = {k: v for k, v in self._host.kafka.items() if k not in PRODUCER_DEFAULTS}
        is_transactional = self.name == "loop_transactional"
        return {
            "kafka": kafka,
            "job": self._host.job,
            "model_file": str(MODEL),
            "group": self.group,
            "output": self.output,
            "refused": REFUSED,
            "commit_s": COMMIT_S,
            # The loop's.
            "partitions": list(range(number, PARTITIONS, self.processes)),
            "transactional_id": f"{self.group}-{number}" if is_transactional else None,
            # Quix Streams'.
            "state_dir": str(self._folder / f"state-{number}"),
        }

    def _log(self, number: int) -> Path:
        return self._folder / f"{number}.log"


class _OnFlink:
    """What both jobs on the host's Flink have in common."""

    name: str
    processes = 1
    group = JOB

    def __init__(self, host: Host, topics: Topics) -> None:
        self._host, self._topics = host, topics
        self._pids = host.flink()
        self._job: str | None = None

    @property
    def output(self) -> str:
        return output_topic(self.name)

    def check(self) -> None:
        if self._job is not None and (state := self._host.job_state(self._job)) != "RUNNING":
            raise BenchError(f"{self.name}: Flink's job {self._job} is {state}")

    def pids(self) -> set[int]:
        return self._pids

    def state_mb(self) -> float:
        return self._host.checkpoint_mb(self._job) if self._job else 0.0

    def _forget(self) -> None:
        self._host.forget_state()
        self._topics.forget(JOB)


class PlainSql(_OnFlink):
    """The job's SQL without Python."""

    name = "sql_without_python"

    def start(self) -> None:
        self._forget()
        self._job = self._host.submit(
            PLAIN_SQL, "bench-sql", "--config", CONFIG, "--output", self.output
        )

    def check(self) -> None:
        # It takes its time to start, in which it is CREATED or INITIALIZING.
        if self._job is not None:
            state = self._host.job_state(self._job)
            if state not in ("INITIALIZING", "CREATED", "RUNNING"):
                raise BenchError(f"{self.name}: Flink's job {self._job} is {state}")

    def stop(self) -> None:
        if self._job is not None:
            self._host.cancel(self._job)
            self._job = None


class Shipped(_OnFlink):
    """The job as it is deployed."""

    name = "plantline"

    def start(self) -> None:
        self._forget()
        # Without state it asks there what it has emitted, and does not emit that again.
        for topic in (self.output, DLQ):
            self._topics.empty(topic)
        self._host.shipped("running")
        self._job = self._host.running_job()
        if self._job is None:
            raise BenchError(f"{JOB} was started, and Flink does not know it")

    def stop(self) -> None:
        self._host.shipped("stopped")
        self._job = None


def contestant(name: str, processes: int, host: Host, topics: Topics) -> Contestant:
    """By its name, one of NAMES."""
    if name in PROGRAMS:
        return Programs(name, processes, host, topics)
    return {one.name: one for one in (PlainSql, Shipped)}[name](host, topics)
