"""Reads a Kafka cluster for the modules; the only place that talks to Kafka through kafka-python.

kafka-python is not part of the host's Python: tasks put the depot's wheel on PYTHONPATH.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ansible.module_utils.kafka_roller import MAX_VOTER_LAG_MS, Cluster, Partition

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient
    from kafka.protocol.metadata import MetadataResponse

POLL_S = 0.5
CONNECT_S = 5.0
# A broker that hangs is found out, and another one asked.
READ_S = 10.0
Answer = TypeVar("Answer")

# How modules are told of a certificate; `tls_of` reads it.
TLS_OPTION: dict[str, Any] = {
    "type": "dict",
    "options": {
        "ca": {"type": "path", "required": True},
        "certificate": {"type": "path", "required": True},
    },
}


@dataclass(frozen=True)
class Tls:
    """Files in PEM form to connect with: the authorities to trust; key and certificate in one."""

    ca: str
    certificate: str


class NotAnsweringError(Exception):
    """No broker answered, or the client is not installed; says which."""


def tls_of(option: Mapping[str, str] | None) -> Tls | None:
    """What a module was given for `TLS_OPTION`."""
    return None if option is None else Tls(ca=option["ca"], certificate=option["certificate"])


@contextmanager
def admin(
    bootstrap_servers: str, request_timeout_s: float, tls: Tls | None = None
) -> Iterator[KafkaAdminClient]:
    """A connected admin client, without `tls` in plaintext; raises NotAnsweringError."""
    try:
        from kafka.admin import KafkaAdminClient
        from kafka.errors import KafkaError
    except ImportError as error:
        raise NotAnsweringError(f"kafka-python is not on PYTHONPATH: {error}") from error
    # Its warnings about brokers that are down would end up in Ansible's output.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    try:
        client = KafkaAdminClient(
            bootstrap_servers=bootstrap_servers.split(","),
            bootstrap_timeout_ms=int(CONNECT_S * 1000),
            request_timeout_ms=int(request_timeout_s * 1000),
            **_security(tls),
        )
    except KafkaError as error:
        raise NotAnsweringError(f"no broker answers at {bootstrap_servers}") from error
    try:
        yield client
    except KafkaError as error:
        raise NotAnsweringError(f"Kafka at {bootstrap_servers}: {error}") from error
    finally:
        client.close()


def _security(tls: Tls | None) -> dict[str, Any]:
    """kafka-python's settings; raises NotAnsweringError for files that are no certificate of ours.

    Loaded here, because the client takes what goes wrong with them for a broker that is down.
    """
    if tls is None:
        return {}
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        context.load_cert_chain(tls.certificate)
    except OSError as error:
        raise NotAnsweringError(
            f"cannot connect with {tls.certificate} and {tls.ca}: {error}"
        ) from error
    return {"security_protocol": "SSL", "ssl_context": context}


def read_cluster(bootstrap_servers: str, tls: Tls | None = None) -> Cluster:
    """The cluster as the leader of its quorum knows it; raises NotAnsweringError.

    A broker answers for topics from its own copy of the metadata, and one that is cut off does not
    know that its copy is old. The leader tells who follows it, and one of those is asked.
    """
    with admin(bootstrap_servers, READ_S, tls) as client:
        quorum = _read_quorum(client)
        metadata = _read_metadata(client, quorum)
        topics = [topic for topic in metadata.topics if not topic.error_code]
        min_insync = _read_min_insync(client, [topic.name for topic in topics])
        return Cluster(
            brokers=frozenset(broker.node_id for broker in metadata.brokers),
            leader=quorum.leader,
            voter_lag_ms={voter: quorum.lag_ms(voter) for voter in quorum.voters},
            partitions=tuple(
                Partition(
                    topic=topic.name,
                    index=partition.partition_index,
                    replicas=frozenset(partition.replica_nodes),
                    isr=frozenset(partition.isr_nodes),
                    min_insync=min_insync[topic.name],
                )
                for topic in topics
                for partition in topic.partitions
            ),
        )


def poll(attempt: Callable[[], Answer | None], timeout_s: float) -> Answer | None:
    """Calls until the answer is not None or the time is over; tries at least once."""
    deadline = time.monotonic() + timeout_s
    while (answer := attempt()) is None and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return answer


@dataclass(frozen=True)
class _Quorum:
    """Node ids, and by node the time in ms at which it was last caught up, -1 if never."""

    leader: int | None
    voters: frozenset[int]
    caught_up: dict[int, int]

    def lag_ms(self, node: int) -> int | None:
        at = self.caught_up.get(node, -1)
        return None if self.leader is None or at < 0 else self.caught_up[self.leader] - at


def _read_quorum(client: KafkaAdminClient) -> _Quorum:
    """What the leader says of its quorum; whichever broker is asked passes the question on.

    Sent by hand: describe_metadata_quorum() of kafka-python 3.0.12 reads a field (error_message)
    that Kafka before 3.9 does not send.
    """
    from kafka.errors import for_code
    from kafka.protocol.admin import DescribeQuorumRequest

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
    caught_up = {
        node.replica_id: node.last_caught_up_timestamp
        for node in [*quorum.current_voters, *quorum.observers]
    }
    return _Quorum(
        leader=quorum.leader_id if quorum.leader_id in caught_up else None,
        voters=frozenset(voter.replica_id for voter in quorum.current_voters),
        caught_up=caught_up,
    )


def _read_metadata(client: KafkaAdminClient, quorum: _Quorum) -> MetadataResponse:
    """The MetadataResponse of the broker that follows the leader most closely and answers."""
    from kafka.errors import KafkaError
    from kafka.protocol.metadata import MetadataRequest

    lags = {
        broker.node_id: quorum.lag_ms(broker.node_id)
        for broker in client._manager.cluster.brokers()
    }
    following = {
        node: lag for node, lag in lags.items() if lag is not None and lag <= MAX_VOTER_LAG_MS
    }
    failure: KafkaError | None = None
    for node in sorted(following, key=following.__getitem__):
        try:
            return client._manager.run(client._manager.send, MetadataRequest(topics=None), node)
        except KafkaError as error:
            failure = error
    raise failure or NotAnsweringError("no broker follows the leader of the quorum")


def _read_min_insync(client: KafkaAdminClient, topics: list[str]) -> dict[str, int]:
    from kafka.admin import ConfigResource

    setting = "min.insync.replicas"
    if not topics:
        return {}
    resources = [ConfigResource("TOPIC", topic, [setting]) for topic in topics]
    configs: dict[str, dict[str, Any]] = client.describe_configs(resources, config_filter="all")
    # A topic deleted since it was listed has no settings.
    return {
        topic: int(configs["topic"][topic].get(setting, {}).get("value", 1)) for topic in topics
    }
