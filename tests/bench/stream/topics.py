"""What the bench does with topics and consumer groups, as Kafka's operator."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # not in its __all__

from flink_jobs.contracts import PRODUCER_DEFAULTS
from flink_jobs.tools.kafka import Config
from tests.bench.stream.host import BenchError

_ANSWER_WITHIN_S = 30.0
# A member that was killed is in its group until its session ends.
_EMPTY_WITHIN_S = 90.0


class Topics:
    """Of one Kafka; its methods raise KafkaException."""

    def __init__(self, config: Config) -> None:
        self._admin = AdminClient(
            {key: value for key, value in config.items() if key not in PRODUCER_DEFAULTS}
        )

    def ends(
        self, topic: str, isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[int, int]:
        """The offsets behind the last records, by partition, by default uncommitted ones too."""
        latest = OffsetSpec.latest()
        asked = dict.fromkeys(self._places(topic), latest)
        found = self._admin.list_offsets(
            asked, isolation_level=isolation, request_timeout=_ANSWER_WITHIN_S
        )
        return {place.partition: _result(one).offset for place, one in found.items()}

    def empty(self, topic: str) -> None:
        """Deletes all records that the topic holds now."""
        before = [TopicPartition(topic, p, end) for p, end in self.ends(topic).items()]
        for one in self._admin.delete_records(before).values():
            _result(one)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """How far a group has come, by partition; less than 0 where it has said nothing yet."""
        asked = ConsumerGroupTopicPartitions(group, self._places(topic))
        [found] = self._admin.list_consumer_group_offsets([asked]).values()
        return {place.partition: place.offset for place in _result(found).topic_partitions}

    def forget(self, group: str) -> None:
        """Removes a group, whose members have left or are about to, and what it committed."""
        deadline = time.monotonic() + _EMPTY_WITHIN_S
        while True:
            [deletion] = self._admin.delete_consumer_groups([group]).values()
            try:
                _result(deletion)
                return
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.GROUP_ID_NOT_FOUND:
                    return
                if code != KafkaError.NON_EMPTY_GROUP or time.monotonic() > deadline:
                    raise
                time.sleep(1)  # between two attempts

    def remove(self, prefix: str) -> None:
        """Deletes the topics whose names begin like this."""
        known = self._admin.list_topics(timeout=_ANSWER_WITHIN_S).topics
        names = [name for name in known if name.startswith(prefix)]
        if names:
            for one in self._admin.delete_topics(names).values():
                _result(one)

    def _places(self, topic: str) -> list[TopicPartition]:
        metadata = self._admin.list_topics(topic, timeout=_ANSWER_WITHIN_S).topics[topic]
        if metadata.error is not None:
            raise BenchError(f"topic {topic}: {metadata.error.str()}; did site.yml run?")
        return [TopicPartition(topic, partition) for partition in metadata.partitions]


def _result(future: Future[Any]) -> Any:
    return future.result(_ANSWER_WITHIN_S)
