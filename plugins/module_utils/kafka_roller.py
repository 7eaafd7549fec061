"""When a Kafka node may be restarted, and when it has come back.

A restart takes one member out of the quorum and one replica out of every partition the node holds.
Both survive that only if everything else is whole, so nodes are restarted one at a time and the
cluster is looked at before and after each:

1. Without a leader of the quorum nothing is restarted: partitions could not get new leaders.
2. A controller is restarted only while the other voters that follow the leader are a majority.
   A voter follows if it was caught up at most `MAX_VOTER_LAG_MS` ago by the leader's clock. One or
   two voters have no majority to spare; there all others must follow, and the quorum is without a
   leader during the restart.
3. While a partition misses a replica, no other node is restarted: if the wrong one goes, the
   partition falls under min.insync.replicas and its producers stop. Where the missing replica is
   the node's own, restarting that node takes nothing away and may be the cure.
4. So a partition keeps all replicas but one. That is below min.insync.replicas only where a topic
   has no more replicas than that. No order of restarts helps there: it is announced and accepted.
5. A node is back when it is registered (broker), follows the leader (controller) and no partition
   misses a replica.
6. Nodes that do not serve anyway go first, the leader of the quorum last: each restart of a leader
   is an election, and in any other order there would be several.

Rules 2-4 say what Strimzi's KafkaQuorumCheck and KafkaAvailability say; rule 3 is stricter: it also
waits for replicas that min.insync.replicas would allow to miss.
Everything here is computed from a `Cluster`; reading one from Kafka is kafka_client's work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

# controller.quorum.fetch.timeout.ms: a voter behind by more is about to call an election.
MAX_VOTER_LAG_MS = 2000
NAMED = 5


@dataclass(frozen=True)
class Partition:
    """One partition: the node ids that hold it, those of them in sync, and how many must be."""

    topic: str
    index: int
    replicas: frozenset[int]
    isr: frozenset[int]
    min_insync: int

    @property
    def missing(self) -> frozenset[int]:
        """Node ids whose replica is not in sync."""
        return self.replicas - self.isr

    def __str__(self) -> str:
        return f"{self.topic}-{self.index}"


@dataclass(frozen=True)
class Cluster:
    """What Kafka says of itself at one moment.

    brokers: node ids that are registered and not fenced.
    leader: node id of the active controller, None while there is none.
    voter_lag_ms: per voter, milliseconds since it was last caught up with the leader, by the
        leader's clock; None if it never was.
    """

    brokers: frozenset[int]
    leader: int | None
    voter_lag_ms: Mapping[int, int | None]
    partitions: tuple[Partition, ...]

    def follows(self, voter: int) -> bool:
        """Whether this voter would know all committed metadata if the leader failed now."""
        lag = self.voter_lag_ms.get(voter)
        return self.leader is not None and lag is not None and lag <= MAX_VOTER_LAG_MS


def restart_blockers(cluster: Cluster, node: int, names: Mapping[int, str]) -> list[str]:
    """Why `node` must not be restarted now, in words for the operator; empty if it may."""
    if cluster.leader is None:
        return ["the quorum has no leader"]
    blockers = []
    voters = set(cluster.voter_lag_ms)
    if node in voters:
        others = voters - {node}
        following = {voter for voter in others if cluster.follows(voter)}
        needed = min(len(voters) // 2 + 1, len(others))
        if len(following) < needed:
            blockers.append(
                f"only {len(following)} of the other {len(others)} controllers follow the leader, "
                f"{needed} must; behind: {_named(others - following, names)}"
            )
    wounded = [partition for partition in cluster.partitions if partition.missing - {node}]
    if wounded:
        blockers.append(_under_replicated(wounded, names))
    return blockers


def restart_costs(cluster: Cluster, node: int) -> list[Partition]:
    """Partitions that have no replica to spare: below min.insync.replicas while `node` is away."""
    return [
        partition
        for partition in cluster.partitions
        if node in partition.isr and len(partition.isr) - 1 < partition.min_insync
    ]


def shortcomings(
    cluster: Cluster,
    brokers: Collection[int],
    controllers: Collection[int],
    names: Mapping[int, str],
    *,
    replicated: bool,
) -> list[str]:
    """What the cluster lacks to be working with these nodes, in words; empty if it works.

    With `replicated`, no partition may miss a replica either.
    """
    if cluster.leader is None:
        return ["the quorum has no leader"]
    lacking = []
    if absent := set(brokers) - cluster.brokers:
        lacking.append(f"not registered as broker: {_named(absent, names)}")
    if behind := {voter for voter in controllers if not cluster.follows(voter)}:
        lacking.append(f"controllers that do not follow the leader: {_named(behind, names)}")
    wounded = [partition for partition in cluster.partitions if partition.missing]
    if replicated and wounded:
        lacking.append(_under_replicated(wounded, names))
    return lacking


def restart_order(cluster: Cluster, nodes: Iterable[int]) -> list[int]:
    """Node ids in the order in which to restart them (rule 6)."""
    return sorted(
        nodes,
        key=lambda node: (
            node == cluster.leader,
            node in cluster.brokers or cluster.follows(node),
            node,
        ),
    )


def listed(items: Iterable[object]) -> str:
    """The first few items and the number of the rest."""
    words = [str(item) for item in items]
    more = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _under_replicated(partitions: list[Partition], names: Mapping[int, str]) -> str:
    missing = frozenset[int]().union(*(partition.missing for partition in partitions))
    return (
        f"{len(partitions)} partition(s) miss a replica on {_named(missing, names)}: "
        f"{listed(partitions)}"
    )


def _named(nodes: Iterable[int], names: Mapping[int, str]) -> str:
    return ", ".join(f"{names.get(node, 'unknown host')} (node {node})" for node in sorted(nodes))
