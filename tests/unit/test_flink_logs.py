"""What Flink logs comes to the file and, where an operator must see it, to the journal."""

import subprocess
from pathlib import Path

from jinja2 import Template

TEMPLATE = Path(__file__).parents[2] / "roles/flink/templates/log4j-console.properties.j2"
COLLISION = (
    "Name collision: Group already contains a Metric with the name '{}'. Metric will not be"
    " reported.[node1, taskmanager, node1, plantline-anomaly-pump, alerts[31]: Committer, 0]"
)


def test_each_checkpoint_is_no_warning(class_path, tmp_path):
    settings, log = tmp_path / "log4j.properties", tmp_path / "flink.log"
    settings.write_text(Template(TEMPLATE.read_text()).render(ansible_managed="by a test"))
    options = [f"-Dlog4j.configurationFile={settings}", f"-Dlog.file={log}"]
    command = ["java", "-XX:TieredStopAtLevel=1", *options, "-cp", class_path]
    names = ("pendingCommittables", "pendingRecords")
    messages = [COLLISION.format(name) for name in names]
    done = subprocess.run(
        [*command, "plantline.LogHarness", *messages], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout == f"WARN  org.apache.flink.metrics.MetricGroup - {messages[1]}\n"
    assert [line.endswith(messages[1]) for line in log.read_text().splitlines()] == [True]
