"""The commands that the documentation gives: each is tried as far as it can be without hosts.

make is asked what it would do, playbooks are syntax-checked with the inventory and tags that stand
there, Python programs and amtool parse their arguments, units and scenarios must be ours. What
needs a plant is run by the live tests; RUN_LIVE says where.
"""

import functools
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.tools import from_depot

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

CODE = re.compile(r"^(?: {4}.*|```(?s:.*?)```)$|`[^`\n]+`", re.MULTILINE)
ASSIGNMENT = re.compile(r"[A-Z_]+=")
# Followed by these, a line of code is a command and not a sentence about a program.
PROGRAMS = {
    *("make", "ansible-playbook", "python", "molecule", "pyinfra", "amtool"),
    *("systemctl", "journalctl"),
}

# Commands whose live run proves more than their parsing, and the live test that runs them.
RUN_LIVE = {
    "make verify": ("test_10_site.py", "playbooks/verify.yml"),
    "make status": ("test_70_ops.py", '"status"'),
    "make collect": ("test_70_ops.py", '"collect"'),
    "make probe": ("test_70_ops.py", '"probe"'),
    "ansible-playbook site.yml -i inventories/plant1 --check --diff": (
        "test_10_site.py",
        '"site.yml", "--check", "--diff"',
    ),
    "python -m flink_jobs.tools.simulate": ("test_20_stream.py", '"simulate"'),
}

# Commands that change nothing and need no hosts are run as they stand.
HARMLESS = (
    ["make", "help"],
    ["python", "tools/depot.py", "list"],
    ["python", "-m", "flink_jobs.plant", "FILE"],
    ["python", "-m", "flink_jobs.plant", "inventories/plant1/group_vars/all/plant.yml"],
)


@dataclass(frozen=True)
class Command:
    """A command with the page it stands on, without the path of its Python environment.

    `training`: that is .venv-train.
    """

    page: str
    words: tuple[str, ...]
    training: bool = False

    def __str__(self):
        return f"{self.page}: {shlex.join(self.words)}"

    def begins_with(self, *words):
        return self.words[: len(words)] == words


def commands_of(text, page="page"):
    """The commands set as code, their comments and continuations resolved."""
    found = []
    for block in CODE.finditer(text.replace("\\\n", " ")):
        for line in block.group().splitlines():
            try:
                words = shlex.split(line.strip(" `"), comments=True)
            except ValueError:
                continue  # a message or a piece of YAML with an apostrophe
            while words and ASSIGNMENT.match(words[0]):
                words.pop(0)
            if len(words) < 2:
                continue
            environment, program = re.fullmatch(r"(?:(\.venv\S*)/bin/)?(.*)", words[0]).groups()
            if program in PROGRAMS:
                training = environment == ".venv-train"
                found.append(Command(page, (program, *words[1:]), training))
    return found


COMMANDS = list(
    dict.fromkeys(
        command
        for page in PAGES
        for command in commands_of(page.read_text("utf-8"), str(page.relative_to(ROOT)))
    )
)


def those(*words):
    """The commands that begin with these words, as parameters of a test."""
    chosen = [command for command in COMMANDS if command.begins_with(*words)]
    return pytest.mark.parametrize("command", chosen, ids=str)


def run(*words, **options):
    return subprocess.run(
        list(map(str, words)), cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


def option(words, *names):
    """The value that follows an option; None where it is not given."""
    return next((value for name, value in pairwise(words) if name in names), None)


# Reading them


def test_commands_are_found_as_people_write_them():
    text = """
    make site INVENTORY=a   # a comment
    PLANTLINE_KEEP=1 make test
    .venv/bin/python -m x \\
      --y 1
Prose with `make verify` and `make` alone, `ansible_user: root`.
```
ansible-playbook site.yml --limit '!node2'
```
"""
    assert [" ".join(command.words) for command in commands_of(text)] == [
        "make site INVENTORY=a",
        "make test",
        "python -m x --y 1",
        "make verify",
        "ansible-playbook site.yml --limit !node2",
    ]


def test_the_documentation_has_commands_of_every_kind():
    assert {command.words[0] for command in COMMANDS} == PROGRAMS


# Trying them


@those("make")
def test_make_would_do_it(command):
    """Its targets exist, and the variables that it is given are the Makefile's."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for word in command.words[1:]:
        name, given, _ = word.partition("=")
        if given:
            assert re.search(rf"^{name} \?=", makefile, re.MULTILINE), word
    done = run("make", "--dry-run", *(word for word in command.words[1:] if "…" not in word))
    assert done.returncode == 0, done.stderr


@those("ansible-playbook")
def test_the_playbook_its_inventory_and_its_tags_exist(command):
    """Options are Ansible's own to check; those that would not let it only look are left out."""
    copies = copied_folders((ROOT / command.page).read_text("utf-8"))
    words = []
    for word in command.words[1:]:
        if word == "…":
            words += ["-i", "inventories/demo"]
        elif word not in {"--check", "--diff"}:
            words.append(copies.get(word, word.replace("<plant>", "demo")))
    inventory = option(words, "-i", "--inventory")
    assert inventory, "an inventory must be named: without one Ansible does nothing"
    done = run("ansible-playbook", "--syntax-check", *words)
    assert done.returncode == 0, done.stderr
    assert "Unable to parse" not in done.stderr
    tags = option(words, "--tags", "-t")
    if tags:
        assert set(tags.split(",")) <= tags_of(words[0])


def copied_folders(page):
    """Folders that a page has the reader make, and what of the project they are copies of."""
    copies = re.findall(r"\bcp -r (\S+) (\S+)", page)
    return {made.rstrip("/"): of.rstrip("/") for of, made in copies}


@functools.cache
def tags_of(playbook):
    listed = run("ansible-playbook", playbook, "-i", "inventories/demo", "--list-tags").stdout
    return {tag for tags in re.findall(r"TAGS: \[(.*?)\]", listed) for tag in tags.split(", ")}


@those("python")
def test_the_program_takes_these_arguments(command):
    """All that stands before --help is parsed: subcommands, options, types and choices."""
    words = command.words[1:]
    python = ROOT / ".venv-train" / "bin" / "python" if command.training else sys.executable
    done = run(python, *words, "--help")
    assert done.returncode == 0, done.stderr
    for name in (word.partition("=")[0] for word in words):
        if name.startswith("--"):
            assert name in done.stdout, name


@those("molecule")
def test_the_scenario_exists_and_molecule_knows_the_step(command):
    assert run("molecule", command.words[1], "--help").returncode == 0
    scenario = option(command.words, "-s", "--scenario-name")
    assert (ROOT / "molecule" / (scenario or "default") / "molecule.yml").is_file()


@those("pyinfra")
def test_pyinfra_takes_these_arguments(command):
    """--dry connects to nobody it need not: `debug-inventory` stands in for the question."""
    words = list(command.words[1 : command.words.index("exec")])
    done = run("pyinfra", *words, "debug-inventory")
    assert done.returncode == 0, done.stderr


@those("amtool")
def test_amtool_takes_these_arguments(command, tmp_path_factory):
    amtool = from_depot("prometheus-alertmanager", "amtool", tmp_path_factory.getbasetemp())
    done = run(amtool, *command.words[1:], "--help")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if c.begins_with("systemctl") or c.begins_with("journalctl")],
    ids=str,
)
def test_the_unit_is_one_of_ours(command):
    named = [word for word in command.words[2:] if not word.startswith(("-", "…", "<"))]
    assert {word.removesuffix(".service") for word in named} <= units()


@functools.cache
def units():
    """Units that the roles make, and Flink's, whose template serves two of them."""
    templates = ROOT.glob("roles/*/templates/*.j2")
    made = {file.stem for file in templates if Path(file.stem).suffix in {".service", ".timer"}}
    flink = {"flink-jobmanager", "flink-taskmanager"}
    return {name.removesuffix(".service") for name in made} - {"flink"} | flink


# Running them


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if any(c.begins_with(*harmless) for harmless in HARMLESS)],
    ids=str,
)
def test_a_command_that_needs_no_hosts_runs(command):
    words = [sys.executable if word == "python" else word for word in command.words]
    if "FILE" in words:
        words[words.index("FILE")] = "inventories/demo/group_vars/all/plant.yml"
    done = run(*words)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("command", "place"), RUN_LIVE.items())
def test_a_command_that_needs_a_plant_is_run_by_a_live_test(command, place):
    file, text = place
    assert any(" ".join(known.words).startswith(command) for known in COMMANDS), command
    assert text in (ROOT / "tests" / "live" / file).read_text("utf-8")


@pytest.mark.parametrize("scenario", ["default", "host", "vagrant"])
def test_a_scenario_of_molecule_parses(scenario):
    done = run("molecule", "syntax", "--scenario-name", scenario)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = ROOT / "molecule" / scenario
    inventory = ROOT / "molecule" / "inventories" / f"molecule-{scenario}"
    for playbook in sorted(folder.glob("*.yml")):
        if playbook.name != "molecule.yml":
            done = run("ansible-playbook", "--syntax-check", playbook, "-i", inventory)
            assert done.returncode == 0, done.stderr
