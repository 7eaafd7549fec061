"""Write what the documentation repeats: the roles' pages and the keys of the plant model.

    python tools/reference.py            # write the pages
    python tools/reference.py --check    # exit code 1 unless they are current

docs/reference has one page per role, from its meta/argument_specs.yml; pages of roles that are gone
are removed, a page without MARK was written by hand and is left alone. In docs/plant-model.md the
tables of keys are written anew from the plant model's JSON Schema, of which docs/ has a copy.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = Path("docs", "reference")
MARK = "<!-- Written by tools/reference.py from roles/*/meta/argument_specs.yml. -->"

SCHEMA = Path("flink_jobs", "plant.schema.json")
SCHEMA_COPY = Path("docs", "plant.schema.json")
PLANT_PAGE = Path("docs", "plant-model.md")
KEYS = re.compile(r"(?<=<!-- keys: tools/reference.py -->\n).*?(?=<!-- end of keys -->)", re.DOTALL)

Spec = Mapping[str, Any]


def pages(root: Path) -> dict[Path, str]:
    """The text of every page by its path, relative to the project's root."""
    specs = {
        file.parents[1].name: yaml.safe_load(file.read_text("utf-8"))["argument_specs"]
        for file in sorted((root / "roles").glob("*/meta/argument_specs.yml"))
    }
    by_hand = sorted(
        path.name
        for path in (root / REFERENCE).glob("*.md")
        if not path.read_text("utf-8").startswith(MARK)
    )
    roles = {REFERENCE / f"{role}.md": role_page(role, spec) for role, spec in specs.items()}
    schema = (root / SCHEMA).read_text("utf-8")
    keys = "\n" + "\n".join(key_tables(json.loads(schema))) + "\n"
    page = KEYS.sub(lambda _: keys, (root / PLANT_PAGE).read_text("utf-8"))
    return {
        REFERENCE / "README.md": index_page(specs, by_hand),
        **roles,
        SCHEMA_COPY: schema,
        PLANT_PAGE: page,
    }


def index_page(specs: Mapping[str, Spec], by_hand: list[str]) -> str:
    """The list of roles, and of the pages that were written by hand."""
    lines = [
        MARK,
        "",
        "# Reference",
        "",
        "The variables of each role. They are set in an inventory's `group_vars` or beside a host.",
        "",
        "| role | |",
        "|---|---|",
    ]
    for role, spec in specs.items():
        lines.append(f"| [{role}]({role}.md) | {cell(spec['main']['short_description'])} |")
    if by_hand:
        links = ", ".join(f"[{name.removesuffix('.md')}]({name})" for name in by_hand)
        lines += ["", f"Beside them: {links}."]
    return "\n".join([*lines, ""])


def role_page(role: str, spec: Spec) -> str:
    """One role: its entry points, each with its options."""
    lines = [MARK, "", f"# Role {role}"]
    main_options = spec["main"].get("options", {})
    for entry_point, about in spec.items():
        if entry_point != "main":
            lines += ["", f"## Entry point `{entry_point}`"]
        lines += ["", sentence(about["short_description"])]
        if description := paragraphs(about.get("description", [])):
            lines += ["", *(f"- {sentence(text)}" for text in description)]
        options = about.get("options", {})
        if entry_point != "main" and options and options == main_options:
            lines += ["", "Its variables are those above."]
        elif options:
            lines += ["", "| variable | type | default | |", "|---|---|---|---|", *rows(options)]
        else:
            lines += ["", "No variables."]
    return "\n".join([*lines, ""])


def rows(options: Spec, above: str = "") -> Iterator[str]:
    """Table rows of options; those inside a list or mapping follow it as `name[].inner`."""
    for name, about in options.items():
        place = above + name
        kind = about.get("type", "str")
        if kind == "list":
            kind = f"list of {about.get('elements', 'str')}"
        text = " ".join(sentence(part) for part in paragraphs(about.get("description", [])))
        if "choices" in about:
            text += f" One of {', '.join(f'`{choice}`' for choice in about['choices'])}."
        yield f"| `{place}` | {kind} | {default(about)} | {cell(text)} |"
        inner = f"{place}[]." if about.get("type") == "list" else f"{place}."
        yield from rows(about.get("options", {}), inner)


def key_tables(schema: Spec) -> Iterator[str]:
    """Lines of a heading and a table for each mapping of the plant model; equal ones share them."""
    places: dict[str, list[str]] = {}
    tables: dict[str, list[str]] = {}
    for place, about in mappings(schema, "plant", schema["properties"]["plant"]):
        rows = [
            f"| `{name}` | {key_text(inner)} | {key_default(name, inner, about)} |"
            for name, inner in about["properties"].items()
        ]
        key = "\n".join(rows)
        places.setdefault(key, []).append(f"`{place}`")
        tables.setdefault(key, rows)
    for key, rows in tables.items():
        yield f"### {', '.join(places[key])}"
        yield from ["", "| key | | default |", "|---|---|---|", *rows, ""]


def mappings(schema: Spec, place: str, about: Spec) -> Iterator[tuple[str, Spec]]:
    """Every mapping with keys of its own, with its path, references followed: outer ones first."""
    about = resolved(schema, about)
    if "properties" not in about:
        return
    about["properties"] = {
        name: resolved(schema, inner) for name, inner in about["properties"].items()
    }
    yield place, about
    for name, inner in about["properties"].items():
        yield from mappings(schema, f"{place}.{name}", inner)
        yield from mappings(schema, f"{place}.{name}[]", inner.get("items", {}))
        each = f"{place}.{name}.<{name.removeprefix('machine_').removesuffix('s')}>"
        yield from mappings(schema, each, inner.get("additionalProperties") or {})


def resolved(schema: Spec, about: Spec) -> dict[str, Any]:
    """A part of the schema, with what it refers to."""
    reference = about.get("$ref", "").rpartition("/")[2]
    return {**schema["$defs"].get(reference, {}), **about}


def key_text(about: Spec) -> str:
    """The cell of a key: its meaning, then how to give it."""
    return cell(f"{sentence(about['title'])} {sentence(about['description'])}")


def key_default(name: str, about: Spec, mapping: Spec) -> str:
    """The cell of a key's default: YAML, `required`, or nothing."""
    return default({**about, "required": name in mapping.get("required", ())})


def default(about: Spec) -> str:
    """The cell of an option's default: YAML on one line, or that it must be given."""
    if about.get("required"):
        return "required"
    if "default" not in about:
        return ""
    value = about["default"]
    if value == "":
        return "empty"
    if isinstance(value, str):
        return f"`{cell(value)}`"
    # In a list of one, because YAML marks the end of a document that is a bare scalar.
    text = yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=10_000)
    return f"`{cell(text.strip()[1:-1])}`"


def paragraphs(description: str | list[str]) -> list[str]:
    """A description as a list of texts, however it was given."""
    return [description] if isinstance(description, str) else list(description)


def sentence(text: str) -> str:
    """The text on one line, with a full stop."""
    line = " ".join(text.split())
    return line if line.endswith((".", ":", "!", "?")) else f"{line}."


def cell(text: str) -> str:
    """The text as it may stand in a table."""
    return " ".join(text.split()).replace("|", "\\|")


def differing(root: Path) -> dict[Path, str | None]:
    """The pages to write, and those to remove (None), by path relative to the root."""
    wanted = pages(root)
    gone = {
        path.relative_to(root): None
        for path in (root / REFERENCE).glob("*.md")
        if path.relative_to(root) not in wanted and path.read_text("utf-8").startswith(MARK)
    }
    changed = {
        path: text
        for path, text in wanted.items()
        if not (root / path).exists() or (root / path).read_text("utf-8") != text
    }
    return {**gone, **changed}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a page is old")
    check: bool = parser.parse_args(argv).check
    pending = differing(ROOT)
    for path, text in pending.items():
        print(f"{path}: {'is out of date' if check else 'removed' if text is None else 'written'}")
        if check:
            continue
        if text is None:
            (ROOT / path).unlink()
        else:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(text, "utf-8")
    return int(check and bool(pending))


if __name__ == "__main__":
    sys.exit(main())
