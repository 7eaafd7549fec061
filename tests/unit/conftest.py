"""What several tests run with."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer
from hypothesis import settings

from tests.jvm import Jvm

# A test that waits for the machine is not a slow one.
settings.register_profile("plantline", deadline=None)
settings.load_profile("plantline")


@pytest.fixture
def mock_kafka() -> Iterator[str]:
    """Address of librdkafka's mock broker, empty; topics appear on demand, with 4 partitions."""
    broker = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    brokers = broker.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{one.host}:{one.port}" for one in brokers)


@pytest.fixture(scope="session")
def jvm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jvm]:
    """The Java half of the jobs, compiled once."""
    jvm = Jvm(tmp_path_factory.mktemp("classes"))
    yield jvm
    jvm.close()
