"""What a job emitted before it lost its state, as Kafka knows it.

A job that starts without state reads its topic from the beginning of what that has kept: machines
get their references as before, and windows that were open become whole. What it emitted in its
former life is left out this time (`Emitted`).

What that life began to write and did not commit is ended first: as long as a transaction is open,
nobody sees what is committed behind it, by whatever job. Flink would not find it. It tries its ids
from the first one on, up to one that brokers do not know, and they forget each that is not open.

At a checkpoint all tasks of a job have come to one event time, since barriers are aligned, and what
is committed is what a checkpoint holds. So each window up to the last end among the committed
predictions is there, and none behind it. Dead letters tell their offsets; what the group committed
tells of records that became none, but may be a checkpoint behind.

The answer is kept beside the state, for a job that goes on from a checkpoint which it took while it
was still reading again.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    Message,
    Producer,
    TopicPartition,
)

# OffsetSpec is documented there, and left out of what the module says it exports.
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from kafka import KafkaAdminClient
from kafka import errors as admin_errors

from flink_jobs import contracts
from flink_jobs.jobs.anomaly_sql import Emitted

Offsets = dict[int, int]  # by partition

# Longer than it takes to commit: a checkpoint's timeout, as often as one may fail (roles/flink).
_TRANSACTION_MS = 600_000
# How far back is looked at first for a prediction, and how many times further then.
_FIRST_SPAN_MS = 2 * _TRANSACTION_MS
_WIDER = 6

# What is said of a transaction of another job, by which deployment knows to start that one first.
OTHERS_FIRST = "the job that it belongs to ends it when it starts"

_ANSWER_WITHIN_S = 15.0
_COMMITTED_WITHIN_S = 30.0

# Settings of Kafka's Java client by their names in librdkafka.
_SAME = ("bootstrap.servers", "security.protocol", "sasl.mechanism")
_NAMES = dict(zip(_SAME, _SAME, strict=True)) | {"ssl.truststore.location": "ssl.ca.location"}
# What says how Java reads files. librdkafka's are PEM.
_OF_JAVA = re.compile(r"ssl\.truststore\.type|config\.providers.*")
_LOGIN = "sasl.jaas.config"
# Settings of librdkafka by their names in kafka-python, which knows what librdkafka cannot ask.
_ADMIN_NAMES = {
    "bootstrap.servers": "bootstrap_servers",
    "security.protocol": "security_protocol",
    "ssl.ca.location": "ssl_cafile",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
}
_IN_FILE = re.compile(r"\$\{file:(?P<file>[^:}]+):(?P<key>[^}]+)\}")
_IN_JAAS = re.compile(r'(username|password)="([^"]*)"')


class ResumeError(RuntimeError):
    """What was emitted cannot be found; the message says why."""


def find(config: Mapping[str, Any], now: int, tell: Callable[[str], None]) -> Emitted:
    """What the job of a configuration has emitted so far; it must not be running.

    Ends what the job left open. now: epoch milliseconds. tell: takes what a person is to know, as
    soon as it is done: who fails and tries again finds nothing open any more. Raises ResumeError or
    KafkaException where Kafka does not tell, also because others have not ended what they wrote.
    """
    login = client_settings(config["kafka"])
    if ended := end_transactions(login, config["job_name"]):
        tell(f"transactions that were left open and are aborted now: {ended}")
    telemetry, predictions, dlq = (
        Topic(login, config["job_name"], name)
        for name in (config["telemetry_topic"], contracts.PREDICTIONS, contracts.DLQ)
    )
    for topic in (predictions, dlq):
        topic.settle()
    committed = telemetry.committed()
    # Dead letters of what comes behind the committed offsets were made after that had come.
    behind = (record.timestamp()[1] for record in telemetry.first(committed))
    since = min(behind, default=now) - _TRANSACTION_MS
    letters = dlq.read(dlq.since(since))
    emitted = Emitted(
        newest_window_end(predictions, config["machine_type"], now),
        first_offsets(committed, letters, telemetry.name),
    )
    end = datetime.fromtimestamp(emitted.window_end / 1000, UTC)
    tell(
        f"windows up to {end:%Y-%m-%dT%H:%M:%SZ} are not emitted again"
        if emitted.window_end
        else "nothing was emitted before"
    )
    return emitted


def end_transactions(login: Mapping[str, Any], job_name: str) -> int:
    """End what the sinks of a job left open, uncommitted; how many transactions it was.

    login: librdkafka's settings. Raises ResumeError or KafkaException where that cannot be done.
    """
    settings = {_ADMIN_NAMES[key]: value for key, value in login.items()}
    settings["bootstrap_timeout_ms"] = int(_ANSWER_WITHIN_S * 1000)
    try:
        with closing(KafkaAdminClient(**settings)) as admin:
            left_open = open_transactions(admin, job_name)
    except admin_errors.KafkaError as error:
        raise ResumeError(f"Kafka does not tell which transactions are open: {error}") from error
    for transactional_id in left_open:
        # Brokers abort what is open under an id when somebody comes in by it.
        producer = Producer({**login, "transactional.id": transactional_id})
        producer.init_transactions(_ANSWER_WITHIN_S)
    return len(left_open)


def open_transactions(admin: KafkaAdminClient, job_name: str) -> list[str]:
    """The ids of a job's transactions whose end nobody has asked for yet.

    Flink's ids are `<prefix>-<subtask>-<checkpoint>`; the prefixes stand in anomaly.sql.j2.
    """
    of_the_job = re.compile(rf"{re.escape(job_name)}(-dlq)?-\d+-\d+")
    by_broker = admin.list_transactions(state_filters=["Ongoing"])
    ids = (one.transactional_id for listed in by_broker.values() for one in listed)
    return sorted(filter(of_the_job.fullmatch, ids))


def newest_window_end(predictions: Topic, machine_type: str, now: int) -> int:
    """The last window_end (epoch ms) of the type's anomaly predictions, 0 where there are none.

    Looks back from now until it has seen all that can have been committed together with the newest
    of them: tasks write the windows of one checkpoint in no common order.
    """
    span = _FIRST_SPAN_MS
    while True:
        since = max(now - span, 0)
        starts = predictions.since(since)
        newest = last_end = 0
        for record in predictions.read(starts):
            end = _window_end(record.value() or b"", machine_type)
            if end is not None:
                newest, last_end = max(newest, record.timestamp()[1]), max(last_end, end)
        if newest - since >= _TRANSACTION_MS or starts == predictions.begins:
            return last_end
        span *= _WIDER


def first_offsets(committed: Offsets, letters: Iterable[Message], topic: str) -> Offsets:
    """The first offset of each partition of which no dead letter was made, nor will be."""
    source_of_ours = re.compile(rb"kafka:%s/(\d+)/(\d+)" % re.escape(topic.encode()))
    firsts = dict(committed)
    for letter in letters:
        source = dict(letter.headers() or []).get("dlq.source")
        if isinstance(source, bytes) and (place := source_of_ours.fullmatch(source)):
            partition, offset = map(int, place.groups())
            firsts[partition] = max(firsts.get(partition, 0), offset + 1)
    return firsts


def client_settings(kafka: Mapping[str, str]) -> dict[str, Any]:
    """librdkafka's settings for those of Kafka's Java client, as jobs have them.

    The password comes from the file that they name. Raises ResumeError for what they say that
    cannot be said to librdkafka, and where the file does not give a login.
    """
    settings = {}
    for key, value in kafka.items():
        if key in _NAMES:
            settings[_NAMES[key]] = value
        elif key == _LOGIN:
            settings |= {f"sasl.{name}": text for name, text in _login(value).items()}
        elif not _OF_JAVA.fullmatch(key):
            raise ResumeError(f"librdkafka has no setting for {key}")
    return settings


def load(file: Path) -> Emitted:
    """What `save` has kept; nothing where it never did."""
    if not file.exists():
        return Emitted()
    kept = json.loads(file.read_text("utf-8"))
    offsets = {int(partition): offset for partition, offset in kept["offsets"].items()}
    return Emitted(kept["window_end"], offsets)


def save(file: Path, emitted: Emitted) -> None:
    """Keep it; the file is there complete or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    written = file.with_suffix(".new")
    written.write_text(json.dumps(asdict(emitted)) + "\n", "utf-8")
    written.replace(file)


def _window_end(value: bytes, machine_type: str) -> int | None:
    """That of a prediction by the type's anomaly job; None for any other record."""
    try:
        record = orjson.loads(value)
        ours = (machine_type, "anomaly", 0)
        if (record["machine_type"], record["kind"], record["revision"]) != ours:
            return None
        return int(record["window_end"])
    except (ValueError, KeyError, TypeError):
        return None


def _login(value: str) -> dict[str, str]:
    """Username and password of a JAAS configuration that stands in a properties file."""
    place = _IN_FILE.fullmatch(value)
    if not place:
        raise ResumeError(f"{_LOGIN} names no file")
    lines = Path(place["file"]).read_text("utf-8").splitlines()
    entries = dict(line.partition("=")[::2] for line in lines)
    login = dict(_IN_JAAS.findall(entries.get(place["key"], "")))
    if set(login) != {"username", "password"}:
        raise ResumeError(f"{place['file']}: {place['key']} gives no username and password")
    return login


class Topic:
    """The committed records of a topic, up to the ends that it has as this is made.

    begins, ends: by partition, the offset of the first record and that after the last, or where
    the first open transaction begins: nobody is shown what is behind that.
    """

    def __init__(self, login: Mapping[str, Any], group: str, name: str) -> None:
        """login: librdkafka's settings to come in. Raises ResumeError where there is no topic."""
        self.name = name
        self._admin = AdminClient(dict(login))
        self._reading = {
            **login,
            "group.id": group,  # whose offsets are asked for; nobody joins it
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
        topics = self._admin.list_topics(timeout=_ANSWER_WITHIN_S).topics
        if name not in topics:
            raise ResumeError(f"there is no topic {name}, or the job may not read it")
        self._partitions = list(topics[name].partitions)
        self.begins = self._offsets(OffsetSpec.earliest())
        self.ends = self._committed_ends()

    def settle(self) -> None:
        """Move the ends behind all that is there now, once it is committed or aborted.

        Raises ResumeError where something stays open.
        """
        written = self._offsets(OffsetSpec.latest())
        deadline = time.monotonic() + _COMMITTED_WITHIN_S
        while held := [p for p in written if self.ends[p] < written[p]]:
            if time.monotonic() > deadline:
                places = ", ".join(f"{self.name}/{p}/{self.ends[p]}" for p in held)
                raise ResumeError(
                    f"at {places} (topic/partition/offset) begins a transaction that stays open,"
                    f" and hides what is committed behind it; {OTHERS_FIRST}. If it is nobody's any"
                    f" more: kafka-transactions.sh abort --topic {self.name} --partition PARTITION"
                    " --start-offset OFFSET"
                )
            time.sleep(0.2)  # until other jobs' checkpoints, which are some seconds apart
            self.ends = self._committed_ends()

    def committed(self) -> Offsets:
        """Where the group would go on; at the beginning where it has never been."""
        places = [TopicPartition(self.name, partition) for partition in self._partitions]
        with closing(Consumer(self._reading)) as consumer:
            found = {p.partition: p.offset for p in consumer.committed(places, _ANSWER_WITHIN_S)}
        # Others were never committed, are no longer there, or are of a topic that was made anew.
        valid = {p: found[p] for p in found if self.begins[p] <= found[p] <= self.ends[p]}
        return self.begins | valid

    def since(self, time_ms: int) -> Offsets:
        """The first offsets appended at a time or later; from 0 on all are, whatever they say."""
        if time_ms <= 0:
            return self.begins
        # Also such as are not committed: they do not hide those that are.
        found = self._offsets(OffsetSpec.for_timestamp(time_ms))
        return {p: self.ends[p] if offset < 0 else offset for p, offset in found.items()}

    def first(self, starts: Offsets) -> Iterator[Message]:
        """One record of each partition that has any from `starts` on, or more."""
        ends = {p: min(self.ends[p], start + 1) for p, start in starts.items()}
        return self._read(starts, ends)

    def read(self, starts: Offsets) -> Iterator[Message]:
        """The records from `starts` on. Raises ResumeError where they cease to come."""
        return self._read(starts, self.ends)

    def _committed_ends(self) -> Offsets:
        return self._offsets(OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)

    def _offsets(
        self, spec: OffsetSpec, isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> Offsets:
        asked = {TopicPartition(self.name, partition): spec for partition in self._partitions}
        answers = self._admin.list_offsets(
            asked, isolation_level=isolation, request_timeout=_ANSWER_WITHIN_S
        )
        return {place.partition: answer.result().offset for place, answer in answers.items()}

    def _read(self, starts: Offsets, ends: Offsets) -> Iterator[Message]:
        waiting = {partition for partition, start in starts.items() if start < ends[partition]}
        with closing(Consumer(self._reading)) as consumer:
            consumer.assign([TopicPartition(self.name, p, starts[p]) for p in waiting])
            deadline = time.monotonic() + _ANSWER_WITHIN_S
            while waiting:
                if time.monotonic() > deadline:
                    raise ResumeError(f"topic {self.name}: partitions {sorted(waiting)} are silent")
                for record in consumer.consume(10_000, 0.2):
                    deadline = time.monotonic() + _ANSWER_WITHIN_S
                    error, partition = record.error(), record.partition() or 0
                    reached = record.offset() or 0
                    if error is None:
                        yield record
                        reached += 1
                    elif error.code() != KafkaError._PARTITION_EOF:
                        if error.retriable():
                            continue
                        raise ResumeError(f"topic {self.name}: {error.str()}")
                    if reached >= ends[partition]:
                        waiting.discard(partition)
