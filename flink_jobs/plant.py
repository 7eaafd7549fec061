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
import difflib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

from flink_jobs import contracts

JsonPath = tuple[str | int, ...]

_SCHEMA_FILE = Path(__file__).with_name("plant.schema.json")
_DAY_MS = 86_400_000
_FOR_EVER = "-1"
_INTEGERS = frozenset({"window_s", "slide_s", "commissioning_readings", "partitions"})


class PlantError(ValueError):
    """The plant model cannot be used. `problems` holds one line for each fault found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Channel:
    """One measured quantity; a value outside [valid_min, valid_max] is a sensor fault."""

    name: str
    unit: str
    valid_min: float
    valid_max: float


@dataclass(frozen=True)
class MachineType:
    """A kind of machine: what it measures and how its readings are cut into windows."""

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

    @property
    def channel_names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.channels)


@dataclass(frozen=True)
class Machine:
    """One declared asset. `installed` is an ISO date."""

    machine_id: str
    machine_type: str
    line: str | None = None
    area: str | None = None
    installed: str | None = None


@dataclass(frozen=True)
class Plant:
    name: str
    unknown_machines: str
    machine_types: dict[str, MachineType]
    machines: tuple[Machine, ...]


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
    document = _Document(path, text)
    if document.data is not None:
        document.check_schema()
        document.check_meaning()
    if document.problems:
        raise PlantError([line for _, line in sorted(document.problems)])
    return _build(document.data["plant"])


def topics(plant: Plant) -> list[Topic]:
    """Every topic of the contracts, for this plant's machine types (docs/contracts.md)."""

    def deleted(name: str, partitions: int, days: int | None) -> Topic:
        config = {
            "cleanup.policy": "delete",
            "retention.ms": _FOR_EVER if days is None else str(days * _DAY_MS),
            # Retention counts from arrival, so that data of any age can be replayed.
            "message.timestamp.type": "LogAppendTime",
        }
        return Topic(name, partitions, config)

    kinds = plant.machine_types.values()
    widest = max(kind.partitions for kind in kinds)
    return [
        *(deleted(contracts.telemetry_topic(kind.name), kind.partitions, 7) for kind in kinds),
        deleted(contracts.PREDICTIONS, widest, 30),
        deleted(contracts.ALERTS, widest, 365),
        deleted(contracts.DLQ, widest, 30),
        deleted(contracts.EVENTS, widest, 3650),
        deleted(contracts.MAINTENANCE, widest, 3650),
        deleted(contracts.FAILURES, widest, 3650),
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

    The declared machines are not part of it: a machine more must not restart a job.
    Raises PlantError for a type the plant does not have.
    """
    if machine_type not in plant.machine_types:
        known = sorted(plant.machine_types)
        raise PlantError(
            [f"machine type {machine_type!r} is not in plant {plant.name!r}; use one of {known}"]
        )
    kind = plant.machine_types[machine_type]
    config = asdict(kind)
    config["machine_type"] = config.pop("name")
    config["channels"] = [asdict(channel) for channel in kind.channels]
    return {
        "plant": plant.name,
        "unknown_machines": plant.unknown_machines,
        "telemetry_topic": contracts.telemetry_topic(machine_type),
        **config,
    }


def registrations(plant: Plant) -> list[dict[str, Any]]:
    """The declared machines in the form of topic `machines`, known from the epoch on."""
    return [
        contracts.registration(
            machine.machine_id,
            machine.machine_type,
            valid_from=0,
            line=machine.line,
            area=machine.area,
            installed=machine.installed,
        )
        for machine in plant.machines
    ]


class _Document:
    """A YAML document with the line of every key and value, and the problems found in it."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.problems: list[tuple[int, str]] = []
        self._broken: set[JsonPath] = set()
        self.lines: dict[JsonPath, int] = {(): 1}
        self.data: Any = None
        self._loader = yaml.SafeLoader(text)
        try:
            node = self._loader.get_single_node()
            if node is None:
                self.problem((), "the file is empty", "Start with the key `plant`.")
            else:
                self.data = self._value(node, (), ())
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark else 1
            what = getattr(error, "problem", None) or str(error)
            self.problems.append((line, f"{path}:{line}: not valid YAML: {what}"))
        finally:
            self._loader.dispose()

    def problem(self, where: JsonPath, what: str, remedy: str) -> None:
        line = self.lines[where]
        remedy = remedy[:1].lower() + remedy[1:]
        self.problems.append((line, f"{self.path}:{line}: {_dotted(where)}: {what}; {remedy}"))

    def _value(self, node: yaml.Node, where: JsonPath, above: tuple[yaml.Node, ...]) -> object:
        self.lines.setdefault(where, node.start_mark.line + 1)
        if node in above:
            raise yaml.constructor.ConstructorError(
                None, None, "an alias contains itself", node.start_mark
            )
        above = (*above, node)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where, above)
        if isinstance(node, yaml.SequenceNode):
            return [
                self._value(item, (*where, index), above) for index, item in enumerate(node.value)
            ]
        if node.tag == "tag:yaml.org,2002:timestamp":
            return node.value  # the model keeps a date as text, whether quoted or not
        try:
            return self._loader.construct_object(node)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(
                None, None, str(error), node.start_mark
            ) from error

    def _mapping(
        self, node: yaml.MappingNode, where: JsonPath, above: tuple[yaml.Node, ...]
    ) -> dict[str, Any]:
        first_line: dict[str, int] = {}
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
            if key in first_line:
                self.lines[(*where, key)] = line
                self.problem(
                    (*where, key),
                    f"the key {key!r} is given twice, first in line {first_line[key]}",
                    "Remove one.",
                )
            first_line.setdefault(key, line)
        self._loader.flatten_mapping(node)
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._loader.construct_object(key_node)
            inner = (*where, key if isinstance(key, str) else str(key_node.value))
            self.lines[inner] = key_node.start_mark.line + 1
            if not isinstance(key, str):
                self.problem(inner, f"the key is read as {_shown(key)}, not as text", "Quote it.")
                continue
            result[key] = self._value(value_node, inner, above)
        return result

    def check_schema(self) -> None:
        schema = json.loads(_SCHEMA_FILE.read_text(encoding="utf-8"))
        validator = Draft202012Validator(schema, format_checker=FormatChecker(["date"]))
        for error in validator.iter_errors(self.data):
            where = tuple(error.absolute_path)
            for place, what, remedy in _explain(error, where):
                known = place if place in self.lines else where
                self._broken.add(known)
                self.problem(known, what, remedy)

    def _is_sound(self, where: JsonPath) -> bool:
        """Whether the schema holds here, inside, and on the way here."""
        return not any(
            all(here == there for here, there in zip(where, broken, strict=False))
            for broken in self._broken
        )

    def check_meaning(self) -> None:
        """What a schema cannot say, for every part that satisfies the schema."""
        if not all(self._is_sound(("plant", part, "")) for part in ("machine_types", "machines")):
            return
        plant = self.data["plant"]
        for name, kind in plant["machine_types"].items():
            place: JsonPath = ("plant", "machine_types", name)
            if self._is_sound(place):
                self._check_type(place, kind)
        seen: dict[str, int] = {}
        for index, machine in enumerate(plant["machines"]):
            where: JsonPath = ("plant", "machines", index)
            if not self._is_sound(where):
                continue
            machine_id, kind_name = machine["machine_id"], machine["machine_type"]
            if machine_id in seen:
                self.problem(
                    (*where, "machine_id"),
                    f"machine {machine_id!r} is declared twice, first in line {seen[machine_id]}",
                    "Give each machine its own id.",
                )
            seen.setdefault(machine_id, self.lines[(*where, "machine_id")])
            if kind_name not in plant["machine_types"]:
                known = sorted(plant["machine_types"])
                self.problem(
                    (*where, "machine_type"),
                    f"machine type {kind_name!r} is not declared",
                    f"{_did_you_mean(kind_name, known)}Known types: {', '.join(known)}.",
                )

    def _check_type(self, where: JsonPath, kind: dict[str, Any]) -> None:
        window_s, slide_s = kind["window_s"], kind["slide_s"]
        if window_s % slide_s:
            self.problem(
                (*where, "slide_s"),
                f"{slide_s} does not divide window_s ({window_s})",
                "Choose a slide_s of which window_s is a multiple.",
            )
        for channel, about in kind["channels"].items():
            place = (*where, "channels", channel)
            if channel in contracts.READING_FIELDS:
                self.problem(
                    place,
                    f"{channel!r} is a field of every reading",
                    "Give the channel another name.",
                )
            low, high = about["valid"]
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                self.problem(
                    (*place, "valid"),
                    f"[{low}, {high}] is not a range",
                    "Give two finite numbers, the lower one first.",
                )


def _explain(error: ValidationError, where: JsonPath) -> Iterator[tuple[JsonPath, str, str]]:
    """A schema error as (place, what, remedy), one for each key concerned."""
    schema: dict[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    remedy = str(schema.get("description", ""))
    value: Any = error.instance
    wanted: Any = error.validator_value
    if error.validator == "additionalProperties":
        known = sorted(schema["properties"])
        for key in sorted(set(value) - set(known)):
            hint = f"{_did_you_mean(key, known)}Known keys: {', '.join(known)}."
            yield (*where, key), "unknown key", hint
    elif error.validator == "required":
        # One error per missing key; jsonschema names it only in its message.
        yield where, error.message.replace("is a required property", "is missing"), remedy
    elif error.validator == "type":
        yield where, f"{_shown(value)} is not {_article(wanted)}", remedy
    elif error.validator == "enum":
        choices = [str(choice) for choice in wanted]
        hint = _did_you_mean(str(value), choices)
        yield where, f"{_shown(value)} is not one of {', '.join(choices)}", hint + remedy
    elif error.validator in {"pattern", "format", "minLength", "maxLength"}:
        place = (*where, value) if "propertyNames" in error.absolute_schema_path else where
        yield place, f"{_shown(value)} is not allowed here", remedy
    elif error.validator in {"minProperties", "minItems", "maxItems"}:
        yield where, f"has {len(value)} entries", remedy
    else:
        yield where, f"{_shown(value)} is out of range", remedy


def _build(data: dict[str, Any]) -> Plant:
    machine_types = {}
    for name, kind in data["machine_types"].items():
        channels = tuple(
            Channel(channel, about["unit"], float(about["valid"][0]), float(about["valid"][1]))
            for channel, about in kind["channels"].items()
        )
        # JSON Schema holds 60.0 for an integer.
        whole = {key: int(value) for key, value in kind.items() if key in _INTEGERS}
        machine_types[name] = MachineType(name, **{**kind, **whole, "channels": channels})
    return Plant(
        data["name"],
        data.get("unknown_machines", "accept"),
        machine_types,
        tuple(Machine(**machine) for machine in data["machines"]),
    )


def _dotted(where: JsonPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.lstrip(".") or "(top level)"


def _did_you_mean(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def _article(json_type: str) -> str:
    names = {"object": "a mapping", "array": "a list", "string": "text", "integer": "an integer"}
    return names.get(json_type, f"a {json_type}")


def _shown(value: object) -> str:
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list) else repr(value)


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
