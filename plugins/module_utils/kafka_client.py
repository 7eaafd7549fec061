"""Reads a Kafka cluster for the modules; the only place that talks to Kafka through kafka-python.

kafka-python is not part of the host's Python: tasks put the depot's wheel on PYTHONPATH.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ansible.module_utils.kafka_roller import Cluster, Partition

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

POLL_S = 0.5
CONNECT_S = 5.0
Answer = TypeVar("Answer")


class NotAnsweringError(Exception):
    """No broker answered, or the client is not installed; says which."""


@contextmanager
def admin(bootstrap_servers: str) -> Iterator[KafkaAdminClient]:
    """A connected admin client; raises NotAnsweringError."""
    try:
        from kafka.admin import KafkaAdminClient  # noqa: PLC0415
        from kafka.errors import KafkaError  # noqa: PLC0415
    except ImportError as error:
        raise NotAnsweringError(f"kafka-python is not on PYTHONPATH: {error}") from error
    # Its warnings about brokers that are down would end up in Ansible's output.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=int(CONNECT_S * 1000),
            request_timeout_ms=30_000,
        )
    except KafkaError as error:
        raise NotAnsweringError(f"no broker answers at {bootstrap_servers}: {error}") from error
    try:
        yield client
    except KafkaError as error:
        raise NotAnsweringError(f"Kafka at {bootstrap_servers}: {error}") from error
    finally:
        client.close()


def read_cluster(bootstrap_servers: str) -> Cluster:
    """The cluster as its brokers see it now; raises NotAnsweringError."""
    with admin(bootstrap_servers) as client:
        leader, lags = _read_quorum(client)
        brokers = frozenset(broker["broker_id"] for broker in client.describe_cluster()["brokers"])
        topics = client.describe_topics()
        min_insync = _read_min_insync(client, [topic["name"] for topic in topics])
        return Cluster(
            brokers=brokers,
            leader=leader,
            voter_lag_ms=lags,
            partitions=tuple(
                Partition(
                    topic=topic["name"],
                    index=partition["partition_index"],
                    replicas=frozenset(partition["replica_nodes"]),
                    isr=frozenset(partition["isr_nodes"]),
                    min_insync=min_insync[topic["name"]],
                )
                for topic in topics
                for partition in topic["partitions"]
            ),
        )


def poll(attempt: Callable[[], Answer | None], timeout_s: float) -> Answer | None:
    """Calls until the answer is not None or the time is over; tries at least once."""
    deadline = time.monotonic() + timeout_s
    while (answer := attempt()) is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return answer


def _read_quorum(client: KafkaAdminClient) -> tuple[int | None, dict[int, int | None]]:
    """Leader and each voter's lag in ms.

    Sent by hand: describe_metadata_quorum() of kafka-python 3.0.12 reads a field (error_message)
    that Kafka before 3.9 does not send.
    """
    from kafka.errors import for_code  # noqa: PLC0415
    from kafka.protocol.admin import DescribeQuorumRequest  # noqa: PLC0415

    topic = DescribeQuorumRequest.TopicData
    request = DescribeQuorumRequest(
        topics=[
            topic(
                topic_name="__cluster_metadata",
                partitions=[topic.PartitionData(partition_index=0)],
            )
        ]
    )
    response = client._manager.run(client._manager.send, request)
    if response.error_code:
        raise for_code(response.error_code)
    quorum = response.topics[0].partitions[0]
    if quorum.error_code:
        raise for_code(quorum.error_code)
    seen: dict[int, int] = {
        voter.replica_id: voter.last_caught_up_timestamp for voter in quorum.current_voters
    }
    now = seen.get(quorum.leader_id, -1)
    lags = {voter: now - at if at >= 0 else None for voter, at in seen.items()}
    return (quorum.leader_id if now >= 0 else None), lags


def _read_min_insync(client: KafkaAdminClient, topics: list[str]) -> dict[str, int]:
    from kafka.admin import ConfigResource  # noqa: PLC0415

    setting = "min.insync.replicas"
    if not topics:
        return {}
    resources = [ConfigResource("TOPIC", topic, [setting]) for topic in topics]
    configs: dict[str, dict[str, Any]] = client.describe_configs(resources, config_filter="all")
    # A topic deleted since it was listed has no settings.
    return {
        topic: int(configs["topic"][topic].get(setting, {}).get("value", 1)) for topic in topics
    }
