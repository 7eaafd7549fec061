"""The parts of the bench that need the host: throughput, latency and scale."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from confluent_kafka import IsolationLevel

from flink_jobs.contracts import telemetry_topic
from tests.bench.stream import results, workload
from tests.bench.stream.contestants import PROGRAMS, Contestant, contestant
from tests.bench.stream.host import BenchError, Host
from tests.bench.stream.results import Latency, Results, TooFewError, WrongError
from tests.bench.stream.topics import Topics
from tests.bench.stream.usage import Sampler
from tests.bench.stream.workload import MACHINE_TYPE, Workload

TELEMETRY = telemetry_topic(MACHINE_TYPE)
# So many windows of each machine, so that there is a steady state to be measured.
LEAST_WINDOWS = 6

_LOOK_EVERY_S = 3.0
# A record on disk, with what Kafka adds, if nothing of it could be compressed.
_RECORD_BYTES = 180
# Of the first windows a contestant has more to do than later: it starts, and commissions.
_WARM_UP_S = 40.0

Note = Callable[[str], None]


@dataclass(frozen=True)
class Throughput:
    """One contestant's steady state. cpu_s: in it, by all of its processes; rss_mb: at most.

    startup_s: from the command that starts it to its first prediction. whole: whether it read the
    topic to its end; one that was stopped is measured on what it did until then.
    """

    contestant: str
    processes: int
    machines: int
    readings_per_s: float
    windows_per_s: float
    cpu_s: float
    rss_mb: float
    broker_cpu_s: float
    measured_s: float
    startup_s: float
    state_mb: float
    whole: bool

    @property
    def readings(self) -> float:
        """How many were worked off in the steady state."""
        return self.readings_per_s * self.measured_s


@dataclass(frozen=True)
class Size:
    """A number of machines, and what is set for as many."""

    machines: int
    checkpoint_interval_ms: int | None = None
    taskmanager_memory_mb: int | None = None
    host_memory_mb: int | None = None

    @property
    def settings(self) -> dict[str, int]:
        """The variables that are not left as they are."""
        chosen = {
            "flink_checkpoint_interval_ms": self.checkpoint_interval_ms,
            "flink_taskmanager_memory_mb": self.taskmanager_memory_mb,
            "host_memory_mb": self.host_memory_mb,
        }
        return {name: value for name, value in chosen.items() if value is not None}


@dataclass(frozen=True)
class Lane:
    """What latency was measured of: prediction, model_alert or limit_alert."""

    contestant: str
    what: str
    latency: Latency


@dataclass(frozen=True)
class _Run:
    begun: int
    whole: bool
    state_mb: float
    sampler: Sampler


class Bench:
    """Runs on a host that is up, whose jobs it stops first."""

    def __init__(self, host: Host, note: Note) -> None:
        self._host, self._note = host, note
        self._topics = Topics(host.kafka)
        host.quiet()
        host.shipped("stopped")

    def throughput(
        self, work: Workload, names: Sequence[str], processes: Sequence[int], limit_s: float
    ) -> Iterator[Throughput]:
        """All contestants on one topic; raises WrongError where they do not agree.

        One that is too slow to be measured within the limit is left out, and the notes say so.
        """
        self._fill(work)
        scored: dict[str, Results] = {}
        for name in names:
            for count in processes if name in PROGRAMS else [1]:
                one = contestant(name, count, self._host, self._topics)
                try:
                    row, found = self._one(one, work, limit_s)
                except TooFewError as error:
                    self._note(f"  is left out: {error}")
                    continue
                if name != "sql_without_python":
                    self._compare(scored, f"{name}, {count} processes", found)
                yield row

    def scale(self, work: Workload, limit_s: float) -> Throughput:
        """The shipped job alone."""
        self._fill(work)
        return self._one(contestant("plantline", 1, self._host, self._topics), work, limit_s)[0]

    def latency(
        self, names: Sequence[str], machines: int, per_second: int, seconds: float
    ) -> Iterator[Lane]:
        """Readings at their time, for each contestant anew."""
        for name in names:
            yield from self._latency(name, machines, per_second, seconds)

    def _fill(self, work: Workload) -> None:
        needed = work.readings * _RECORD_BYTES / 2**20
        if needed > self._host.free_mb():
            raise BenchError(
                f"{work.readings:,} readings may take {needed:,.0f} MB of disk, and"
                f" {self._host.free_mb():,.0f} MB are free; ask for fewer readings"
            )
        self._note(f"{work.readings:,} readings of {work.machines:,} machines")
        self._empty()
        begin = time.monotonic()
        workload.fill(self._host.kafka, self._host.kind, work)
        self._note(f"written in {time.monotonic() - begin:.0f} s")

    def _empty(self) -> None:
        self._topics.empty(TELEMETRY)
        self._host.restart_clock()

    def _one(self, one: Contestant, work: Workload, limit_s: float) -> tuple[Throughput, Results]:
        self._note(f"{one.name}, {one.processes} processes")
        windows = work.machines * work.slices
        run = self._run(one, windows, limit_s)
        found = results.read(self._host.kafka, one.output, run.begun, work)
        try:
            results.check(found, work, run.whole)
            speed = results.speed(found, work)
        except WrongError as error:
            raise WrongError(f"{one.name}: {error}") from error
        own, broker = run.sampler.taken(speed.begin, speed.end)
        row = Throughput(
            contestant=one.name,
            processes=one.processes,
            machines=work.machines,
            readings_per_s=speed.readings_per_s,
            windows_per_s=speed.windows_per_s,
            cpu_s=own.cpu_s,
            rss_mb=own.rss_mb,
            broker_cpu_s=broker.cpu_s,
            measured_s=(speed.end - speed.begin) / 1000,
            startup_s=(found.first - run.begun) / 1000,
            state_mb=run.state_mb,
            whole=run.whole,
        )
        self._note(f"  {row.readings_per_s:,.0f} readings/s")
        return row, found

    def _run(self, one: Contestant, windows: int, limit_s: float) -> _Run:
        before = sum(self._topics.ends(one.output).values())
        with Sampler(one.pids, self._host.broker()) as sampler:
            begun = _now_ms()
            try:
                one.start()
                whole, state_mb = self._await_end(one, before + windows, limit_s)
            finally:
                one.stop()
        return _Run(begun, whole, state_mb, sampler)

    def _await_end(self, one: Contestant, enough: int, limit_s: float) -> tuple[bool, float]:
        """Whether all was read and written in time, and how large the state became.

        Markers of transactions count as records: that there are enough of them is not enough.
        """
        deadline = time.monotonic() + limit_s
        state_mb, settled = 0.0, None
        while time.monotonic() < deadline:
            one.check()
            state_mb = max(state_mb, one.state_mb())
            written = self._topics.ends(one.output, IsolationLevel.READ_COMMITTED)
            has_read = self._topics.committed(one.group, TELEMETRY) == self._topics.ends(TELEMETRY)
            if has_read and sum(written.values()) >= enough:
                if written == settled:
                    return True, state_mb
                settled = written
            time.sleep(_LOOK_EVERY_S)  # between two looks
        return False, state_mb

    def _compare(self, scored: dict[str, Results], name: str, found: Results) -> None:
        """With the first one that was scored; all others are let go, as they are large."""
        for other, results_of_other in scored.items():
            try:
                worst = results.compare(results_of_other, found)
            except WrongError as error:
                raise WrongError(f"{other} and {name}: {error}") from error
            self._note(f"  scores as those of {other}, to {worst:.0e}")
        if not scored:
            scored[name] = found

    def _latency(self, name: str, machines: int, per_second: int, seconds: float) -> Iterator[Lane]:
        self._note(f"latency of {name} at {per_second:,} readings/s")
        self._empty()
        one = contestant(name, 1, self._host, self._topics)
        before = sum(self._topics.ends(one.output).values())
        kafka, kind = self._host.kafka, self._host.kind
        try:
            one.start()
            sent = workload.pace(kafka, kind, machines, per_second, seconds, one.check)
            if not self._await_end(one, before + machines, 120)[0]:
                raise BenchError(f"{name} does not keep up with {per_second:,} readings/s")
        finally:
            one.stop()
        disorder_ms = round(1000 * kind.max_disorder_s)
        begin = sent.begin + round(1000 * _WARM_UP_S)
        # Later windows are closed by `_clock`, all at once.
        end = sent.end - disorder_ms - 1000 * workload.WINDOW_S
        closed = results.passed(kafka, TELEMETRY, sent.begin, disorder_ms)
        since = sent.begin
        found = {"prediction": results.predictions(kafka, one.output, since, closed, begin, end)}
        if name == "plantline":
            found["model_alert"] = results.model_alerts(kafka, since, closed, begin, end)
            found["limit_alert"] = results.limit_alerts(kafka, TELEMETRY, sent, begin)
        for what, latency in found.items():
            yield Lane(name, what, latency)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
