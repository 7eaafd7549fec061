"""Keeps event time moving on telemetry partitions that have no machine to do so.

    python -m flink_jobs.clock --kafka /etc/plantline/clock/kafka.json \
        --config /etc/plantline/jobs/plantline-anomaly-pump.config.json …

A window closes when every partition of its topic has passed its end. Flink's own answer to a
partition without readings is to leave it out after a while, judged when records are *read*: after
an outage, or when a replay begins on a quiet topic, the partition that is read first moves event
time alone, and the backlog of the others is late and lost. So idleness is judged here when records
are *appended*, and written into the log: a partition without a reading for `idle_timeout_s` gets
readings of `_clock` that follow the others. Whenever the log is read, however unevenly, no
partition is ever left out, and a second reading gives the same windows.

Nothing is kept between two runs: all that is needed stands at the end of each partition. If this
process is missing, windows wait; nothing is lost.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from flink_jobs import contracts

# Looked at from the end of a partition: enough to see past readings that are out of order.
_TAIL = 16
_LOOK_EVERY_S = 1.0
_ANSWER_WITHIN_S = 10.0


@dataclass(frozen=True)
class Partition:
    """What the end of a partition tells. Times in epoch milliseconds, None where nothing is known.

    newest: the newest ts that can have moved event time, of machines and of `_clock`. appended:
    when the last such reading of a machine came. end: the offset after the last record.
    """

    newest: int | None = None
    appended: int | None = None
    end: int = 0


def ticks(
    partitions: Sequence[Partition], now: int, idle_ms: int, resumed: int = 0
) -> dict[int, int]:
    """The ts of `_clock` to append, by partition.

    Idle partitions follow the slowest of the others; where all are idle, all come to where the
    furthest one is. A partition that is already there gets nothing. resumed: when readings came
    again after a time in which the whole topic was quiet; before it nobody was idle.
    """

    def is_idle(p: Partition) -> bool:
        return now - max(p.appended or 0, resumed) > idle_ms

    active = [
        p.newest
        for p in partitions
        if p.newest is not None and p.appended is not None and now - p.appended <= idle_ms
    ]
    known = [p.newest for p in partitions if p.newest is not None]
    if not known:
        return {}
    target = min(active) if active else max(known)
    return {
        index: target
        for index, p in enumerate(partitions)
        if is_idle(p) and (p.newest is None or p.newest < target)
    }


def seen(before: Partition, record: Message, ahead_ms: int) -> Partition:
    """A partition after one more record.

    What is no reading of ours moves nothing, nor does one that the watermark passes over because
    it is too far ahead: a machine with a wrong clock must not keep its partition waiting.
    """
    appended = record.timestamp()[1]
    after = replace(before, end=max(before.end, (record.offset() or 0) + 1))
    try:
        reading = contracts.parse_reading(record.value() or b"", ())
    except contracts.ContractError:
        return after
    if reading.ts > appended + ahead_ms:
        return after
    after = replace(after, newest=max(reading.ts, before.newest or 0))
    if reading.machine_id == contracts.CLOCK:
        return after
    return replace(after, appended=max(appended, before.appended or 0))


def after_outage(before: Partition, away_ms: int, now: int) -> Partition:
    """A partition to which nothing could be appended for a while: that time is no idleness."""
    if before.appended is None:
        return before
    return replace(before, appended=max(before.appended, min(before.appended + away_ms, now)))


class TopicClock:
    """The clock of one telemetry topic."""

    def __init__(self, config: Mapping[str, Any], kafka: Mapping[str, Any]) -> None:
        """From a job's configuration (telemetry_topic, idle_timeout_s, max_clock_ahead_s).

        kafka: librdkafka's settings.
        """
        self.topic: str = config["telemetry_topic"]
        self._idle_ms = int(config["idle_timeout_s"] * 1000)
        self._ahead_ms = int(config["max_clock_ahead_s"] * 1000)
        self._producer = Producer(
            {
                **kafka,
                **contracts.PRODUCER_DEFAULTS,
                # One that waits for a broker would come before the readings that wait as well.
                "message.timeout.ms": int(_ANSWER_WITHIN_S * 1000),
            }
        )
        self._consumer = Consumer(
            {
                **kafka,
                "group.id": "plantline-clock",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
            }
        )
        self._partitions: list[Partition] = []
        self._answered: int | None = None
        self._failed = False
        self._resumed = 0

    def step(self, now: int) -> dict[int, int]:
        """Look at the topic once and append what is due; returns that. Raises KafkaException."""
        if self._answered is None:
            self._answered = now
        away_ms = now - self._answered if self._failed else 0
        self._failed = True
        first, before = not self._partitions, self._newest_append()
        self._look()
        self._answered = now
        # Machines that start together do not reach all partitions in the same moment.
        if not first and self._newest_append() - before > self._idle_ms:
            self._resumed = now
        self._partitions = [after_outage(p, away_ms, now) for p in self._partitions]
        due = ticks(self._partitions, now, self._idle_ms, self._resumed)
        self._append(due)
        self._failed = False
        return due

    def _newest_append(self) -> int:
        """When the last reading of a machine came to the topic; 0 before the first."""
        return max((p.appended or 0 for p in self._partitions), default=0)

    def _append(self, due: Mapping[int, int]) -> None:
        errors: list[KafkaError] = []

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                errors.append(error)

        for partition, ts in due.items():
            reading = contracts.Reading(contracts.CLOCK, ts, {})
            self._producer.produce(
                self.topic,
                contracts.encode_reading(reading),
                contracts.CLOCK.encode(),
                partition,
                on_delivery=delivered,
            )
        self._producer.flush()
        if errors:
            raise KafkaException(errors[0])

    def _look(self) -> None:
        """Read the ends of the partitions that have grown, all of them or KafkaException."""
        metadata = self._consumer.list_topics(self.topic, _ANSWER_WITHIN_S).topics[self.topic]
        if metadata.error:
            raise KafkaException(metadata.error)
        count = len(metadata.partitions)
        self._partitions = [*self._partitions, *[Partition()] * count][:count]
        grown = []
        for index in range(count):
            place = TopicPartition(self.topic, index)
            low, high = self._consumer.get_watermark_offsets(place, timeout=_ANSWER_WITHIN_S)
            if high < self._partitions[index].end:
                self._partitions[index] = Partition()  # the topic was made anew
            if high > self._partitions[index].end:
                place.offset = max(low, high - _TAIL, self._partitions[index].end)
                grown.append(place)
        self._consumer.assign(grown)
        unread = {place.partition for place in grown}
        deadline = time.monotonic() + _ANSWER_WITHIN_S
        while unread and time.monotonic() < deadline:
            for record in self._consumer.consume(_TAIL, 0.2):
                index, error = record.partition() or 0, record.error()
                if error is None:
                    self._partitions[index] = seen(self._partitions[index], record, self._ahead_ms)
                elif error.code() == KafkaError._PARTITION_EOF:
                    unread.discard(index)
                    # Offsets without a record (a transaction's marker) are seen, too.
                    end = max(self._partitions[index].end, record.offset() or 0)
                    self._partitions[index] = replace(self._partitions[index], end=end)
                elif not error.retriable():
                    raise KafkaException(error)
        if unread:
            # A partition of which something is unread would pass for an idle one.
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"unread: {sorted(unread)}"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kafka", type=Path, required=True, help="JSON object of client settings")
    parser.add_argument("--config", type=Path, nargs="+", required=True, help="jobs' configuration")
    options = parser.parse_args()
    kafka = json.loads(options.kafka.read_text("utf-8"))
    configs = [json.loads(file.read_text("utf-8")) for file in options.config]
    # Several jobs may read one topic; one clock is enough for it.
    clocks = [TopicClock(c, kafka) for c in {c["telemetry_topic"]: c for c in configs}.values()]
    while True:
        begin = time.monotonic()
        for clock in clocks:
            try:
                clock.step(time.time_ns() // 1_000_000)
            except KafkaException as error:
                # Brokers come and go; windows wait meanwhile.
                print(f"{clock.topic}: {error}", file=sys.stderr, flush=True)
        time.sleep(max(0.0, begin + _LOOK_EVERY_S - time.monotonic()))


if __name__ == "__main__":
    sys.exit(main())
