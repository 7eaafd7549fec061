"""What the plant's records tell, as metrics: the exporter's state, without Kafka.

docs/metrics.md names the metrics.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Message
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from flink_jobs import contracts
from flink_jobs.contracts import Alert, ContractError, Prediction, is_reserved

Place = tuple[str, int]  # topic, partition

# A machine that nobody declared is forgotten when it was silent for so long.
_FORGET_AFTER_MS = 86_400_000
# Omitted machines are counted up to here: their ids have to be kept.
_MOST_OMITTED = 100_000


@dataclass
class Machine:
    """What is known of one machine. Times in epoch ms; `seen` and `predicted` are append times."""

    machine_type: str
    line: str = ""
    area: str = ""
    declared: bool = False
    seen: int = 0
    predicted: int = 0
    window_end: int = 0
    newest: dict[tuple[str, str], Prediction] = field(default_factory=dict)  # (kind, model)
    alerts: dict[tuple[str, str], Alert] = field(default_factory=dict)  # (rule, model or channel)
    channels: dict[str, float] = field(default_factory=dict)


class Growth:
    """How far partitions grew between two looks at their ends."""

    def __init__(self) -> None:
        self._ends: dict[Place, int] = {}

    def step(self, ends: Mapping[Place, int]) -> dict[Place, int]:
        """Records appended since the last look, for each partition with some not looked at yet.

        At the first look these are all partitions with records, and nothing was appended.
        """
        first = not self._ends
        appended = {}
        for place, end in ends.items():
            before = self._ends.get(place, end if first else 0)
            if end < before:
                before = 0  # the topic was made anew
            if end > before or (first and end):
                appended[place] = end - before
        self._ends |= ends
        return appended


class Picture:
    """The plant as its records tell it: takes records, gives metrics.

    heartbeat: append time (epoch ms) of its newest prediction. lag: by group, topic, partition.
    """

    def __init__(self, limit: int) -> None:
        """`limit`: machines with series of their own at most."""
        self.heartbeat: int | None = None
        self.readings: Counter[str] = Counter()
        self.lag: dict[tuple[str, str, int], int] = {}
        self._limit = limit
        self._machines: dict[str, Machine] = {}
        self._omitted: set[str] = set()
        self._predictions: Counter[tuple[str, str, str]] = Counter()
        self._alerts: Counter[tuple[str, str, str, str]] = Counter()
        self._dead_letters: Counter[str] = Counter()
        self._models: dict[tuple[str, str, str], str] = {}

    def declare(self, registrations: Iterable[Mapping[str, Any]]) -> None:
        """Take the plant's declared machines: they have their series, whether they speak or not."""
        places = {r["machine_id"]: r for r in registrations if not is_reserved(r["machine_id"])}
        for machine_id, machine in self._machines.items():
            machine.declared = machine_id in places
        for machine_id, place in places.items():
            if machine_id not in self._machines:
                self._make_room()
            declared = self._machine(machine_id, place["machine_type"])
            if declared is not None:
                declared.declared = True
                declared.machine_type = place["machine_type"]
                declared.line, declared.area = place.get("line") or "", place.get("area") or ""

    def add(self, message: Message, *, counted: bool) -> None:
        """Take a record of predictions, alerts or dead letters; old ones are not `counted`."""
        value, appended = message.value() or b"", message.timestamp()[1]
        try:
            if message.topic() == contracts.DLQ:
                self._dead_letters[_reason(message)] += counted
            elif message.topic() == contracts.ALERTS:
                self._alert(contracts.parse_alert(value), appended, counted)
            else:
                self._prediction(contracts.parse_prediction(value), appended, counted)
        except ContractError:
            return  # not ours: nothing can be said of it

    def sample(self, machine_type: str, channels: list[str], message: Message) -> None:
        """Take the channels of a reading, where it is one and its machine has series."""
        try:
            reading = contracts.parse_reading(message.value() or b"", channels)
        except ContractError:
            return
        if is_reserved(reading.machine_id):
            return
        machine = self._machine(reading.machine_id, machine_type, message.timestamp()[1])
        if machine is not None:
            machine.channels.update({k: v for k, v in reading.values.items() if v is not None})

    def forget(self, now: int) -> None:
        """Drop machines that nobody declared and that were silent for a day."""
        kept = {
            machine_id: machine
            for machine_id, machine in self._machines.items()
            if machine.declared or now - machine.seen < _FORGET_AFTER_MS
        }
        if len(kept) < len(self._machines):
            # Those left out may have room now.
            self._machines, self._omitted = kept, set()

    def _make_room(self) -> None:
        """Drop the longest silent of the machines that nobody declared, where there is no room."""
        others = [name for name, machine in self._machines.items() if not machine.declared]
        if len(self._machines) >= self._limit and others:
            del self._machines[min(others, key=lambda name: self._machines[name].seen)]

    def _machine(self, machine_id: str, machine_type: str, seen: int = 0) -> Machine | None:
        """The machine, made if there is room for it."""
        machine = self._machines.get(machine_id)
        if machine is None:
            if len(self._machines) >= self._limit:
                if len(self._omitted) < _MOST_OMITTED:
                    self._omitted.add(machine_id)
                return None
            machine = self._machines[machine_id] = Machine(machine_type)
        machine.seen = max(machine.seen, seen)
        return machine

    def _prediction(self, prediction: Prediction, appended: int, counted: bool) -> None:
        if prediction.machine_id == contracts.HEARTBEAT:
            self.heartbeat = max(appended, self.heartbeat or 0)
        if is_reserved(prediction.machine_id):
            return
        subject = (prediction.machine_type, prediction.kind, prediction.model)
        self._predictions[subject] += counted
        self._models[subject] = prediction.model_version
        machine = self._machine(prediction.machine_id, prediction.machine_type, appended)
        if machine is None:
            return
        newest = machine.newest.get(subject[1:])
        if newest is None or prediction.window_end >= newest.window_end:
            machine.newest[subject[1:]] = prediction
        machine.window_end = max(machine.window_end, prediction.window_end)
        machine.predicted = max(machine.predicted, appended)

    def _alert(self, alert: Alert, appended: int, counted: bool) -> None:
        if is_reserved(alert.machine_id):
            return
        self._alerts[alert.machine_type, alert.rule, alert.severity, alert.state] += counted
        machine = self._machine(alert.machine_id, alert.machine_type, appended)
        if machine is None:
            return
        # Of each condition the newest word counts: a `cleared` may never have come.
        subject = alert.model or alert.channel or ""
        if alert.rule == "limit":  # a channel may have several
            subject += f" {alert.severity} {alert.threshold}"
        condition = (alert.rule, subject)
        newest = machine.alerts.get(condition)
        if newest is None or alert.ts >= newest.ts:
            machine.alerts[condition] = alert

    def metrics(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        beat = _gauge("heartbeat_timestamp_seconds", "Append time of the newest heartbeat.", [])
        if self.heartbeat is not None:
            beat.add_metric([], self.heartbeat / 1000)
        yield beat
        yield _counter("readings", "Readings appended.", ["machine_type"], self.readings)
        yield _counter(
            *("predictions", "Predictions committed.", ["machine_type", "kind", "model"]),
            self._predictions,
        )
        yield _counter(
            *("alerts", "Alerts.", ["machine_type", "rule", "severity", "state"]), self._alerts
        )
        yield _counter("dead_letters", "Dead letters.", ["reason"], self._dead_letters)
        yield _gauge(
            "model_info",
            "Model of the newest prediction.",
            ["machine_type", "kind", "model", "model_version"],
            dict.fromkeys(((*subject, v) for subject, v in self._models.items()), 1),
        )
        yield _gauge(
            "consumer_lag",
            "Records that the group has not yet committed.",
            ["group", "topic", "partition"],
            {(group, topic, str(part)): lag for (group, topic, part), lag in self.lag.items()},
        )
        yield _gauge(
            "machines_omitted",
            "Machines without series of their own.",
            [],
            {(): len(self._omitted)},
        )
        yield from self._machine_metrics()

    def _machine_metrics(self) -> Iterator[Metric]:
        who = ["machine_id", "machine_type"]
        info = _gauge("machine_info", "Where the machine stands.", [*who, "line", "area"])
        score = _gauge("machine_score", "Score of the newest window.", [*who, "kind", "model"])
        threshold = _gauge("machine_threshold", "Scores above alert.", [*who, "kind", "model"])
        alert = _gauge("machine_alert", "1 while an alert is raised.", [*who, "rule"])
        end = _gauge("machine_window_end_seconds", "End of the newest window, event time.", who)
        predicted = _gauge(
            "machine_prediction_timestamp_seconds", "Append time of the newest prediction.", who
        )
        channel = _gauge("machine_channel", "Newest value, sampled.", [*who, "channel"])
        for machine_id, machine in self._machines.items():
            of = [machine_id, machine.machine_type]
            info.add_metric([*of, machine.line, machine.area], 1)
            for subject, newest in machine.newest.items():
                if newest.score is not None and newest.threshold is not None:
                    score.add_metric([*of, *subject], newest.score)
                    threshold.add_metric([*of, *subject], newest.threshold)
            rules: Counter[str] = Counter()
            for (rule, _), last in machine.alerts.items():
                rules[rule] |= last.state == "raised"
            for rule, raised in rules.items():
                alert.add_metric([*of, rule], raised)
            if machine.predicted:
                end.add_metric(of, machine.window_end / 1000)
                predicted.add_metric(of, machine.predicted / 1000)
            for name, value in machine.channels.items():
                channel.add_metric([*of, name], value)
        yield from (info, score, threshold, alert, end, predicted, channel)


def _reason(message: Message) -> str:
    reason = dict(message.headers() or []).get("dlq.reason")
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else "unknown"


def _gauge(
    name: str,
    text: str,
    labels: Sequence[str],
    values: Mapping[tuple[str, ...], float] | None = None,
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"plantline_{name}", text, labels=labels)
    for key, value in (values or {}).items():
        family.add_metric(key, value)
    return family


def _counter(
    name: str, text: str, labels: Sequence[str], values: Mapping[Any, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"plantline_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric([key] if isinstance(key, str) else key, value)
    return family
