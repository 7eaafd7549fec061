"""The tools' Kafka clients, against librdkafka's own mock broker."""

import pytest

from flink_jobs.contracts import PRODUCER_DEFAULTS
from flink_jobs.tools.kafka import (
    Publisher,
    Tail,
    ToolError,
    partition_counts,
    partition_of,
    read_all,
    read_config,
)

TOPIC = "telemetry.pump"


@pytest.fixture
def config(mock_kafka, tmp_path):
    """Settings as the client file that site.yml writes holds them."""
    file = tmp_path / "client.conf"
    file.write_text(
        f"# ours\n\nbootstrap.servers={mock_kafka}\nsecurity.protocol = plaintext\n"
        "partitioner=murmur2_random\n"
    )
    return read_config(file)


def test_what_is_published_is_read_where_its_key_belongs(config):
    machines = [f"pump-{number}" for number in range(20)]
    with Publisher(config) as publisher:
        for machine in machines:
            publisher.send(TOPIC, machine.encode(), b"1")
    partitions = partition_counts(config, [TOPIC])[TOPIC]
    found = {message.key().decode(): message.partition() for message in read_all(config, TOPIC)}
    assert found == {m: partition_of(m.encode(), partitions) for m in machines}


def test_to_ask_about_a_missing_topic_is_an_error_and_does_not_make_it(config):
    for _ in range(2):
        with pytest.raises(ToolError, match=r"topic telemetry.pump does not exist.* site.yml"):
            partition_counts(config, [TOPIC])
    with pytest.raises(ToolError, match=r"does not exist; run site\.yml"):
        Tail(config, [TOPIC])


def test_a_tail_reads_what_comes_after_it(config):
    with Publisher(config) as publisher:
        publisher.send(TOPIC, b"p1", b"before")
    with Tail(config, [TOPIC]) as tail:
        with Publisher(config) as publisher:
            publisher.send(TOPIC, b"p1", b"after")
        assert [message.value() for message in tail.read(10, at_most=1)] == [b"after"]


def test_one_client_file_serves_producers_and_consumers_without_a_warning(config, capfd):
    everything = config | {key: str(value) for key, value in PRODUCER_DEFAULTS.items()}
    with Publisher(everything) as publisher:
        publisher.send(TOPIC, b"p1", b"1")
    with Tail(everything, [TOPIC], since="beginning") as tail:
        assert tail.read(10, at_most=1)
    assert len(list(read_all(everything, TOPIC))) == 1
    assert "CONFWARN" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bootstrap.servers=a:9092\nsecurity.protocol\n", ":2: expected key=value, found 'secu"),
        ("=x\n", ":1: expected key=value"),
        ("security.protocol=plaintext\n", "bootstrap.servers is missing"),
    ],
)
def test_a_client_file_with_a_fault_names_its_place(tmp_path, text, message):
    file = tmp_path / "client.conf"
    file.write_text(text)
    with pytest.raises(ToolError, match=message) as caught:
        read_config(file)
    assert str(file) in str(caught.value)


def test_a_missing_client_file_names_what_writes_it(tmp_path):
    with pytest.raises(ToolError, match=r"none.conf: cannot be read: .*; site.yml writes it"):
        read_config(tmp_path / "none.conf")
