"""What the report tells: records in, figures out. Nothing here reads Kafka or draws.

Times are event time in epoch ms, ends exclusive; durations are ms.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Final, NamedTuple

import orjson

from flink_jobs import contracts
from flink_jobs.contracts import Alert, ContractError
from flink_jobs.plant import Machine, MachineType, Plant
from flink_jobs.tools.truth import TrueFault, Truth

# What speaks of a machine's condition; other rules speak of its sensors and its network.
CONDITION_RULES: Final = frozenset({"anomaly", "limit", "failure", "rul"})

DETECTED: Final = "detected"
MISSED: Final = "missed"
NOT_YET: Final = "not yet"


class Window(NamedTuple):
    """A window as it was judged; score and threshold are None where it was not."""

    end: int
    score: float | None
    threshold: float | None
    is_alert: bool
    model: str
    version: str
    revision: int

    @property
    def ratio(self) -> float | None:
        """The score in thresholds."""
        return self.score / self.threshold if self.score is not None and self.threshold else None


class Failure(NamedTuple):
    """A label of topic `failures`."""

    ts: int
    component: str


@dataclass(frozen=True)
class AlertSpan:
    """An alert from raised to cleared. `begin` None: raised before the report; `end` None: open.

    Where the truth is known, `fault` is the one it is due to, or it `is_false`.
    """

    begin: int | None
    end: int | None
    record: Alert
    fault: TrueFault | None = None
    is_false: bool = False

    def overlaps(self, begin: int, end: int) -> bool:
        """Whether it was up at some time in [begin, end)."""
        return (self.begin is None or self.begin < end) and (self.end is None or self.end > begin)


@dataclass(frozen=True)
class FaultOutcome:
    """A known fault: DETECTED after `delay` ms, MISSED, or NOT_YET, as the data ends before it."""

    fault: TrueFault
    outcome: str
    delay: int | None = None


@dataclass
class Values:
    """A machine's readings in the order they came: times, and a column per channel (NaN: none)."""

    ts: array[int]
    columns: dict[str, array[float]]


@dataclass
class MachineRecords:
    """All that came about one machine. `first` and `last` are the times of its outer readings."""

    machine_id: str
    machine_type: str
    readings: int = 0
    first: int | None = None
    last: int | None = None
    values: Values | None = None
    windows: dict[tuple[str, int], Window] = field(default_factory=dict)
    raised: dict[str, Alert] = field(default_factory=dict)
    cleared: dict[str, Alert] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


class Records:
    """Collects records by machine; reserved machines (`_clock`, …) are left out.

    Channel values are kept of at most `limit` machines: those given to `prefer`, then as they come.
    """

    def __init__(self, limit: int) -> None:
        self.machines: dict[str, MachineRecords] = {}
        self.unreadable = 0
        self._limit = limit
        self._kept: set[str] = set()

    def prefer(self, machine_ids: Iterable[str]) -> None:
        """Whose values to keep, the first `limit` of them."""
        self._kept = set(list(machine_ids)[: self._limit])

    def add_prediction(self, raw: bytes) -> None:
        """A record of `predictions`; only kind `anomaly` counts, and a window's last revision."""
        try:
            one = contracts.parse_prediction(raw)
        except ContractError:
            self.unreadable += 1
            return
        if one.kind != "anomaly":
            return
        machine = self._machine(one.machine_id, one.machine_type)
        if machine is None:
            return
        before = machine.windows.get((one.model, one.window_end))
        if before is None or before.revision <= one.revision:
            machine.windows[one.model, one.window_end] = Window(
                one.window_end,
                one.score,
                one.threshold,
                one.is_alert,
                one.model,
                one.model_version,
                one.revision,
            )

    def add_alert(self, raw: bytes) -> None:
        """A record of `alerts`; a repeat has the same id."""
        try:
            alert = contracts.parse_alert(raw)
        except ContractError:
            self.unreadable += 1
            return
        machine = self._machine(alert.machine_id, alert.machine_type)
        if machine is not None:
            known = machine.raised if alert.state == "raised" else machine.cleared
            known[alert.alert_id] = alert

    def add_reading(self, raw: bytes, kind: MachineType) -> None:
        """A record of the telemetry of a machine type."""
        try:
            reading = contracts.parse_reading(raw, kind.channel_names)
        except ContractError:
            self.unreadable += 1
            return
        machine = self._machine(reading.machine_id, kind.name)
        if machine is None:
            return
        ts = reading.ts
        machine.readings += 1
        machine.first = ts if machine.first is None else min(machine.first, ts)
        machine.last = ts if machine.last is None else max(machine.last, ts)
        if reading.machine_id not in self._kept:
            if len(self._kept) >= self._limit:
                return
            self._kept.add(reading.machine_id)
        if machine.values is None:
            columns = {name: array("d") for name in kind.channel_names}
            machine.values = Values(array("q"), columns)
        machine.values.ts.append(ts)
        for name, column in machine.values.columns.items():
            value = reading.values[name]
            column.append(math.nan if value is None else value)

    def add_failure(self, raw: bytes) -> None:
        """A record of `failures`; of machines that nothing else is known of it says nothing."""
        try:
            record = orjson.loads(raw)
            failure = Failure(int(record["ts"]), str(record["component"]))
            machine = self.machines.get(record["machine_id"])
        except (ValueError, TypeError, KeyError):
            self.unreadable += 1
            return
        if machine is not None:
            machine.failures.append(failure)

    def _machine(self, machine_id: str, machine_type: str) -> MachineRecords | None:
        if machine_id.startswith("_"):
            return None
        return self.machines.setdefault(machine_id, MachineRecords(machine_id, machine_type))


@dataclass(frozen=True)
class MachineFigures:
    """One machine in the report. `windows` are sorted by model and end, `alerts` by begin.

    Its data spans [begin, end). `peak` is the highest score in thresholds. `outcomes` are
    of the faults that `truth` knows.
    """

    machine_id: str
    machine_type: str
    line: str | None
    area: str | None
    readings: int
    begin: int
    end: int
    windows: tuple[Window, ...]
    scored: int
    anomalous: int
    peak: float | None
    alerts: tuple[AlertSpan, ...]
    failures: tuple[Failure, ...]
    truth: Truth | None
    outcomes: tuple[FaultOutcome, ...]

    @property
    def unscored(self) -> int:
        """Windows without a score: those of its commissioning."""
        return len(self.windows) - self.scored

    @property
    def models(self) -> list[tuple[str, str, float]]:
        """The models that scored it: name, version, threshold."""
        return list(
            dict.fromkeys(
                (window.model, window.version, window.threshold)
                for window in self.windows
                if window.threshold is not None
            )
        )

    @property
    def open_alerts(self) -> int:
        return sum(span.end is None for span in self.alerts)

    @property
    def false_alerts(self) -> int:
        return sum(span.is_false for span in self.alerts)

    def faults(self, outcome: str) -> int:
        """How many of its known faults came out so."""
        return sum(one.outcome == outcome for one in self.outcomes)

    @property
    def slowest(self) -> int | None:
        """The longest delay of a detection."""
        return max((one.delay for one in self.outcomes if one.delay is not None), default=None)


@dataclass(frozen=True)
class PlantFigures:
    """The machines, those to look at first in front, and what they add up to.

    `silent` are declared machines of which nothing came.
    """

    machines: tuple[MachineFigures, ...]
    silent: tuple[str, ...]
    unreadable: int

    @property
    def readings(self) -> int:
        return sum(one.readings for one in self.machines)

    @property
    def windows(self) -> int:
        return sum(len(one.windows) for one in self.machines)

    @property
    def scored(self) -> int:
        return sum(one.scored for one in self.machines)

    @property
    def anomalous(self) -> int:
        return sum(one.anomalous for one in self.machines)

    @property
    def commissioning(self) -> int:
        """Machines that have windows, and none with a score yet."""
        return sum(bool(one.windows) and not one.scored for one in self.machines)

    @property
    def alerts(self) -> int:
        return sum(len(one.alerts) for one in self.machines)

    @property
    def open_alerts(self) -> int:
        return sum(one.open_alerts for one in self.machines)

    @property
    def judged(self) -> int:
        """Machines whose truth is known."""
        return sum(one.truth is not None for one in self.machines)

    @property
    def false_alerts(self) -> int:
        return sum(one.false_alerts for one in self.machines)

    def faults(self, outcome: str) -> int:
        return sum(one.faults(outcome) for one in self.machines)

    @property
    def known_faults(self) -> int:
        return sum(len(one.outcomes) for one in self.machines)

    @property
    def delay(self) -> float | None:
        """The median delay of the detections."""
        delays = [
            fault.delay
            for one in self.machines
            for fault in one.outcomes
            if fault.delay is not None
        ]
        return median(delays) if delays else None

    @property
    def span(self) -> tuple[int, int] | None:
        """From the first to the last moment of all machines."""
        if not self.machines:
            return None
        return min(one.begin for one in self.machines), max(one.end for one in self.machines)


def plant_figures(records: Records, plant: Plant, truths: Mapping[str, Truth]) -> PlantFigures:
    """The figures of everything that was collected."""
    declared = {machine.machine_id: machine for machine in plant.machines}
    machines = [
        machine_figures(
            one,
            plant.machine_types.get(one.machine_type),
            declared.get(one.machine_id),
            truths.get(one.machine_id),
        )
        for one in records.machines.values()
    ]
    silent = tuple(name for name in declared if name not in records.machines)
    return PlantFigures(tuple(sorted(machines, key=_interest)), silent, records.unreadable)


def machine_figures(
    one: MachineRecords, kind: MachineType | None, declared: Machine | None, truth: Truth | None
) -> MachineFigures:
    """The figures of one machine. `kind` is None where the plant no longer has its type."""
    window_ms = kind.window_s * 1000 if kind else 0
    windows = tuple(sorted(one.windows.values(), key=lambda window: (window.model, window.end)))
    alerts = alert_spans(one.raised, one.cleared)
    times = [window.end for window in windows]
    times += [time for span in alerts for time in (span.begin, span.end) if time is not None]
    begins = [time - window_ms for time in times] if one.first is None else [one.first]
    end = max([*times, *(last + 1 for last in (one.last,) if last is not None)])
    begin = min(begins)
    if truth is not None and truth.begin < end and truth.end > begin:
        alerts = judged(truth, alerts, window_ms)
        outcomes = fault_outcomes(truth, alerts, window_ms, end)
    else:
        truth, outcomes = None, ()
    ratios = [window.ratio for window in windows if window.ratio is not None]
    place = next((span.record for span in alerts), None)
    return MachineFigures(
        machine_id=one.machine_id,
        machine_type=one.machine_type,
        line=declared.line if declared else place.line if place else None,
        area=declared.area if declared else place.area if place else None,
        readings=one.readings,
        begin=begin,
        end=end,
        windows=windows,
        scored=sum(window.score is not None for window in windows),
        anomalous=sum(window.is_alert for window in windows),
        peak=max(ratios, default=None),
        alerts=alerts,
        failures=tuple(sorted(one.failures)),
        truth=truth,
        outcomes=outcomes,
    )


def alert_spans(raised: Mapping[str, Alert], cleared: Mapping[str, Alert]) -> tuple[AlertSpan, ...]:
    """The alerts by time, from their records by alert_id."""
    spans = [
        AlertSpan(alert.ts, cleared[name].ts if name in cleared else None, alert)
        for name, alert in raised.items()
    ]
    spans += [
        AlertSpan(None, alert.ts, alert) for name, alert in cleared.items() if name not in raised
    ]
    return tuple(sorted(spans, key=lambda span: span.begin or 0))


def judged(truth: Truth, alerts: Iterable[AlertSpan], window_ms: int) -> tuple[AlertSpan, ...]:
    """The alerts with their faults; false are those raised while the truth is known to have none.

    A fault explains an alert on the machine's condition that is up during it or within one window
    after its end: so long do windows hold some of its readings.
    """
    result = []
    for span in alerts:
        faults = [one for one in truth.faults if span.overlaps(one.begin, one.end + window_ms)]
        known = span.begin is not None and truth.begin <= span.begin < truth.end + window_ms
        if span.record.rule not in CONDITION_RULES or not (known or faults):
            result.append(span)
        else:
            fault = faults[0] if faults else None
            result.append(replace(span, fault=fault, is_false=fault is None))
    return tuple(result)


def fault_outcomes(
    truth: Truth, alerts: Iterable[AlertSpan], window_ms: int, data_end: int
) -> tuple[FaultOutcome, ...]:
    """What the alerts made of the known faults of a machine whose data goes until `data_end`.

    The delay is that of the first alert that the fault explains (see `judged`), 0 if it was up
    before.
    """
    spans = [span for span in alerts if span.record.rule in CONDITION_RULES]
    outcomes = []
    for fault in truth.faults:
        found = [span for span in spans if span.overlaps(fault.begin, fault.end + window_ms)]
        if found:
            delay = max(0, min(span.begin or 0 for span in found) - fault.begin)
            outcomes.append(FaultOutcome(fault, DETECTED, delay))
        else:
            over = fault.end <= min(truth.end, data_end)
            outcomes.append(FaultOutcome(fault, MISSED if over else NOT_YET))
    return tuple(outcomes)


def _interest(one: MachineFigures) -> tuple[object, ...]:
    """Sorts what asks for an explanation to the front, by the order of these figures."""
    return (
        -one.faults(MISSED),
        1 if one.slowest is None else -one.slowest,
        -one.false_alerts,
        -one.open_alerts,
        -len(one.alerts),
        -(one.peak or 0.0),
        one.machine_id,
    )
