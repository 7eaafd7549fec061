"""Which cluster id the Kafka hosts get, and which of them are formatted."""

import base64

import pytest

from plugins.module_utils.kafka_formatting import (
    FormatError,
    NodeState,
    Plan,
    new_cluster_id,
    plan_formatting,
)

NEW = "NEWNEWNEWNEWNEWNEWNEWA"
OLD = "OLDOLDOLDOLDOLDOLDOLDA"
OTHER = "OTHEROTHEROTHEROTHEROA"
HOSTS = ("a", "b", "c")


def bare(node_id, kept=None):
    return NodeState(node_id, frozenset(), frozenset(), kept, False, False)


def ran(node_id, cluster_id=OLD, **changes):
    state = {
        "node_ids": frozenset({node_id}),
        "cluster_ids": frozenset({cluster_id}),
        "kept_cluster_id": cluster_id,
        "formatted": True,
        "has_metadata_log": True,
    }
    return NodeState(node_id, **{**state, **changes})


def plan(*states, controllers=HOSTS):
    return plan_formatting(dict(zip("abcde", states, strict=False)), controllers, NEW)


def test_bare_hosts_get_a_new_id_together():
    assert plan(bare(1), bare(2), bare(3)) == Plan(NEW, HOSTS, ())


def test_a_running_cluster_keeps_its_id_and_nothing_is_formatted():
    assert plan(ran(1), ran(2), ran(3)) == Plan(OLD, (), ())


def test_a_lost_disk_is_formatted_with_the_clusters_id_and_started_after_the_others():
    assert plan(ran(1), bare(2), ran(3)) == Plan(OLD, ("b",), ("b",))


def test_the_id_on_the_disks_wins_over_the_kept_one():
    assert plan(ran(1), bare(2, kept=OTHER), ran(3)).cluster_id == OLD


def test_the_kept_id_is_taken_when_all_disks_are_lost():
    assert plan(bare(1, kept=OLD), bare(2), bare(3)) == Plan(OLD, HOSTS, ())


def test_a_first_run_cut_between_the_hosts_goes_on_with_its_id():
    formatted = ran(1, has_metadata_log=False)
    assert plan(formatted, bare(2), bare(3)) == Plan(OLD, ("b", "c"), ())


def test_a_repair_cut_between_formatting_and_start_still_starts_that_node_last():
    assert plan(ran(1), ran(2, has_metadata_log=False), ran(3)) == Plan(OLD, (), ("b",))


def test_a_new_disk_beside_the_metadata_log_is_formatted_in_place():
    assert plan(ran(1), ran(2, formatted=False), ran(3)) == Plan(OLD, ("b",), ())


def test_a_broker_without_a_vote_may_come_and_be_lost_freely():
    states = (ran(1), ran(2), ran(3), bare(4), bare(5))
    assert plan(*states) == Plan(OLD, ("d", "e"), ())


@pytest.mark.parametrize("lost", [2, 3])
def test_without_a_majority_of_metadata_logs_nothing_is_formatted(lost):
    states = [ran(1), ran(2), ran(3), ran(4)]
    states[:lost] = [bare(node + 1) for node in range(lost)]
    with pytest.raises(FormatError, match=f"left on {3 - lost} of 3 controllers; lost on a, b"):
        plan(*states)


def test_two_clusters_are_never_joined_and_the_hosts_are_named():
    with pytest.raises(FormatError, match=f"a to {OLD}, b to {OTHER}"):
        plan(ran(1), ran(2, OTHER), bare(3))


def test_two_kept_ids_are_refused_too():
    with pytest.raises(FormatError, match="by their cluster-id"):
        plan(bare(1, kept=OLD), bare(2, kept=OTHER), bare(3))


def test_a_node_id_never_changes():
    with pytest.raises(FormatError, match="b is formatted as node 2 but kafka_node_id is 7"):
        plan(ran(1), NodeState(7, frozenset({OLD}), frozenset({2}), OLD, True, True), ran(3))


@pytest.mark.parametrize("state", [bare(2), ran(2, has_metadata_log=False)])
def test_a_part_of_the_hosts_is_never_formatted_alone(state):
    if not state.formatted:
        with pytest.raises(FormatError, match=r"b has no data.*a, c was not asked.*--limit"):
            plan(None, state, None)
    with pytest.raises(FormatError, match=r"c was not asked"):
        plan(ran(1), state, None)


def test_a_part_of_the_hosts_may_be_looked_at_when_all_is_there():
    assert plan(None, ran(2), None) == Plan(OLD, (), ())


def test_new_ids_are_kafkas_own_kind():
    for _ in range(300):
        text = new_cluster_id()
        assert len(text) == 22
        assert len(base64.urlsafe_b64decode(text + "==")) == 16
        assert not text.startswith("-")
