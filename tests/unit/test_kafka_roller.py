"""The roller's rules: which restarts are allowed, what a cluster lacks, and in which order."""

import pytest

from plugins.module_utils.kafka_roller import (
    MAX_VOTER_LAG_MS,
    Cluster,
    Partition,
    listed,
    restart_blockers,
    restart_costs,
    restart_order,
    shortcomings,
)

NAMES = {1: "a", 2: "b", 3: "c", 4: "d", 5: "e"}


def partition(topic="t", index=0, replicas=(1, 2, 3), isr=None, min_insync=2):
    isr = replicas if isr is None else isr
    return Partition(topic, index, frozenset(replicas), frozenset(isr), min_insync)


def cluster(*partitions, brokers=(1, 2, 3), leader=1, lags=None):
    lags = {1: 0, 2: 5, 3: 400} if lags is None else lags
    return Cluster(frozenset(brokers), leader, lags, partitions or (partition(),))


def test_any_node_of_a_whole_cluster_may_restart():
    for node in (1, 2, 3):
        assert restart_blockers(cluster(), node, NAMES) == []


def test_nothing_restarts_without_a_leader():
    assert restart_blockers(cluster(leader=None), 1, NAMES) == ["the quorum has no leader"]


def test_a_replica_missing_elsewhere_forbids_the_restart_and_names_partition_and_host():
    wounded = cluster(partition(), partition("telemetry.pump", 4, isr=(1, 2)))
    (blocker,) = restart_blockers(wounded, 1, NAMES)
    assert "telemetry.pump-4" in blocker
    assert "c (node 3)" in blocker


def test_a_node_whose_own_replica_is_missing_may_restart():
    assert restart_blockers(cluster(partition(isr=(1, 2))), 3, NAMES) == []


def test_a_node_whose_own_replica_is_missing_waits_for_replicas_missing_elsewhere():
    both = cluster(partition(isr=(1, 2)), partition(index=1, isr=(1,)))
    (blocker,) = restart_blockers(both, 3, NAMES)
    assert "t-1" in blocker
    assert "t-0" not in blocker


def test_a_partition_short_of_replicas_that_the_node_does_not_hold_forbids_it_too():
    elsewhere = cluster(partition(replicas=(2, 3), isr=(2,), min_insync=1))
    assert restart_blockers(elsewhere, 1, NAMES)


def test_replicas_that_can_never_be_spared_are_announced_but_forbid_nothing():
    alone = partition("single", replicas=(1,), min_insync=1)
    pair = partition("pair", replicas=(1, 2), min_insync=2)
    both = cluster(partition(), alone, pair)
    assert restart_blockers(both, 1, NAMES) == []
    assert restart_costs(both, 1) == [alone, pair]
    assert restart_costs(both, 2) == [pair]
    assert restart_costs(both, 3) == []


@pytest.mark.parametrize(
    ("lags", "node", "allowed"),
    [
        ({1: 0}, 1, True),
        ({1: 0, 2: 0}, 2, True),
        ({1: 0, 2: MAX_VOTER_LAG_MS + 1}, 1, False),
        ({1: 0, 2: MAX_VOTER_LAG_MS + 1}, 2, True),
        ({1: 0, 2: MAX_VOTER_LAG_MS, 3: 0}, 1, True),
        ({1: 0, 2: MAX_VOTER_LAG_MS + 1, 3: 0}, 1, False),
        ({1: 0, 2: None, 3: 0}, 3, False),
        ({1: 0, 2: None, 3: 0}, 2, True),
        ({1: 0, 2: 0, 3: 0, 4: None, 5: 0}, 5, True),
        ({1: 0, 2: 0, 3: 0, 4: None, 5: None}, 3, False),
        ({1: 0, 2: 0, 3: None, 4: None, 5: None}, 4, False),
    ],
)
def test_a_controller_restarts_only_while_the_others_that_follow_are_a_majority(
    lags, node, allowed
):
    assert (restart_blockers(cluster(lags=lags), node, NAMES) == []) is allowed


def test_the_controllers_that_are_behind_are_named():
    (blocker,) = restart_blockers(cluster(lags={1: 0, 2: None, 3: 0}), 3, NAMES)
    assert "b (node 2)" in blocker
    assert "only 1 of the other 2" in blocker


def test_a_broker_that_is_no_controller_does_not_depend_on_the_voters():
    slow = cluster(brokers=(1, 2, 3, 4), lags={1: 0, 2: None, 3: None})
    assert restart_blockers(slow, 4, NAMES) == []


def test_a_cluster_works_when_its_brokers_are_registered_and_its_controllers_follow():
    assert shortcomings(cluster(), [1, 2, 3], [1, 2, 3], NAMES, replicated=True) == []


def test_what_a_cluster_lacks_is_said_by_host():
    broken = cluster(partition(isr=(1, 2)), brokers=(1, 2), lags={1: 0, 2: 0, 3: 60_000})
    assert shortcomings(broken, [1, 2, 3], [1, 2, 3], NAMES, replicated=True) == [
        "not registered as broker: c (node 3)",
        "controllers that do not follow the leader: c (node 3)",
        "1 partition(s) miss a replica on c (node 3): t-0",
    ]
    assert shortcomings(broken, [1, 2], [1, 2], NAMES, replicated=False) == []


def test_a_controller_that_the_quorum_does_not_know_does_not_follow():
    assert shortcomings(cluster(), [], [9], {9: "x"}, replicated=False) == [
        "controllers that do not follow the leader: x (node 9)"
    ]


def test_restarts_begin_with_what_does_not_serve_and_end_with_the_leader():
    one_down = cluster(brokers=(1, 2, 4), leader=2, lags={1: 0, 2: 0, 3: None})
    assert restart_order(one_down, [1, 2, 3, 4]) == [3, 1, 4, 2]


def test_long_lists_are_cut():
    assert listed(range(3)) == "0, 1, 2"
    assert listed(range(9)) == "0, 1, 2, 3, 4 and 4 more"
