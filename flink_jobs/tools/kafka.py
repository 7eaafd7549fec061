"""Kafka for the tools: a client file, a publisher that accounts for every record, plain readers.

The client file is librdkafka's (`key=value` lines, `#` comments), as in out/client.conf.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from flink_jobs.contracts import PRODUCER_DEFAULTS

Config = Mapping[str, str]

ANY = -1  # librdkafka's RD_KAFKA_PARTITION_UA: the partitioner decides

_METADATA_TIMEOUT_S = 15.0
_READ_TIMEOUT_S = 60.0
_POLL_EVERY = 4096


class ToolError(RuntimeError):
    """What the user should read as one line on standard error; the command ends with 1."""


def read_config(path: Path) -> dict[str, str]:
    """Client settings from a properties file. Raises ToolError naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ToolError(f"{path}: cannot be read: {error.strerror}; site.yml writes it") from error
    config = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise ToolError(f"{path}:{number}: expected key=value, found {text!r}")
        config[key.strip()] = value.strip()
    if "bootstrap.servers" not in config:
        raise ToolError(f"{path}: bootstrap.servers is missing")
    return config


def murmur2(key: bytes) -> int:
    """The unsigned 32-bit hash of Kafka's Java client (`Utils.murmur2`)."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if whole < len(key):
        h = (h ^ int.from_bytes(key[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition on which every producer of the plant puts this key."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def partition_counts(config: Config, topics: list[str]) -> dict[str, int]:
    """The number of partitions of each topic. Raises ToolError for a topic that is not there."""
    # A consumer, because a producer's metadata request may create the topic it asks about.
    consumer = _consumer(config)
    try:
        counts = {}
        for topic in topics:
            found = _metadata(consumer, config, topic)
            if not found:
                raise ToolError(
                    f"topic {topic} does not exist; declare its machine type in plant.yml"
                    " and run site.yml"
                )
            counts[topic] = len(found)
        return counts
    finally:
        consumer.close()


class Publisher:
    """A producer whose every record is either delivered or reported.

    Use as a context manager: leaving it normally waits for all deliveries and raises ToolError with
    the number that failed.
    """

    def __init__(self, config: Config) -> None:
        self.sent = 0
        self.failed = 0
        self.first_error: str | None = None
        self._producer = Producer(
            {
                "linger.ms": 20,
                "batch.size": 1_000_000,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 500_000,
                **PRODUCER_DEFAULTS,
                **config,
                # One call back per failure, none per success: flush() returning 0 says the rest.
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self._producer.purge()
            self._producer.flush(1)

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int = ANY,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        """Queue a record, by default on the partition of its key; waits while the queue is full."""
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=headers)
                break
            except BufferError:
                self._producer.poll(0.1)  # what is delivered or given up makes room
        self.sent += 1
        if not self.sent % _POLL_EVERY:
            self._producer.poll(0)

    def poll(self) -> None:
        """Serve delivery reports; call it while waiting."""
        self._producer.poll(0)

    def finish(self, timeout_s: float = 330.0) -> None:
        """Wait until every record is delivered or given up (by default later than librdkafka)."""
        deadline = time.monotonic() + timeout_s
        while (waiting := self._producer.flush(1.0)) and time.monotonic() < deadline:
            pass
        if waiting:
            raise ToolError(f"{waiting} of {self.sent} records were not delivered in time")
        if self.failed:
            raise ToolError(f"{self.failed} of {self.sent} records failed: {self.first_error}")

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.failed += 1
            self.first_error = self.first_error or error.str()


class Tail:
    """Reads topics without a group: from the end, the beginning or a time, never committing.

    Only committed records are returned.
    """

    def __init__(self, config: Config, topics: list[str], since: int | str = "end") -> None:
        """`since` is "end", "beginning", or an append time in epoch milliseconds."""
        self._consumer = _consumer(config)
        positions = []
        for topic in topics:
            partitions = _metadata(self._consumer, config, topic)
            if not partitions:
                self._consumer.close()
                raise ToolError(f"topic {topic} does not exist; run site.yml")
            positions += [TopicPartition(topic, p) for p in partitions]
        if since == "beginning":
            for position in positions:
                position.offset = OFFSET_BEGINNING
        elif since == "end":
            # Resolved now: OFFSET_END would be resolved by the first fetch, after this returns.
            for position in positions:
                position.offset = self._consumer.get_watermark_offsets(
                    position, timeout=_METADATA_TIMEOUT_S
                )[1]
        else:
            positions = _since(self._consumer, positions, int(since))
        self._consumer.assign(positions)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self, timeout_s: float, at_most: int = 10_000) -> list[Message]:
        """The records that arrive within the timeout, fewer than `at_most`. Raises ToolError."""
        records = []
        for message in self._consumer.consume(at_most, timeout_s):
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() != KafkaError._PARTITION_EOF and not error.retriable():
                raise ToolError(f"cannot read {message.topic()}: {error.str()}")
        return records


def read_all(config: Config, topic: str, since: int | None = None) -> Iterator[Message]:
    """Every committed record of a topic up to its end as of now, in the order of each partition.

    `since` leaves out what was appended before that time (epoch ms). Raises ToolError where the
    topic does not exist or stops answering.
    """
    consumer = _consumer(config, {"enable.partition.eof": True})
    try:
        partitions = _metadata(consumer, config, topic)
        if not partitions:
            raise ToolError(f"topic {topic} does not exist; run site.yml")
        waiting = set(partitions)
        positions = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions]
        if since is not None:
            positions = _since(consumer, positions, since)
        consumer.assign(positions)
        deadline = time.monotonic() + _READ_TIMEOUT_S
        while waiting:
            for message in consumer.consume(10_000, 0.5):
                deadline = time.monotonic() + _READ_TIMEOUT_S
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    waiting.discard(message.partition())
                elif not error.retriable():
                    raise ToolError(f"cannot read {topic}: {error.str()}")
            if time.monotonic() > deadline:
                raise ToolError(f"topic {topic} stopped answering; partitions left: {waiting}")
    finally:
        consumer.close()


def _consumer(config: Config, extra: Mapping[str, Any] | None = None) -> Consumer:
    # One client file serves both kinds; librdkafka warns of what only producers have.
    config = {key: value for key, value in config.items() if key not in PRODUCER_DEFAULTS}
    return Consumer(
        {
            **config,
            # assign() needs a group's name but never joins it.
            "group.id": "plantline-tools",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 50,
            # Reading fills its queue at once; the default waits a second after filling it.
            "fetch.queue.backoff.ms": 20,
            "fetch.message.max.bytes": 4_194_304,
            **(extra or {}),
        }
    )


def _since(
    consumer: Consumer, positions: list[TopicPartition], time_ms: int
) -> list[TopicPartition]:
    """The offsets of the first records appended at or after a time; the end where there is none."""
    for position in positions:
        position.offset = time_ms
    found: list[TopicPartition] = consumer.offsets_for_times(positions, timeout=_METADATA_TIMEOUT_S)
    for position in found:
        if position.offset < 0:
            position.offset = OFFSET_END
    return found


def _metadata(consumer: Consumer, config: Config, topic: str) -> list[int]:
    """The partitions of a topic, [] where it does not exist."""
    try:
        metadata = consumer.list_topics(topic, timeout=_METADATA_TIMEOUT_S).topics[topic]
    except KafkaException as error:
        servers = config["bootstrap.servers"]
        raise ToolError(f"no broker of {servers} answers: {error.args[0].str()}") from error
    if metadata.error is None:
        return sorted(metadata.partitions)
    if metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return []
    raise ToolError(f"topic {topic}: {metadata.error.str()}")
