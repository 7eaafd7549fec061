"""What several tests run against."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer


@pytest.fixture
def mock_kafka() -> Iterator[str]:
    """Address of librdkafka's mock broker: an empty cluster, topics of four partitions on demand."""
    broker = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    brokers = broker.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{one.host}:{one.port}" for one in brokers)
