"""What the plant model declares is known on topic `machines`, and said once."""

import json
import sys

import orjson
import pytest

from flink_jobs import contracts, registry
from flink_jobs.tools.kafka import Publisher, read_all

PUMP = contracts.registration("p1", "pump", valid_from=0, line="line-1", area="hall-a")
FAN = contracts.registration("f1", "fan", valid_from=0)
# Registered by somebody else, on a topic that is there.
OTHER = contracts.registration("o1", "pump", valid_from=5)


@pytest.fixture
def tell(mock_kafka, tmp_path, monkeypatch, capsys):
    """Runs the command on declared machines; returns those it registers."""
    kafka = tmp_path / "kafka.json"
    kafka.write_text(json.dumps({"bootstrap.servers": mock_kafka}))
    with Publisher({"bootstrap.servers": mock_kafka}) as publisher:
        publisher.send(contracts.MACHINES, b"o1", orjson.dumps(OTHER))

    def run(*machines, options=()):
        declared = tmp_path / "machines.json"
        declared.write_text(json.dumps(machines))
        files = ["--machines", str(declared), "--kafka", str(kafka)]
        monkeypatch.setattr(sys, "argv", ["registry", *files, *options])
        assert registry.main() == 0
        return json.loads(capsys.readouterr().out)["registered"]

    return run


def on_topic(server):
    records = read_all({"bootstrap.servers": server}, contracts.MACHINES)
    found = [(message.key(), orjson.loads(message.value())) for message in records]
    return [one for one in found if one != (b"o1", OTHER)]


def test_a_machine_is_made_known_once(tell, mock_kafka):
    assert tell(PUMP, FAN) == ["p1", "f1"]
    assert sorted(on_topic(mock_kafka)) == [(b"f1", FAN), (b"p1", PUMP)]
    assert tell(PUMP, FAN) == []
    assert len(on_topic(mock_kafka)) == 2


def test_a_machine_that_moved_is_said_again(tell, mock_kafka):
    moved = PUMP | {"line": "line-2"}
    tell(PUMP, FAN)
    assert tell(moved, FAN) == ["p1"]
    assert (b"p1", moved) in on_topic(mock_kafka)
    assert tell(moved, FAN) == []


def test_a_machine_known_since_later_is_known_from_the_declared_time_on(tell):
    tell(PUMP | {"valid_from": 1000})
    assert tell(PUMP) == ["p1"]
    assert tell(PUMP | {"valid_from": 1000}) == []


def test_a_dry_run_tells_and_does_nothing(tell, mock_kafka):
    tell(PUMP)
    assert tell(PUMP, FAN, options=["--check"]) == ["f1"]
    assert on_topic(mock_kafka) == [(b"p1", PUMP)]
