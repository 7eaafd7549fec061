"""The plant model: what stands in the plant, and everything that is derived from it.

`load_plant` reads a plant.yml (an Ansible variables file with the one key `plant`) and returns
frozen dataclasses, or raises `PlantError` with every problem found, each with its place. Topics and
job configuration are pure functions of the result.

    python -m flink_jobs.plant FILE                     # check, print the model as JSON
    python -m flink_jobs.plant FILE --topics            # the topics to create
    python -m flink_jobs.plant FILE --job-config pump   # the configuration of that type's jobs
    python -m flink_jobs.plant FILE --machines          # the declared machines' registrations

Only the control node needs this module; jobs get its `job_config` as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from flink_jobs import contracts
from flink_jobs.document import Document, JsonPath, did_you_mean

_SCHEMA_FILE = Path(__file__).with_name("plant.schema.json")
# Severities of limits, the mildest first.
SEVERITIES = ("warning", "critical")

_DAY_MS = 86_400_000
_FOR_EVER = "-1"
_INTEGERS = frozenset(
    {
        *("window_s", "slide_s", "commissioning_readings", "partitions"),
        *("retention_days", "forget_after_days"),
    }
)


class PlantError(ValueError):
    """The plant model cannot be used. `problems` holds one line for each fault found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Limit:
    """Where an alert of a severity begins, in the channel's unit; low or high may be None.

    It ends when the value is back inside by `hysteresis`.
    """

    severity: str
    low: float | None = None
    high: float | None = None
    hysteresis: float = 0.0


@dataclass(frozen=True)
class Channel:
    """One measured quantity; a value outside [valid_min, valid_max] is a sensor fault.

    `limits` are in the order of severity, the mildest first; they, `max_rate_per_s` and
    `stuck_after_s` say when there is an alert: see flink_jobs.jobs.checks. `gap` ("hold",
    "interpolate" or "missing"), `gap_max_s`, `stuck_after_s` and `outliers` say how it is cleaned:
    see flink_jobs.cleaning.
    """

    name: str
    unit: str
    valid_min: float
    valid_max: float
    limits: tuple[Limit, ...] = ()
    gap: str = "missing"
    gap_max_s: float | None = None
    max_rate_per_s: float | None = None
    stuck_after_s: float | None = None
    outliers: float | None = None


@dataclass(frozen=True)
class MachineType:
    """A kind of machine: what it measures and how its readings are cut into windows.

    `models` are the kinds of model that score it; `model` is a former key that nothing uses.
    """

    name: str
    channels: tuple[Channel, ...]
    window_s: int
    slide_s: int
    commissioning_readings: int = 400
    max_disorder_s: float = 5.0
    max_clock_ahead_s: float = 300.0
    # Longer than a broker takes to fail over: a partition without a leader is not an idle one.
    idle_timeout_s: float = 30.0
    partitions: int = 6
    model: str | None = None
    models: tuple[str, ...] = ()
    silent_after_s: float | None = None
    forget_after_days: int = 365

    @property
    def channel_names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.channels)


# Not in any plant.yml. A topic of its own gives it an event time of its own: among other machines
# it would push their time on, or wait for it.
HEARTBEAT = MachineType(
    contracts.HEARTBEAT,
    channels=(Channel("beat", "1", -10.0, 10.0),),
    window_s=10,
    slide_s=5,
    commissioning_readings=60,
    max_disorder_s=1.0,
    partitions=1,
)


@dataclass(frozen=True)
class Machine:
    """One declared asset. `installed` is an ISO date."""

    machine_id: str
    machine_type: str
    line: str | None = None
    area: str | None = None
    installed: str | None = None


@dataclass(frozen=True)
class TopicRole:
    """Settings of all topics of one role; without `partitions` they are as wide as the widest
    telemetry topic."""

    retention_days: int
    partitions: int | None = None


# Not in here: machines and model_activations are kept for ever, models is compacted.
TOPIC_ROLES = {
    "telemetry": TopicRole(7),
    "results": TopicRole(30),
    "alerts": TopicRole(365),
    "labels": TopicRole(3650),
}


@dataclass(frozen=True)
class Plant:
    """The declared plant. `heartbeat`: whether the reserved machine of that name runs in it."""

    name: str
    unknown_machines: str
    machine_types: dict[str, MachineType]
    machines: tuple[Machine, ...]
    heartbeat: bool = True
    topic_roles: dict[str, TopicRole] = field(default_factory=lambda: dict(TOPIC_ROLES))

    @property
    def all_types(self) -> dict[str, MachineType]:
        """The declared machine types and the heartbeat's, by name."""
        reserved = {HEARTBEAT.name: HEARTBEAT} if self.heartbeat else {}
        return {**self.machine_types, **reserved}


@dataclass(frozen=True)
class Topic:
    """A topic to create; replication and min.insync.replicas are the cluster's defaults."""

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)


def load_plant(path: Path) -> Plant:
    """Read and check a plant model.

    Raises PlantError naming every problem as `file:line: json.path: what is wrong; remedy`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlantError([f"{path}: cannot be read: {error}"]) from error
    document = Document(path, text)
    if document.data is not None:
        document.check_schema(json.loads(_SCHEMA_FILE.read_text(encoding="utf-8")))
        _check_meaning(document)
    if document.problems:
        raise PlantError([line for _, line in sorted(document.problems)])
    return _build(document.data["plant"])


def topics(plant: Plant) -> list[Topic]:
    """Every topic of the contracts, for this plant's machine types (docs/contracts.md).

    The heartbeat's type is one of them, unless the plant goes without.
    """

    def deleted(name: str, partitions: int, days: int | None) -> Topic:
        config = {
            "cleanup.policy": "delete",
            "retention.ms": _FOR_EVER if days is None else str(days * _DAY_MS),
            # Retention counts from arrival, so that data of any age can be replayed.
            "message.timestamp.type": "LogAppendTime",
        }
        if name == contracts.DLQ:
            config["max.message.bytes"] = str(contracts.DLQ_MAX_BYTES)
        return Topic(name, partitions, config)

    kinds = plant.all_types.values()
    widest = max(kind.partitions for kind in kinds)

    def of_role(role: str, *names: str) -> list[Topic]:
        about = plant.topic_roles[role]
        return [deleted(name, about.partitions or widest, about.retention_days) for name in names]

    telemetry_days = plant.topic_roles["telemetry"].retention_days
    return [
        *(
            deleted(contracts.telemetry_topic(kind.name), kind.partitions, telemetry_days)
            for kind in kinds
        ),
        *of_role("results", contracts.PREDICTIONS, contracts.DLQ),
        *of_role("alerts", contracts.ALERTS),
        *of_role("labels", contracts.EVENTS, contracts.MAINTENANCE, contracts.FAILURES),
        deleted(contracts.MACHINES, 1, None),
        deleted(contracts.MODEL_ACTIVATIONS, 1, None),
        Topic(
            contracts.MODELS,
            1,
            {"cleanup.policy": "compact", "max.message.bytes": str(contracts.MODEL_MAX_BYTES)},
        ),
    ]


def job_config(plant: Plant, machine_type: str) -> dict[str, Any]:
    """What the jobs of one machine type need to know, as plain JSON values.

    What the jobs do not act on is not part of it: a machine more must not restart them.
    Raises PlantError for a type the plant does not have; it may be the heartbeat's.
    """
    if machine_type not in plant.all_types:
        known = sorted(plant.all_types)
        raise PlantError(
            [f"machine type {machine_type!r} is not in plant {plant.name!r}; use one of {known}"]
        )
    kind = plant.all_types[machine_type]
    return {
        "plant": plant.name,
        "unknown_machines": plant.unknown_machines,
        "machine_type": kind.name,
        "telemetry_topic": contracts.telemetry_topic(kind.name),
        "channels": [
            {
                "name": channel.name,
                "unit": channel.unit,
                "valid_min": channel.valid_min,
                "valid_max": channel.valid_max,
                "limits": [asdict(limit) for limit in channel.limits],
                "max_rate_per_s": channel.max_rate_per_s,
                "stuck_after_s": channel.stuck_after_s,
                "outliers": channel.outliers,
                "gap": channel.gap,
                "gap_max_s": channel.gap_max_s,
            }
            for channel in kind.channels
        ],
        "window_s": kind.window_s,
        "slide_s": kind.slide_s,
        "commissioning_readings": kind.commissioning_readings,
        "max_disorder_s": kind.max_disorder_s,
        "max_clock_ahead_s": kind.max_clock_ahead_s,
        "idle_timeout_s": kind.idle_timeout_s,
        "silent_after_s": kind.silent_after_s,
        "forget_after_days": kind.forget_after_days,
        "partitions": kind.partitions,
        "model": kind.model,
    }


def registrations(plant: Plant) -> list[dict[str, Any]]:
    """The machines in the form of topic `machines`, known from the epoch on.

    The heartbeat is a known machine, too, whatever becomes of unknown ones.
    """
    reserved = [Machine(contracts.HEARTBEAT, HEARTBEAT.name)] if plant.heartbeat else []
    return [
        contracts.registration(
            machine.machine_id,
            machine.machine_type,
            valid_from=0,
            line=machine.line,
            area=machine.area,
            installed=machine.installed,
        )
        for machine in (*plant.machines, *reserved)
    ]


def _check_meaning(document: Document) -> None:
    """What a schema cannot say, for every part that satisfies the schema."""
    if not all(document.is_sound(("plant", part, "")) for part in ("machine_types", "machines")):
        return
    plant = document.data["plant"]
    for name, kind in plant["machine_types"].items():
        place: JsonPath = ("plant", "machine_types", name)
        if document.is_sound(place):
            _check_type(document, place, kind)
    seen: dict[str, int] = {}
    for index, machine in enumerate(plant["machines"]):
        where: JsonPath = ("plant", "machines", index)
        if not document.is_sound(where):
            continue
        machine_id, kind_name = machine["machine_id"], machine["machine_type"]
        if machine_id in seen:
            document.problem(
                (*where, "machine_id"),
                f"machine {machine_id!r} is declared twice, first in line {seen[machine_id]}",
                "Give each machine its own id.",
            )
        seen.setdefault(machine_id, document.lines[(*where, "machine_id")])
        if kind_name not in plant["machine_types"]:
            known = sorted(plant["machine_types"])
            document.problem(
                (*where, "machine_type"),
                f"machine type {kind_name!r} is not declared",
                f"{did_you_mean(kind_name, known)}Known types: {', '.join(known)}.",
            )


def _check_type(document: Document, where: JsonPath, kind: dict[str, Any]) -> None:
    window_s, slide_s = kind["window_s"], kind["slide_s"]
    if window_s % slide_s:
        document.problem(
            (*where, "slide_s"),
            f"{slide_s} does not divide window_s ({window_s})",
            "Choose a slide_s of which window_s is a multiple.",
        )
    for channel, about in kind["channels"].items():
        _check_channel(document, (*where, "channels", channel), channel, about)


def _check_channel(document: Document, where: JsonPath, name: str, about: dict[str, Any]) -> None:
    if name in contracts.READING_FIELDS:
        document.problem(
            where, f"{name!r} is a field of every reading", "Give the channel another name."
        )
    if "gap_max_s" in about and about.get("gap", "missing") == "missing":
        document.problem(
            (*where, "gap_max_s"),
            "there is no gap to fill",
            "Say gap: hold or gap: interpolate, or leave it out.",
        )
    low, high = about["valid"]
    if low >= high:
        document.problem(
            (*where, "valid"),
            f"[{low}, {high}] is not a range",
            "Give two numbers, the lower one first.",
        )
        return
    limits = about.get("limits", {})
    for severity, limit in limits.items():
        _check_limit(document, (*where, "limits", severity), limit, low, high)
    warning, critical = limits.get("warning", {}), limits.get("critical", {})
    for side, sign, word in (("low", -1, "lower"), ("high", 1, "higher")):
        if side in warning and side in critical and sign * (critical[side] - warning[side]) <= 0:
            document.problem(
                (*where, "limits", "critical", side),
                f"{critical[side]} does not lie outside the warning's ({warning[side]})",
                f"Give a {word} one, or leave one of the two out.",
            )
    lows = [limit["low"] for limit in limits.values() if "low" in limit]
    highs = [limit["high"] for limit in limits.values() if "high" in limit]
    if lows and highs and max(lows) >= min(highs):
        document.problem(
            (*where, "limits"),
            f"low {max(lows)} is not below high {min(highs)}: no value is without an alert",
            "Lower the one or raise the other.",
        )


def _check_limit(
    document: Document, where: JsonPath, limit: dict[str, float], valid_min: float, valid_max: float
) -> None:
    sides = [side for side in ("low", "high") if side in limit]
    if not sides:
        document.problem(where, "there is neither low nor high", "Give one of them, or both.")
    for side in sides:
        if not valid_min <= limit[side] <= valid_max:
            document.problem(
                (*where, side),
                f"{limit[side]} is not in the valid range [{valid_min}, {valid_max}]",
                "Give a value that the sensor can show: another one would never raise an alert.",
            )
    room = limit.get("high", valid_max) - limit.get("low", valid_min)
    if sides and 0 < room <= limit.get("hysteresis", 0):
        document.problem(
            (*where, "hysteresis"),
            f"{limit['hysteresis']} leaves no value at which the alert would end",
            f"Give one below {room:g}.",
        )


def _build(data: dict[str, Any]) -> Plant:
    machine_types = {
        name: MachineType(
            name,
            **_whole(kind)
            | {
                "channels": tuple(_channel(*channel) for channel in kind["channels"].items()),
                "models": tuple(kind.get("models", ())),
            },
        )
        for name, kind in data["machine_types"].items()
    }
    plain = {"name", "unknown_machines", "heartbeat"}
    given = data.get("topics", {})
    return Plant(
        **{"unknown_machines": "accept"} | {key: data[key] for key in plain & data.keys()},
        machine_types=machine_types,
        machines=tuple(Machine(**machine) for machine in data["machines"]),
        topic_roles={
            role: replace(default, **_whole(given.get(role, {})))
            for role, default in TOPIC_ROLES.items()
        },
    )


def _channel(name: str, about: dict[str, Any]) -> Channel:
    low, high = map(float, about["valid"])
    given = about.get("limits", {})
    limits = tuple(
        Limit(severity, **given[severity]) for severity in SEVERITIES if severity in given
    )
    rest = {key: value for key, value in about.items() if key != "valid"}
    return Channel(name, valid_min=low, valid_max=high, **rest | {"limits": limits})


def _whole(about: dict[str, Any]) -> dict[str, Any]:
    """With integers where they belong: JSON Schema holds 60.0 for one."""
    return {key: int(value) if key in _INTEGERS else value for key, value in about.items()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m flink_jobs.plant", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path, help="the plant.yml")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--topics", action="store_true", help="print the topics to create")
    what.add_argument("--job-config", metavar="TYPE", help="print the job configuration of a type")
    what.add_argument("--machines", action="store_true", help="print the registrations")
    options = parser.parse_args(argv)
    try:
        plant = load_plant(options.file)
        output: Any = asdict(plant)
        if options.topics:
            output = [asdict(topic) for topic in topics(plant)]
        elif options.job_config:
            output = job_config(plant, options.job_config)
        elif options.machines:
            output = registrations(plant)
    except PlantError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(output, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
