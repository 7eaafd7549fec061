"""Serves what the plant's topics tell as metrics for Prometheus. docs/metrics.md names them.

    python -m flink_jobs.exporter --kafka /etc/plantline/exporter/kafka.json \
        --machines /etc/plantline/machines.json --config /etc/plantline/exporter.json

It reads as any client does and never commits: predictions, alerts and dead letters record by
record, telemetry by its ends and by samples from there. Counters start with the process; gauges are
filled from the records before. While brokers are away it serves what it knows, and the time stamps
tell how old that is.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from prometheus_client import REGISTRY, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from flink_jobs import contracts
from flink_jobs.contracts import is_reserved
from flink_jobs.picture import Growth, Picture, Place

FOLLOWED = (contracts.PREDICTIONS, contracts.ALERTS, contracts.DLQ)

# Read before the end of each partition at start, to know how things stand.
_BEFORE = 10_000
# Telemetry looked at in each partition, each time.
_SAMPLE = 500
_LOOK_EVERY_S = 5.0
_ANSWER_WITHIN_S = 10.0


@dataclass(frozen=True)
class Config:
    """What to watch and where to serve it.

    machine_types: their channels. groups: the topic that each consumer group reads. machines: how
    many have series of their own at most.
    """

    machine_types: dict[str, list[str]]
    groups: dict[str, str]
    machines: int
    address: str
    port: int
    # PEM files: its own, and of the CA of those who may ask.
    certificate: str
    key: str
    ca: str

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text("utf-8")))

    @property
    def telemetry(self) -> dict[str, str]:
        """Topics of readings, each with its machine type; reserved types are left out."""
        types = [name for name in self.machine_types if not is_reserved(name)]
        return {contracts.telemetry_topic(name): name for name in types}


class Follower:
    """Reads topics record by record: what came shortly before the start, and then what comes."""

    def __init__(self, kafka: Mapping[str, Any]) -> None:
        self._consumer = _consumer(kafka)
        self._counted_from: dict[Place, int] = {}

    def follow(self, places: Iterable[Place]) -> None:
        """Begin with the partitions not known yet. Raises KafkaException."""
        begin = not self._counted_from
        added, counted_from = [], {}
        for topic, index in places:
            if (topic, index) in self._counted_from:
                continue
            place = TopicPartition(topic, index)
            low, high = self._consumer.get_watermark_offsets(place, timeout=_ANSWER_WITHIN_S)
            # All of a partition that is added later is new.
            counted_from[topic, index] = high if begin else low
            place.offset = max(low, high - _BEFORE) if begin else low
            added.append(place)
        if added:
            self._consumer.incremental_assign(added)
            self._counted_from |= counted_from

    def read(self, timeout_s: float) -> list[tuple[Message, bool]]:
        """The next records, each with whether it came after the start. Raises KafkaException."""
        records = []
        for message in self._consumer.consume(1000, timeout_s):
            if _is_record(message):
                place = _place(message)
                records.append((message, (message.offset() or 0) >= self._counted_from[place]))
        return records


class Ends:
    """Asks where topics end and how far groups have come. All methods raise KafkaException."""

    def __init__(self, kafka: Mapping[str, Any]) -> None:
        self._admin = AdminClient(_of_consumers(kafka))
        self._consumer = _consumer(kafka)

    def places(self, topics: Iterable[str]) -> list[Place]:
        """All partitions of the topics that are there."""
        known = self._admin.list_topics(timeout=_ANSWER_WITHIN_S).topics
        return [(topic, i) for topic in topics if topic in known for i in known[topic].partitions]

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """The offset after the last record of each partition."""
        return {
            place: self._consumer.get_watermark_offsets(
                TopicPartition(*place), timeout=_ANSWER_WITHIN_S
            )[1]
            for place in places
        }

    def lag(self, group: str, ends: Mapping[Place, int]) -> dict[Place, int]:
        """Records before the ends that the group has not committed; none where it never did."""
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(*place) for place in ends])
        answers = self._admin.list_consumer_group_offsets([asked], request_timeout=_ANSWER_WITHIN_S)
        # librdkafka gives up in time; a deadline of ours could pass first, with another error.
        committed = answers[group].result().topic_partitions
        return {
            (place.topic, place.partition): max(
                0, ends[place.topic, place.partition] - place.offset
            )
            for place in committed
            if place.offset >= 0
        }

    def newest(self, ends: Mapping[Place, int]) -> list[Message]:
        """The last records before the ends, some of each partition."""
        start = [TopicPartition(*place, max(0, end - _SAMPLE)) for place, end in ends.items()]
        self._consumer.assign(start)
        found, unread = [], set(ends)
        deadline = time.monotonic() + _ANSWER_WITHIN_S
        while unread and time.monotonic() < deadline:
            for message in self._consumer.consume(_SAMPLE, 0.2):
                is_record, place = _is_record(message), _place(message)
                if is_record:
                    found.append(message)
                # Words about the connection belong to no partition.
                if place in ends and (message.offset() or 0) + is_record >= ends[place]:
                    unread.discard(place)
        self._consumer.unassign()
        return found


class Exporter(Collector):
    """Keeps the picture current in one thread and shows it in those of the web server."""

    def __init__(self, kafka: Mapping[str, Any], config: Config, machines_file: Path) -> None:
        self._kafka = kafka
        self._config = config
        self._machines_file = machines_file
        self._picture = Picture(config.machines)
        self._picture.readings.update(dict.fromkeys(config.telemetry.values(), 0))
        self._lock = threading.Lock()
        self._follower = Follower(kafka)
        self._ends = Ends(kafka)
        self._growth = Growth()
        self._due = 0.0
        self._trouble: dict[str, str] = {}

    def collect(self) -> Iterable[Metric]:
        with self._lock:
            return list(self._picture.metrics())

    def step(self) -> None:
        """Take what came; now and then, look at the ends of topics. To be called for ever."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _LOOK_EVERY_S
            try:
                self._look()
                self._tell("looking", "")
            except KafkaException as error:
                # All else has its time stamp, but an old lag would look new.
                with self._lock:
                    self._picture.lag = {}
                # librdkafka's admin client was seen to get no answer about a group for minutes
                # after its coordinator had been away, while a new client got one at once.
                self._ends = Ends(self._kafka)
                self._tell("looking", str(error))
        try:
            records = self._follower.read(0.5)
            self._tell("reading", "")
        except KafkaException as error:
            # Brokers come and go, and the follower goes on where it was.
            self._tell("reading", str(error))
            return
        with self._lock:
            for message, counted in records:
                self._picture.add(message, counted=counted)

    def _look(self) -> None:
        machines = json.loads(self._machines_file.read_text("utf-8"))
        with self._lock:
            self._picture.declare(machines)
            self._picture.forget(time.time_ns() // 1_000_000)
        telemetry, groups = self._config.telemetry, self._config.groups
        self._follower.follow(self._ends.places(FOLLOWED))
        ends = self._ends.ends(self._ends.places({*telemetry, *groups.values()}))
        lag = {}
        for group, topic in groups.items():
            of_topic = {place: end for place, end in ends.items() if place[0] == topic}
            for place, behind in self._ends.lag(group, of_topic).items():
                lag[group, *place] = behind
        appended = self._growth.step({p: end for p, end in ends.items() if p[0] in telemetry})
        sample = self._ends.newest({place: ends[place] for place in appended})
        with self._lock:
            self._picture.lag = lag
            for (topic, _), count in appended.items():
                self._picture.readings[telemetry[topic]] += count
            for message in sample:
                machine_type = telemetry[_place(message)[0]]
                channels = self._config.machine_types[machine_type]
                self._picture.sample(machine_type, channels, message)

    def _tell(self, doing: str, trouble: str) -> None:
        if trouble != self._trouble.get(doing, ""):
            print(f"{doing}: {trouble or 'works again'}", file=sys.stderr, flush=True)
        self._trouble[doing] = trouble


def _is_record(message: Message) -> bool:
    """Whether it is a record and not a word about the connection. Raises KafkaException."""
    error = message.error()
    if error is None:
        return True
    if error.code() == KafkaError._PARTITION_EOF or error.retriable():
        return False
    raise KafkaException(error)


def _place(message: Message) -> Place:
    return message.topic() or "", message.partition() or 0


def _of_consumers(kafka: Mapping[str, Any]) -> dict[str, Any]:
    """Client settings without those that only producers have."""
    return {key: value for key, value in kafka.items() if key not in contracts.PRODUCER_DEFAULTS}


def _consumer(kafka: Mapping[str, Any]) -> Consumer:
    return Consumer(
        {
            **_of_consumers(kafka),
            # assign() needs a group's name but never joins it.
            "group.id": "plantline-exporter",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "queued.max.messages.kbytes": 8192,
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kafka", type=Path, required=True, help="JSON object of client settings")
    parser.add_argument("--machines", type=Path, required=True, help="JSON list of registrations")
    parser.add_argument("--config", type=Path, required=True, help="JSON object, see Config")
    options = parser.parse_args()
    config = Config.load(options.config)
    exporter = Exporter(json.loads(options.kafka.read_text("utf-8")), config, options.machines)
    REGISTRY.register(exporter)
    start_http_server(
        config.port,
        config.address,
        certfile=config.certificate,
        keyfile=config.key,
        client_cafile=config.ca,
        client_auth_required=True,
    )
    while True:
        exporter.step()


if __name__ == "__main__":
    main()
