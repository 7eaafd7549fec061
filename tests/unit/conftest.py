"""What several tests run with."""

import struct
import subprocess
from collections.abc import Callable, Iterable, Iterator

import pytest
from confluent_kafka import Producer
from hypothesis import settings

from tests import jvm as java

# What the start scripts give every JVM of Flink's on Java 17.
OPENED = ("java.lang", "java.util", "java.nio", "java.time", "java.net", "java.util.concurrent")

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
def jvm(class_path: str) -> Iterator[java.Jvm]:
    """The Java half of the jobs, for one question after the other."""
    jvm = java.Jvm(class_path)
    yield jvm
    jvm.close()


@pytest.fixture(scope="session")
def class_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Flink and its connectors out of the depot, and all Java of ours and of tests/java."""
    return java.compiled(tmp_path_factory.mktemp("flink"))


Record = tuple[int, int, bytes | None, bytes | None]


@pytest.fixture(scope="session")
def flink(
    class_path: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., list[list[str]]]:
    """Runs statements; the rows of the last one, as texts.

    With the settings of a stream and records (partition, append time, key, value), its views are
    there, and the job may die on its way: tests/java/plantline/Sql.java.
    """
    folder = tmp_path_factory.mktemp("sql")

    def run(
        statements: str, settings: str = "", records: Iterable[Record] = (), *, dies: bool = False
    ) -> list[list[str]]:
        (folder / "statements").write_text(statements)
        arguments = [folder / "statements"]
        if settings:
            (folder / "settings").write_text(settings)
            (folder / "records").write_bytes(b"".join(map(as_bytes, records)))
            arguments += [folder / "settings", folder / "records", *(["dies"] if dies else [])]
        opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
        # It is over before a thorough compiler would pay.
        quickly = ["-XX:TieredStopAtLevel=1", "-Xmx1g", *opened]
        command = ["java", *quickly, "-cp", class_path, "plantline.Sql", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return [line.split("\t") for line in done.stdout.splitlines()]

    return run


def as_bytes(record: Record) -> bytes:
    partition, appended, *parts = record
    return struct.pack(">Bq", partition, appended) + b"".join(
        struct.pack(">i", -1) if part is None else struct.pack(">i", len(part)) + part
        for part in parts
    )
