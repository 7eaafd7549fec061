"""Which cluster id the Kafka hosts have, and which of them are to be formatted with it.

1. The id of an existing cluster wins: the one in meta.properties of any host. Two different ones
   are two clusters, and nothing is done.
2. Only when no host has one, the id kept in the hosts' configuration is taken, and only when there
   is none either a new one is made. All hosts must have been asked for that: one that is left out
   (--limit) may hold the only copy.
3. A formatted host keeps its node id: its replicas and its votes are filed under it.
4. A controller that lost its metadata log comes back empty, and an empty voter's vote can elect one
   that misses committed metadata. So a majority must still hold the log, and the empty ones are
   started only once these have a leader (`Plan.rejoin`). Where nobody has a log yet the cluster has
   never run, and all are formatted together.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass


class FormatError(Exception):
    """Formatting would join what does not belong together, or lose metadata; says the remedy."""


@dataclass(frozen=True)
class NodeState:
    """What one host has on its disks.

    node_id: the declared one.
    cluster_ids, node_ids: found in meta.properties of its log directories.
    kept_cluster_id: from its configuration folder, None if there is none.
    formatted: every log directory has a meta.properties.
    has_metadata_log: the cluster's metadata log is there.
    """

    node_id: int
    cluster_ids: frozenset[str]
    node_ids: frozenset[int]
    kept_cluster_id: str | None
    formatted: bool
    has_metadata_log: bool


@dataclass(frozen=True)
class Plan:
    """The cluster's id, the hosts to format with it, and those to start after the others."""

    cluster_id: str
    to_format: tuple[str, ...]
    rejoin: tuple[str, ...]


def plan_formatting(
    nodes: Mapping[str, NodeState | None], controllers: Collection[str], new_id: str
) -> Plan:
    """Decides by the rules above.

    nodes: by host name, all hosts of the Kafka groups; None for one that was not asked.
    controllers: names of the hosts that are voters.
    Raises FormatError.
    """
    known = {host: node for host, node in nodes.items() if node is not None}
    for host, node in known.items():
        if wrong := node.node_ids - {node.node_id}:
            raise FormatError(
                f"{host} is formatted as node {_listed(wrong)} but kafka_node_id is {node.node_id}."
                f" Give it its node id back; a host cannot change it"
            )
    cluster_id = _cluster_id(known, new_id)
    to_format = tuple(host for host, node in known.items() if not node.formatted)
    has_run = any(node.has_metadata_log for node in known.values())
    rejoin = tuple(
        host
        for host in controllers
        if has_run and host in known and not known[host].has_metadata_log
    )
    unasked = sorted(set(nodes) - set(known))
    if unasked and (to_format or rejoin):
        raise FormatError(
            f"{_listed({*to_format, *rejoin})} has no data yet, or lost it. What to do needs the "
            f"state of all Kafka hosts, but {_listed(unasked)} was not asked: run without --limit"
        )
    holders = set(controllers) - set(rejoin)
    if rejoin and len(holders) <= len(controllers) // 2:
        raise FormatError(
            f"the metadata log of cluster {cluster_id} is left on {len(holders)} of "
            f"{len(controllers)} controllers; lost on {_listed(rejoin)}. Without a majority, "
            "formatting these could lose topics. Bring their log directories back; or, if all "
            "records may be lost, empty the log directories of all Kafka hosts"
        )
    return Plan(cluster_id, to_format, rejoin)


def new_cluster_id() -> str:
    """A random id as Kafka writes it: 16 bytes, URL-safe base64. A leading dash is an option."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _cluster_id(nodes: Mapping[str, NodeState], new_id: str) -> str:
    found = {(host, cluster_id) for host, node in nodes.items() for cluster_id in node.cluster_ids}
    kept = {(host, node.kept_cluster_id) for host, node in nodes.items() if node.kept_cluster_id}
    for source, ids in (("meta.properties", found), ("cluster-id", kept)):
        distinct = {cluster_id for _, cluster_id in ids}
        if len(distinct) > 1:
            raise FormatError(
                f"the hosts belong to different clusters by their {source}: "
                + ", ".join(f"{host} to {cluster_id}" for host, cluster_id in sorted(ids))
                + ". Take the hosts that do not belong here out of the inventory, or empty their "
                "log directories if their records may be lost"
            )
        if distinct:
            return str(distinct.pop())
    return new_id


def _listed(items: Collection[object]) -> str:
    return ", ".join(sorted(map(str, items)))
