"""Write docs/reference: one page per role, from its meta/argument_specs.yml.

    python tools/reference.py            # write the pages
    python tools/reference.py --check    # exit code 1 unless they are current

Pages of roles that are gone are removed; a page without MARK was written by hand and is left alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = Path("docs", "reference")
MARK = "<!-- Written by tools/reference.py from roles/*/meta/argument_specs.yml. -->"

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
    return {REFERENCE / "README.md": index_page(specs, by_hand), **roles}


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
    found = {path.relative_to(root): path for path in (root / REFERENCE).glob("*.md")}
    gone = {
        path: None
        for path, file in found.items()
        if path not in wanted and file.read_text("utf-8").startswith(MARK)
    }
    changed = {
        path: text
        for path, text in wanted.items()
        if path not in found or found[path].read_text("utf-8") != text
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
