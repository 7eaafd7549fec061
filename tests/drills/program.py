"""A program of the plant that never pauses: it sends readings, and reads them again."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from flink_jobs import contracts
from flink_jobs.plant import MachineType

INTERVAL_S = 0.1
STARTED_WITHIN_S = 30.0
# Later than librdkafka gives up a record.
DELIVERED_WITHIN_S = 330.0
READ_WITHIN_S = 60.0

# Machine and time of a reading.
Key = tuple[str, int]
Login = Callable[[], dict[str, Any]]


class Program:
    """Ten readings a second of each of its machines, from entering it until it is to finish.

    login: librdkafka's settings of who it is and whom it trusts. Where they change, it goes on with
    new connections, as a service does that is restarted for another password or CA.
    """

    def __init__(self, login: Login, kind: MachineType, machines: int = 12) -> None:
        self.machines = {f"drill-{time.time_ns() // 10**9}-{n}" for n in range(machines)}
        # With the moment at which it came to know.
        self.acknowledged: list[tuple[Key, float]] = []
        self.read: list[tuple[Key, float]] = []
        self.errors: list[str] = []
        self._login = login
        self._topic = contracts.telemetry_topic(kind.name)
        self._values: dict[str, float | None] = {
            one.name: (one.valid_min + one.valid_max) / 2 for one in kind.channels
        }
        self._reading, self._sent, self._finished = (threading.Event() for _ in range(3))
        self._reader, self._writer = (
            threading.Thread(target=self._keep, args=[what]) for what in (self._read, self._write)
        )

    def __enter__(self) -> Program:
        self._reader.start()
        self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._sent.set()
        self._writer.join()
        self._finished.set()
        self._reader.join()

    def finish(self) -> None:
        """Sends no more; returns when all that is acknowledged is read, or does not come."""
        self._sent.set()
        self._writer.join()
        deadline = time.monotonic() + READ_WITHIN_S
        while len(self.read) < len(self.acknowledged) and time.monotonic() < deadline:
            time.sleep(INTERVAL_S)  # between two looks
        self._finished.set()
        self._reader.join()

    def _keep(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Exception as error:
            self.errors.append(str(error))

    def _write(self) -> None:
        assert self._reading.wait(STARTED_WITHIN_S), "nobody reads"
        login = self._login()
        producer = self._producer(login)
        while not self._sent.is_set():
            if (now := self._login()) != login:
                producer.flush(DELIVERED_WITHIN_S)
                login, producer = now, self._producer(now)
            ts = time.time_ns() // 10**6
            for machine in self.machines:
                reading = contracts.Reading(machine, ts, self._values)
                producer.produce(
                    self._topic,
                    contracts.encode_reading(reading),
                    machine.encode(),
                    on_delivery=partial(self._delivered, (machine, ts)),
                )
            until = time.monotonic() + INTERVAL_S
            while (left := until - time.monotonic()) > 0:
                producer.poll(left)
        assert not producer.flush(DELIVERED_WITHIN_S), "not all was delivered in time"

    def _producer(self, login: dict[str, Any]) -> Producer:
        return Producer({**contracts.PRODUCER_DEFAULTS, **login, "log_level": 0})

    def _delivered(self, key: Key, error: KafkaError | None, _: Message) -> None:
        if error is None:
            self.acknowledged.append((key, time.monotonic()))
        else:
            self.errors.append(f"{key}: {error.str()}")

    def _read(self) -> None:
        login = self._login()
        consumer = self._consumer(login)
        offsets = {}
        for partition in (
            consumer.list_topics(self._topic, STARTED_WITHIN_S).topics[self._topic].partitions
        ):
            place = TopicPartition(self._topic, partition)
            offsets[partition] = consumer.get_watermark_offsets(place, STARTED_WITHIN_S)[1]
        self._assign(consumer, offsets)
        self._reading.set()
        while not self._finished.is_set():
            if (now := self._login()) != login:
                consumer.close()
                login, consumer = now, self._consumer(now)
                self._assign(consumer, offsets)
            for message in consumer.consume(1000, INTERVAL_S):
                if (error := message.error()) is not None:
                    if not error.retriable():
                        self.errors.append(error.str())
                    continue
                offsets[message.partition()] = message.offset() + 1
                if (message.key() or b"").decode() in self.machines:
                    reading = orjson.loads(message.value() or b"{}")
                    key = (reading["machine_id"], reading["ts"])
                    self.read.append((key, time.monotonic()))
        consumer.close()

    def _consumer(self, login: dict[str, Any]) -> Consumer:
        return Consumer(
            {
                **login,
                # librdkafka asks for the group's coordinator, and a program may name its own group.
                "group.id": login["sasl.username"],
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "log_level": 0,
            }
        )

    def _assign(self, consumer: Consumer, offsets: dict[int, int]) -> None:
        consumer.assign([TopicPartition(self._topic, p, at) for p, at in offsets.items()])


@dataclass(frozen=True)
class Account:
    """Readings that were acknowledged, and what became of them; the longest waits in seconds."""

    acknowledged: int
    lost: int
    doubled: int
    unread: int
    read_again: int
    acknowledged_gap_s: float
    read_gap_s: float

    @property
    def exact(self) -> bool:
        return not (self.lost or self.doubled or self.unread or self.read_again)

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, {self.lost} lost, {self.doubled} doubled, "
            f"{self.unread} not read, {self.read_again} read again; of a machine at most "
            f"{self.acknowledged_gap_s:.1f} s between acknowledgements, "
            f"{self.read_gap_s:.1f} s between readings that were read"
        )


def account(program: Program, kept: Iterable[Key]) -> Account:
    """Compares what was acknowledged with what was read, and with what the topic has kept."""
    sent = {key for key, _ in program.acknowledged}
    stored, read = Counter(kept), Counter(key for key, _ in program.read)
    return Account(
        acknowledged=len(sent),
        lost=len(sent - stored.keys()),
        doubled=sum(n - 1 for n in stored.values()),
        unread=len(sent - read.keys()),
        read_again=sum(n - 1 for n in read.values()),
        acknowledged_gap_s=longest_gap(program.acknowledged),
        read_gap_s=longest_gap(program.read),
    )


def longest_gap(seen: Iterable[tuple[Key, float]]) -> float:
    """The longest time in which a machine was not heard of, in seconds."""
    times = defaultdict(list)
    for (machine, _), at in seen:
        times[machine].append(at)
    return max(b - a for one in times.values() for a, b in pairwise(sorted(one)))
