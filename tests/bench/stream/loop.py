"""The yardstick: the anomaly job as a loop written by hand around librdkafka, orjson and numpy.

    .venv-bench/bin/python -m tests.bench.stream.loop SETTINGS.json

Python's own work is done per batch of records, never per reading, wherever the libraries allow it:
they are decoded, checked and put into columns by functions that run in C, windows are columns of
numpy arrays, and all windows that end together go through the model in one call. It does what the
job does, but for repairs, limits and alerts. Other than the job's, its state is nowhere but in
memory: a crash loses open windows and references. One that keeps them would be slower.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from numpy.typing import NDArray

from flink_jobs import contracts
from flink_jobs.commissioning import FIELDS, references
from flink_jobs.features import feature_names, windows_features
from flink_jobs.model import Detector
from flink_jobs.windows import Windows

BATCH = 10_000
TOP_CHANNELS = 3
CLOCK = 0  # the number of `_clock` among the machines

_WAIT_S = 0.05
_FIRST_ROOM = 1024

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class LoopError(Exception):
    """Kafka did not take or give what it should have; the message says why."""


@dataclass(frozen=True, eq=False)
class Refused:
    """A record that is no good reading: where it is in its batch, and why."""

    place: int
    reason: str
    detail: str


@dataclass(frozen=True, eq=False)
class Scored:
    """B windows that end together.

    machines int64 (B,), numbers as in Stream.names; readings int64 (B,); score (B,), NaN for a
    machine without a reference; shares (B, C).
    """

    end: int
    machines: Integers
    readings: Integers
    score: Floats
    shares: Floats


class _Numbers(dict[str, int]):
    """Numbers machines in the order in which they come."""

    def __missing__(self, machine_id: str) -> int:
        if not 0 < len(machine_id) <= contracts.MAX_ID_LENGTH:
            raise ValueError(machine_id)
        self[machine_id] = number = len(self)
        return number


class Stream:
    """Windows and references of the machines of some partitions; windows do not overlap."""

    def __init__(
        self, job: Mapping[str, Any], detector: Detector, partitions: Sequence[int]
    ) -> None:
        """`job` is the job's configuration (docs/reference/job-config.md).

        Raises LoopError for what the loop cannot do: overlapping windows, other features.
        """
        self._channels = [channel["name"] for channel in job["channels"]]
        self._valid = {c["name"]: (c["valid_min"], c["valid_max"]) for c in job["channels"]}
        if job["window_s"] != job["slide_s"]:
            raise LoopError("windows that overlap are not what the loop was written for")
        if detector.features.names != feature_names(self._channels):
            raise LoopError(f"the model wants other features: {detector.features.names}")
        self._detector = detector
        self._window_ms = 1000 * int(job["window_s"])
        self._disorder_ms = int(1000 * job["max_disorder_s"])
        self._ahead_ms = int(1000 * job["max_clock_ahead_s"])
        self._commissioning = int(job["commissioning_readings"])
        self._fields = itemgetter("machine_id", "ts", "seq", *self._channels)
        self._numbers = _Numbers({contracts.CLOCK: CLOCK})
        # The newest ts of each partition: event time follows the slowest one.
        self._newest = dict.fromkeys(partitions, 0)
        # Window -> columns (machine, ts, channels…) of each batch, not sorted yet.
        self._open: dict[int, list[tuple[NDArray[Any], ...]]] = {}
        self._references = np.full((_FIRST_ROOM, len(FIELDS) * len(self._channels)), np.nan)
        self._is_known = np.zeros(_FIRST_ROOM, dtype=np.bool_)
        # The first readings of machines that have no reference yet.
        self._first: dict[int, list[tuple[Integers, Floats]]] = {}

    @property
    def names(self) -> list[str]:
        """The machines by their numbers."""
        return list(self._numbers)

    @property
    def watermark(self) -> int:
        """Event time: no reading up to it is waited for any more, epoch ms."""
        return min(self._newest.values()) - self._disorder_ms

    def add(self, values: Sequence[bytes], partitions: Integers, now_ms: int) -> list[Refused]:
        """Takes a batch of records: their values, and the partitions (n,) that they are from."""
        columns, refused = self._decode(values, now_ms)
        if refused:
            bad = [one.place for one in refused]
            partitions = np.delete(partitions, bad)
        machine, ts, *_ = columns
        is_late = ts <= self.watermark
        if is_late.any() and (machine[is_late] != CLOCK).any():
            # Rare, so that it may take its time: places of the good ones in the batch.
            places = np.delete(np.arange(len(values)), [one.place for one in refused])
            late = np.flatnonzero(is_late & (machine != CLOCK))
            refused += [Refused(int(places[row]), "late", "behind event time") for row in late]
            columns = tuple(np.delete(column, late) for column in columns)
            partitions = np.delete(partitions, late)
            machine, ts, *_ = columns
        for partition in self._newest:
            mine = ts[partitions == partition]
            if len(mine):
                self._newest[partition] = max(self._newest[partition], int(mine.max()))
        is_clock = machine == CLOCK
        if is_clock.any():
            columns = tuple(column[~is_clock] for column in columns)
            machine, ts, *_ = columns
        windows = ts // self._window_ms
        if len(windows) and windows.min() == windows.max():
            self._open.setdefault(int(windows[0]), []).append(columns)
        else:
            for window in np.unique(windows):
                inside = windows == window
                part = tuple(column[inside] for column in columns)
                self._open.setdefault(int(window), []).append(part)
        return refused

    def due(self) -> Iterator[Scored]:
        """The windows that event time has passed, scored, by time."""
        watermark = self.watermark
        for window in sorted(self._open):
            end = (window + 1) * self._window_ms
            if end - 1 > watermark:
                return
            yield self._score(end, self._open.pop(window))

    def _decode(
        self, values: Sequence[bytes], now_ms: int
    ) -> tuple[tuple[NDArray[Any], ...], list[Refused]]:
        """Columns (machine, ts, channels…) of the good readings, and the others.

        A batch in which all is as usual is checked as a whole; any other one record by record.
        """
        try:
            rows = map(self._fields, map(orjson.loads, values))
            ids, ts, seq, *channels = zip(*rows, strict=True)
            if {str} == set(map(type, ids)) and {int} == set(map(type, ts)) == set(map(type, seq)):
                columns = self._columns(ids, ts, channels, now_ms)
                if columns is not None:
                    return columns, []
        except (ValueError, TypeError, KeyError, OverflowError):
            pass  # whatever it is, the contract's own decoder will name it
        return self._decode_one_by_one(values, now_ms)

    def _columns(
        self, ids: Sequence[str], ts: Sequence[int], channels: Sequence[Sequence[Any]], now_ms: int
    ) -> tuple[NDArray[Any], ...] | None:
        """None if anything is not as usual."""
        numbers = np.fromiter(map(self._numbers.__getitem__, ids), np.int64, len(ids))
        times = np.array(ts, dtype=np.int64)
        if times.min() < 0 or times.max() > now_ms + self._ahead_ms:
            return None
        columns = []
        for values, (low, high) in zip(channels, self._valid.values(), strict=True):
            if not set(map(type, values)) <= {float, int}:
                return None
            column = np.array(values, dtype=np.float64)
            if column.min() < low or column.max() > high:
                return None
            columns.append(column)
        return numbers, times, *columns

    def _decode_one_by_one(
        self, values: Sequence[bytes], now_ms: int
    ) -> tuple[tuple[NDArray[Any], ...], list[Refused]]:
        good, refused = [], []
        for place, value in enumerate(values):
            try:
                reading = contracts.parse_reading(value or b"", self._channels, self._valid)
            except contracts.ContractError as error:
                refused.append(Refused(place, error.reason, error.detail))
                continue
            if reading.ts > now_ms + self._ahead_ms:
                refused.append(Refused(place, "clock_ahead", "ts is ahead of its arrival"))
                continue
            good.append((self._numbers[reading.machine_id], reading.ts, *reading.values.values()))
        if not good:
            return (
                np.empty(0, np.int64),
                np.empty(0, np.int64),
                *(np.empty(0) for _ in self._channels),
            ), refused
        numbers, times, *channels = zip(*good, strict=True)
        return (
            np.array(numbers, dtype=np.int64),
            np.array(times, dtype=np.int64),
            *(np.array(column, dtype=np.float64) for column in channels),  # None becomes NaN
        ), refused

    def _score(self, end: int, batches: list[tuple[NDArray[Any], ...]]) -> Scored:
        number, ts, *channels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        # By machine, then by time; of several readings with one ts the first that came.
        place = number * self._window_ms + (ts - (end - self._window_ms))
        order = np.argsort(place, kind="stable")
        order = order[np.diff(place[order], prepend=-1) > 0]
        number, ts = number[order], ts[order]
        values = np.stack([channel[order] for channel in channels], axis=1)
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        machines = number[starts]
        self._make_room(int(machines[-1]) + 1)
        self._commission(machines, ts, values, starts)

        score = np.full(len(machines), np.nan)
        shares = np.zeros((len(machines), len(self._channels)))
        known = self._is_known[machines]
        if known.any():
            features = windows_features(values, starts)[known]
            scores = self._detector.score(features, self._references[machines[known]])
            score[known], shares[known] = scores.score, scores.shares
        return Scored(end, machines, np.diff(starts, append=len(ts)), score, shares)

    def _commission(
        self, machines: Integers, ts: Integers, values: Floats, starts: NDArray[np.intp]
    ) -> None:
        """Gives a reference to machines whose first readings are in with these windows."""
        stops = np.append(starts[1:], len(ts))
        ready, windows = [], []
        for row in np.flatnonzero(~self._is_known[machines]):
            machine, part = int(machines[row]), slice(starts[row], stops[row])
            first = self._first.setdefault(machine, [])
            first.append((ts[part], values[part]))
            if sum(len(times) for times, _ in first) >= self._commissioning:
                ready.append(machine)
                windows.append(
                    [np.concatenate(one)[: self._commissioning] for one in zip(*first, strict=True)]
                )
                del self._first[machine]
        if ready:
            times, tables = (np.concatenate(one) for one in zip(*windows, strict=True))
            begins = self._commissioning * np.arange(len(ready))
            window_s = self._window_ms / 1000
            self._references[ready] = references(Windows(times, tables, begins), window_s, window_s)
            self._is_known[ready] = True

    def _make_room(self, machines: int) -> None:
        room = len(self._references)
        if machines > room:
            more = max(machines - room, room)
            self._references = np.pad(self._references, ((0, more), (0, 0)), constant_values=np.nan)
            self._is_known = np.pad(self._is_known, (0, more))


def predictions(
    scored: Scored, names: Sequence[str], job: Mapping[str, Any], detector: Detector
) -> Iterator[tuple[str, bytes]]:
    """(machine_id, prediction as JSON) of the windows, by the contract of topic `predictions`."""
    channels, dumps = detector.channels, orjson.dumps
    begin = scored.end - 1000 * int(job["window_s"])
    order = np.argsort(-scored.shares, axis=1, kind="stable")[:, :TOP_CHANNELS]
    rows = zip(
        scored.machines.tolist(),
        scored.readings.tolist(),
        scored.score.tolist(),
        order.tolist(),
        np.take_along_axis(scored.shares, order, axis=1).tolist(),
        strict=True,
    )
    for machine, readings, score, places, shares in rows:
        is_scored = score == score  # NaN equals nothing
        name = names[machine]
        yield (
            name,
            dumps(
                {
                    "machine_id": name,
                    "machine_type": job["machine_type"],
                    "window_start": begin,
                    "window_end": scored.end,
                    "kind": "anomaly",
                    "model": detector.name,
                    "model_version": detector.version,
                    "revision": 0,
                    "score": score if is_scored else None,
                    "threshold": detector.threshold if is_scored else None,
                    "is_alert": is_scored and score > detector.threshold,
                    "rul": None,
                    "rul_unit": None,
                    "horizon_s": None,
                    "readings": readings,
                    "top_channels": [
                        {"channel": channels[place], "share": share}
                        for place, share in zip(places, shares, strict=True)
                    ]
                    if is_scored
                    else [],
                }
            ),
        )


class Loop:
    """Reads its partitions, writes predictions; at least once, or in transactions."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings`: what Contestant writes (tests/bench/stream/contestants.py)."""
        self._settings = settings
        self._detector = Detector.load(Path(settings["model_file"]))
        partitions: list[int] = settings["partitions"]
        self._stream = Stream(settings["job"], self._detector, partitions)
        self._errors: list[str] = []
        self._consumer = Consumer(
            {
                **settings["kafka"],
                "group.id": settings["group"],
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "fetch.message.max.bytes": 4_194_304,
                "fetch.wait.max.ms": 50,
                # By default it pauses for a second when its queue is full.
                "fetch.queue.backoff.ms": 5,
            }
        )
        # Not subscribed: its windows are in this process, so its partitions have to stay here.
        topic = settings["job"]["telemetry_topic"]
        self._places = [TopicPartition(topic, partition) for partition in partitions]
        self._consumer.assign(self._places)
        self._transactional = settings["transactional_id"] is not None
        self._producer = Producer(
            {
                **settings["kafka"],
                "partitioner": contracts.PRODUCER_DEFAULTS["partitioner"],
                "enable.idempotence": True,
                "linger.ms": 5,
                "batch.size": 1_000_000,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 500_000,
                "delivery.report.only.error": True,
                "on_delivery": self._delivered,
                **(
                    {
                        "transactional.id": settings["transactional_id"],
                        # A hundred thousand machines that are commissioned at once take a minute.
                        "transaction.timeout.ms": 300_000,
                    }
                    if self._transactional
                    else {}
                ),
            }
        )
        if self._transactional:
            self._producer.init_transactions(60)
            self._producer.begin_transaction()

    def run(self, is_over: Callable[[], bool]) -> None:
        """Until `is_over`; raises LoopError or KafkaException."""
        commit_s = float(self._settings["commit_s"])
        due = time.monotonic() + commit_s
        while not is_over():
            messages = self._consumer.consume(BATCH, _WAIT_S)
            if messages:
                self._take(messages)
            self._producer.poll(0)
            if self._errors:
                raise LoopError(f"a prediction was not taken: {self._errors[0]}")
            if time.monotonic() >= due:
                self._commit()
                due = time.monotonic() + commit_s
        self._commit()
        self._consumer.close()

    def _take(self, messages: list[Message]) -> None:
        # A tombstone has none, and is refused as a value that is no JSON.
        values: list[Any] = list(map(Message.value, messages))
        partitions = np.fromiter(map(Message.partition, messages), np.int64, len(messages))
        for one in self._stream.add(values, partitions, time.time_ns() // 1_000_000):
            self._refuse(messages[one.place], one)
        output, names = self._settings["output"], None
        for scored in self._stream.due():
            names = names or self._stream.names
            for machine_id, value in predictions(
                scored, names, self._settings["job"], self._detector
            ):
                self._produce(output, value, machine_id.encode())

    def _refuse(self, message: Message, why: Refused) -> None:
        if (error := message.error()) is not None:
            if error.retriable():
                return
            raise KafkaException(error)
        place = f"kafka:{message.topic()}/{message.partition()}/{message.offset()}"
        self._produce(
            self._settings["refused"],
            message.value(),
            message.key(),
            [("dlq.source", place), ("dlq.reason", why.reason), ("dlq.detail", why.detail)],
        )

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers)
                return
            except BufferError:
                self._producer.poll(0.01)  # what is delivered makes room

    def _commit(self) -> None:
        reached = [place for place in self._consumer.position(self._places) if place.offset >= 0]
        if not self._transactional:
            if self._producer.flush(60):
                raise LoopError("predictions are not taken within a minute")
            if reached:
                self._consumer.commit(offsets=reached, asynchronous=True)
            return
        if reached:
            group = self._consumer.consumer_group_metadata()
            self._producer.send_offsets_to_transaction(reached, group)
        self._producer.commit_transaction(60)
        self._producer.begin_transaction()

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._errors.append(error.str())


def main() -> int:
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    # Nothing of a batch refers to itself: looking for cycles would only cost.
    gc.disable()
    Loop(settings).run(lambda: bool(asked))
    return 0


if __name__ == "__main__":
    sys.exit(main())
