"""What the documentation names exists: files, headings, make targets, modules, options."""

import functools
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flink_jobs.plant import job_config, load_plant
from plugins.filter.plant import plant_jobs

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
TRAINING = str(ROOT / ".venv-train" / "bin" / "python")
DEMO_PLANT = ROOT / "inventories" / "demo" / "group_vars" / "all" / "plant.yml"

LINK = re.compile(r"\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
CODE = re.compile(r"^(?: {4}.*|```(?s:.*?)```)$|`[^`\n]+`", re.MULTILINE)
MAKE = re.compile(r"\bmake ((?:[a-z]+(?:-[a-z]+)*\b ?)+)")
PATH = re.compile(r"(?<![\w/.…-])((?:playbooks|roles|tools|plugins|flink_jobs|tests)/[\w./-]*\w)")
MODULE = re.compile(r"-m (flink_jobs[\w.]*)")
# A module, a file of tools/ with its subcommand, or a tool of flink_jobs by its short name.
TOOLS = "|".join(file.stem for file in (ROOT / "flink_jobs" / "tools").glob("[a-z]*.py"))
COMMAND = re.compile(
    r"(?:-m (?P<module>flink_jobs[\w.]*)|python (?P<file>tools/\w+\.py) (?P<verb>\w+)"
    rf"|^ *`?(?P<tool>{TOOLS}))(?= )(?P<rest>[^`#]*)"
)


def identifier(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code(page: Path) -> str:
    """Everything on a page that is set as code."""
    return "\n".join(found.group() for found in CODE.finditer(page.read_text("utf-8")))


def anchors(page: Path) -> set[str]:
    """The page's headings as they are linked to."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text)]
    return {heading.replace(" ", "-") for heading in kept}


@pytest.fixture(scope="module")
def targets() -> set[str]:
    text = (ROOT / "Makefile").read_text("utf-8")
    return set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(page.read_text("utf-8")):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_every_make_target_exists(page, targets):
    named = {word for words in MAKE.findall(code(page)) for word in words.split()}
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_every_file_of_the_project_exists(page):
    """Also `roles/*/…`: what stands before the star must be there."""
    for path in PATH.findall(code(page)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_every_module_can_be_imported(page):
    for module in MODULE.findall(code(page)):
        assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_every_option_of_a_command_exists(page):
    for line in code(page).replace("\\\n", " ").splitlines():
        for command in COMMAND.finditer(line):
            module = command["module"] or f"flink_jobs.tools.{command['tool']}"
            program = [command["file"], command["verb"]] if command["file"] else ["-m", module]
            python = TRAINING if ".venv-train/" in line else sys.executable
            for option in re.findall(r"(?<!\S)--[a-z-]+", command["rest"]):
                assert option in help_of(python, *program), line


@functools.cache
def help_of(*program: str) -> str:
    return subprocess.run(
        [*program, "--help"], capture_output=True, check=True, text=True, cwd=ROOT
    ).stdout


@functools.cache
def sources() -> str:
    """What can print a message, on one line: literals joined, Jinja's line breaks gone."""
    folders = ("flink_jobs", "ops", "playbooks", "plugins", "roles", "tools")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.[py]*")]
    text = "\n".join(file.read_text("utf-8") for file in files if file.suffix in {".py", ".yml"})
    return " ".join(re.sub(r"""["']\s*\n\s*f?["']""", "", text).split())


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_every_message_that_is_explained_is_one_of_ours(page):
    """First cells of tables headed `message`; … stands for what differs from case to case."""
    for table in re.findall(
        r"^\| message \|.*\n\|.*\n((?:\|.*\n)+)", page.read_text("utf-8"), re.M
    ):
        for cell in re.findall(r"^\| (.*?) \|", table, re.M):
            for message in re.findall(r"`([^`]+)`", cell):
                for part in re.split(r"…|(?:after|within|for) \d+ s", message):
                    assert part.strip(" :;.()") in sources(), message


def test_no_page_names_a_place_on_somebodys_machine():
    for page in PAGES:
        assert not re.search(r"/(?:home|root|tmp|work)/", page.read_text("utf-8")), page


def test_job_config_is_described_entry_by_entry(tmp_path, monkeypatch):
    model = tmp_path / "pump.onnx"
    model.touch()
    job, _ = plant_jobs(str(DEMO_PLANT), "a:9092", {"pump": str(model)}, 2)
    page = (ROOT / "docs" / "reference" / "job-config.md").read_text("utf-8")
    first_cells = "".join(
        line.split("|")[1] for line in page.splitlines() if line.startswith("| `")
    )
    assert sorted(re.findall(r"`(\w+)`", first_cells)) == sorted(job["config"])
    assert set(job_config(load_plant(DEMO_PLANT), "pump")) < set(job["config"])


def test_the_plant_model_that_is_shown_is_one(tmp_path):
    page = (ROOT / "docs" / "plant-model.md").read_text("utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    file = tmp_path / "plant.yml"
    file.write_text(shown)
    assert load_plant(file).machines


def test_the_reading_that_is_shown_is_one():
    page = (ROOT / "docs" / "contracts.md").read_text("utf-8")
    (shown,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert {"machine_id", "ts"} <= set(json.loads(shown))
