"""What is remembered between runs, and how long a change is waited for."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import ansible.module_utils
import pytest
from kafka.errors import KafkaConnectionError

FOLDER = str(Path(__file__).resolve().parents[2] / "plugins" / "module_utils")


@pytest.fixture
def resources(monkeypatch):
    """The module, found as Ansible's modules find it on a host."""
    monkeypatch.setattr(ansible.module_utils, "__path__", [*ansible.module_utils.__path__, FOLDER])
    names = ("kafka_resources", "kafka_client", "kafka_roller")
    yield importlib.import_module("ansible.module_utils.kafka_resources")
    for name in names:
        sys.modules.pop(f"ansible.module_utils.{name}", None)


@pytest.fixture
def client():
    """A cluster of two brokers."""
    brokers = [SimpleNamespace(node_id=node) for node in (1, 2)]
    return SimpleNamespace(
        _manager=SimpleNamespace(cluster=SimpleNamespace(brokers=lambda: brokers))
    )


def test_a_record_is_of_one_cluster(resources, tmp_path):
    file = tmp_path / "new" / "topics.json"
    assert resources.load_record(file, "one") == {}
    resources.save_record(file, "one", {"t": None})
    assert resources.load_record(file, "one") == {"t": None}
    assert resources.load_record(file, "another") == {}


def test_a_record_is_for_its_owner_alone_and_written_only_where_it_differs(resources, tmp_path):
    file = tmp_path / "new" / "users.json"
    resources.save_record(file, "one", {"b": 1, "a": 2})
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    before = file.stat().st_ino
    resources.save_record(file, "one", {"a": 2, "b": 1})
    assert file.stat().st_ino == before
    # What a cut left behind is no hindrance.
    file.with_suffix(".new").write_text("{")
    resources.save_record(file, "one", {})
    assert resources.load_record(file, "one") == {}
    assert [entry.name for entry in file.parent.iterdir()] == ["users.json"]


def test_batches_lose_nothing(resources):
    assert [list(part) for part in resources.batches(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert not list(resources.batches([]))


def test_a_change_is_waited_for_at_every_broker(resources, client, monkeypatch):
    monkeypatch.setattr(sys.modules["ansible.module_utils.kafka_client"], "POLL_S", 0.01)
    asked = []

    def known(node):
        asked.append(node)
        return node == 1 or asked.count(2) == 3

    resources.wait_for_brokers(client, known)
    assert asked == [1, 2, 2, 2]


def test_a_broker_that_does_not_follow_is_named(resources, client, monkeypatch):
    monkeypatch.setattr(resources, "REQUEST_S", 0.0)
    with pytest.raises(resources.NotAnsweringError, match="broker 2 does not follow"):
        resources.wait_for_brokers(client, lambda node: node == 1)


def test_a_broker_that_is_away_is_not_waited_for(resources, client):
    def known(node):
        if node == 2:
            raise KafkaConnectionError
        return True

    resources.wait_for_brokers(client, known)
