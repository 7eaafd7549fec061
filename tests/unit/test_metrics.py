"""Dashboards and rules rely on docs/metrics.md: every metric that is let through is named there."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest
import yaml

from flink_jobs.picture import Picture

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`(\w+)[`{]", DOCS))


def jmx_names():
    rules = yaml.safe_load((ROOT / "roles/kafka/files/jmx.yml").read_text("utf-8"))["rules"]
    for rule in rules:
        choices = re.findall(r"\(([A-Za-z-]+(?:\|[A-Za-z-]+)+)\)", rule["pattern"])
        first = choices[0].split("|") if "$1" in rule["name"] else [""]
        for choice in first:
            yield rule["name"].replace("$1", choice.lower().replace("-", "_"))


def flink_names():
    """As the reporter calls them: the scope's parts, then the name; * stands for both processes."""
    variables = yaml.safe_load((ROOT / "roles/flink/vars/main.yml").read_text("utf-8"))
    for entry in variables["__flink_metrics"]:
        scope, _, names = entry.partition(":")
        for process in ("jobmanager", "taskmanager") if "*" in scope else ("",):
            for name in filter(None, names.split(",")):
                yield f"flink_{scope.replace('*', process).replace('.', '_')}_{name}"


@pytest.mark.parametrize("name", sorted(set(jmx_names())))
def test_every_metric_of_kafka_is_documented(name):
    assert name in NAMED


@pytest.mark.parametrize("name", sorted(set(flink_names())))
def test_every_metric_of_flink_is_documented(name):
    assert name in NAMED


@pytest.mark.parametrize("family", list(Picture(1).metrics()), ids=lambda family: family.name)
def test_every_metric_of_the_plant_is_documented_with_its_labels(family):
    name = f"{family.name}_total" if family.type == "counter" else family.name
    [row] = [line for line in DOCS.splitlines() if line.startswith(f"| `{name}` |")]
    labels = row.split("|")[2]
    if "the same" not in labels:
        assert re.findall(r"`(\w+)`", labels) == list(family._labelnames)


@pytest.mark.parametrize(
    "counter",
    [
        *re.findall(
            r'counter\("(\w+)"\)', (ROOT / "flink_jobs/jobs/anomaly_udfs.py").read_text("utf-8")
        ),
        *re.findall(
            r'counter\("(\w+)"\)',
            (ROOT / "flink_java/plantline/ReadingSchema.java").read_text("utf-8"),
        ),
    ],
)
def test_every_metric_of_the_jobs_is_documented(counter):
    # Groups between operator and counter become part of the name.
    name = re.compile(
        rf"flink_taskmanager_job_task_operator_(machine_type|deserializer)\w*_{counter}"
    )
    assert any(name.fullmatch(one) for one in NAMED)


def test_a_change_of_what_watches_the_jobs_does_not_restart_them():
    spec = importlib.util.spec_from_file_location(
        "package", ROOT / "roles/flink_jobs/files/package.py"
    )
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)

    def imported(file):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flink_jobs"):
                yield node.module
                yield from (f"{node.module}.{name.name}" for name in node.names)

    reached, waiting = set(), {ROOT / "flink_jobs/jobs/anomaly.py"}
    while waiting:
        file = waiting.pop()
        reached.add(file)
        files = {(ROOT / module.replace(".", "/")).with_suffix(".py") for module in imported(file)}
        waiting |= {file for file in files if file.exists()} - reached
    assert len(reached) > 5
    for file in reached:
        assert package.NOT_OF_JOBS.isdisjoint(file.relative_to(ROOT).parts)
