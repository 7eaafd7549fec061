"""The documentation says what argument_specs and the plant model's schema say."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
assert spec is not None and spec.loader is not None
reference = sys.modules["reference"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


def test_the_committed_pages_are_current():
    old = sorted(map(str, reference.differing(ROOT)))
    assert not old, f"python tools/reference.py writes them anew: {', '.join(old)}"


@pytest.fixture
def project(tmp_path):
    """A project with one role and a page that was written by hand."""
    specs = tmp_path / "roles" / "pump" / "meta" / "argument_specs.yml"
    specs.parent.mkdir(parents=True)
    specs.write_text("argument_specs: {main: {short_description: Pumps}}\n")
    folder = tmp_path / reference.REFERENCE
    folder.mkdir(parents=True)
    (folder / "by-hand.md").write_text("# By hand\n")
    for file in (reference.SCHEMA, reference.PLANT_PAGE):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / file, tmp_path / file)
    for path, text in reference.differing(tmp_path).items():
        (tmp_path / path).write_text(text)
    return tmp_path


def test_what_was_written_is_current(project):
    assert reference.differing(project) == {}


def test_a_role_that_is_gone_takes_its_page_along(project):
    (project / "roles" / "pump" / "meta" / "argument_specs.yml").unlink()
    assert reference.differing(project)[reference.REFERENCE / "pump.md"] is None


def test_a_page_written_by_hand_is_listed_and_left_alone(project):
    assert "[by-hand](by-hand.md)" in (project / reference.REFERENCE / "README.md").read_text()
    assert reference.REFERENCE / "by-hand.md" not in reference.differing(project)


@pytest.mark.parametrize(
    ("about", "shown"),
    [
        ({"required": True}, "required"),
        ({}, ""),
        ({"default": ""}, "empty"),
        ({"default": False}, "`false`"),
        ({"default": 5}, "`5`"),
        ({"default": [1, 2]}, "`[1, 2]`"),
        ({"default": "{{ a | b }}"}, "`{{ a \\| b }}`"),
    ],
)
def test_defaults_are_shown_as_yaml_that_a_table_can_hold(about, shown):
    assert reference.default(about) == shown


def test_options_inside_a_list_follow_it():
    options = {"users": {"type": "list", "elements": "dict", "options": {"name": {"type": "str"}}}}
    assert [row.split("|")[1].strip() for row in reference.rows(options)] == [
        "`users`",
        "`users[].name`",
    ]


def test_every_key_of_the_plant_model_is_explained():
    schema = json.loads((ROOT / reference.SCHEMA).read_text())
    tables = "\n".join(reference.key_tables(schema))
    mappings = [schema["properties"]["plant"], *schema["$defs"].values()]
    for mapping in mappings:
        for key in mapping.get("properties", {}):
            assert f"| `{key}` | " in tables, key


def test_a_changed_schema_makes_page_and_copy_out_of_date(project):
    file = project / reference.SCHEMA
    file.write_text(file.read_text().replace("The plant's name", "What the plant is called"))
    assert set(reference.differing(project)) == {reference.PLANT_PAGE, reference.SCHEMA_COPY}
