"""The text of a plant.yml, checked as people need it: every fault with its line, path and remedy.

Faults of YAML itself and of JSON Schema are found here; a caller adds those of meaning with
`Document.problem`. Remedies of a schema's faults are its descriptions.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError

JsonPath = tuple[str | int, ...]


class Document:
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
            value: object = self._loader.construct_object(node)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(
                None, None, str(error), node.start_mark
            ) from error
        if isinstance(value, float) and not math.isfinite(value):
            self._broken.add(where)
            self.problem(where, f"{value} is not a finite number", "Give one that is.")
        return value

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

    def check_schema(self, schema: Mapping[str, Any]) -> None:
        """A problem for every place where the schema (JSON Schema 2020-12) does not hold."""
        validator = Draft202012Validator(schema, format_checker=FormatChecker(["date"]))
        for error in validator.iter_errors(self.data):
            where = tuple(error.absolute_path)
            for place, what, remedy in _explain(error, where):
                known = place if place in self.lines else where
                self._broken.add(known)
                self.problem(known, what, remedy)

    def is_sound(self, where: JsonPath) -> bool:
        """Whether the schema holds here, inside, and on the way here."""
        return not any(
            all(here == there for here, there in zip(where, broken, strict=False))
            for broken in self._broken
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
            hint = f"{did_you_mean(key, known)}Known keys: {', '.join(known)}."
            yield (*where, key), "unknown key", hint
    elif error.validator == "required":
        # One error per missing key; jsonschema names it only in its message.
        yield where, error.message.replace("is a required property", "is missing"), remedy
    elif error.validator == "type":
        yield where, f"{_shown(value)} is not {_article(wanted)}", remedy
    elif error.validator == "enum":
        choices = [str(choice) for choice in wanted]
        hint = did_you_mean(str(value), choices)
        yield where, f"{_shown(value)} is not one of {', '.join(choices)}", hint + remedy
    elif error.validator in {"pattern", "format", "minLength", "maxLength"}:
        place = (*where, value) if "propertyNames" in error.absolute_schema_path else where
        reserved = error.validator == "pattern" and value.startswith("_")
        why = "begins with an underscore: reserved" if reserved else "is not allowed here"
        yield place, f"{_shown(value)} {why}", remedy
    elif error.validator == "uniqueItems":
        yield where, "names something twice", remedy
    elif error.validator in {"minProperties", "minItems", "maxItems"}:
        yield where, f"has {len(value)} entries", remedy
    else:
        yield where, f"{_shown(value)} is out of range", remedy


def _dotted(where: JsonPath) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return text.lstrip(".") or "(top level)"


def did_you_mean(word: str, known: list[str]) -> str:
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
