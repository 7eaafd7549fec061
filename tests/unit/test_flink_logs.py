"""What Flink logs comes to the file and, where an operator must see it, to the journal."""

import subprocess
from pathlib import Path

import pytest
from jinja2 import Template

TEMPLATE = Path(__file__).parents[2] / "roles/flink/templates/log4j-console.properties.j2"
METRICS, NETWORK = "org.apache.flink.metrics.MetricGroup", "org.apache.kafka.clients.NetworkClient"
COLLISION = (
    "Name collision: Group already contains a Metric with the name '{}'. Metric will not be"
    " reported.[node1, taskmanager, node1, plantline-anomaly-pump, alerts[31]: Committer, 0]"
)


@pytest.fixture
def logged(class_path, tmp_path):
    """What the journal and the file have of warnings of a class."""

    def of(name, messages):
        settings, log = tmp_path / "log4j.properties", tmp_path / "flink.log"
        settings.write_text(Template(TEMPLATE.read_text()).render(ansible_managed="by a test"))
        options = [f"-Dlog4j.configurationFile={settings}", f"-Dlog.file={log}"]
        command = ["java", "-XX:TieredStopAtLevel=1", *options, "-cp", class_path]
        done = subprocess.run(
            [*command, "plantline.LogHarness", name, *messages],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return done.stdout.splitlines(), log.read_text().splitlines()

    return of


def test_each_checkpoint_is_no_warning(logged):
    messages = [COLLISION.format(name) for name in ("pendingCommittables", "pendingRecords")]
    journal, file = logged(METRICS, messages)
    assert journal == [f"WARN  {METRICS} - {messages[1]}"]
    assert [line.endswith(messages[1]) for line in file] == [True]


def test_that_kafka_is_away_is_said_and_buries_nothing(logged):
    messages = [f"Connection to node {n} could not be established." for n in range(1000)]
    journal, file = logged(NETWORK, messages)
    assert journal[0] == f"WARN  {NETWORK} - {messages[0]}"
    assert 10 <= len(journal) <= 50
    assert len(file) == len(journal)
