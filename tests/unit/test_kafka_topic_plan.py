"""What is done so that topics are as declared, and what is refused."""

import pytest

from plugins.module_utils.kafka_topic_plan import (
    BATCH_RECORDS,
    Topic,
    Wishes,
    at_stake,
    config_text,
    plan_topics,
    topic_batches,
)


def plan(declared, found=(), held=0, **wishes):
    """What is planned where each topic of which it matters holds so many records."""
    present, allowed = {topic.name: topic for topic in found}, Wishes(**wishes)
    records = dict.fromkeys(at_stake(declared, present, allowed), held)
    return plan_topics(declared, present, records, allowed)


def found(name="t", partitions=3, policy="delete", **settings):
    """A topic of the cluster; its own settings, and a retention of 1000 ms by default."""
    config = {setting.replace("_", "."): value for setting, value in settings.items()}
    effective = {"retention.ms": "1000", "retention.bytes": "-1", "cleanup.policy": policy}
    return Topic(name, partitions, 1, config, effective=effective | config)


def test_topics_as_declared_need_nothing():
    topic = Topic("t", 3, 3, {"retention.ms": "1"})
    assert not plan([topic], [topic]).changed


def test_a_missing_topic_is_created_and_an_undeclared_one_left_alone():
    done = plan([Topic("new", 3)], [Topic("old", 1, 1)])
    assert [topic.name for topic in done.create] == ["new"]
    assert not done.grow
    assert not done.alter


def test_partitions_of_an_empty_topic_grow():
    done = plan([Topic("t", 6)], [found()])
    assert done.grow == {"t": 6}
    assert not done.refused


def test_more_partitions_would_move_keys_so_a_topic_with_records_keeps_its_own():
    (refusal,) = plan([Topic("t", 6)], [found()], held=10).refused
    assert "t holds up to 10 records" in refusal
    assert "a machine's new records before its old ones" in refusal
    assert "-e kafka_confirmed_topics=t" in refusal


def test_partitions_grow_where_that_is_confirmed_or_order_does_not_matter():
    assert plan([Topic("t", 6)], [found()], held=10, confirmed=["t"]).grow == {"t": 6}
    assert plan([Topic("t", 6, keyed=False)], [found()], held=10).grow == {"t": 6}
    assert not at_stake([Topic("t", 6, keyed=False)], {"t": found()})


def test_a_compacted_topic_with_records_never_grows():
    keys = found(policy="compact")
    for declared in (Topic("t", 6), Topic("t", 6, keyed=False)):
        done = plan([declared], [keys], held=10, confirmed=["t"])
        # Otherwise nobody would count its records.
        assert at_stake([declared], {"t": keys}) == ["t"]
        assert "would keep its old value on its old partition" in done.refused[0]
    assert not plan([Topic("t", 6)], [keys]).refused


@pytest.mark.parametrize(
    ("before", "declared"),
    [
        ({"retention_ms": "2000"}, {"retention.ms": "1999"}),
        ({}, {"retention.ms": "999"}),
        ({"retention_ms": "-1"}, {"retention.ms": "999999"}),
        ({"retention_ms": "2000"}, {}),
        ({}, {"retention.bytes": "5"}),
        ({"cleanup_policy": "delete"}, {"cleanup.policy": "compact"}),
        ({"cleanup_policy": "compact"}, {"cleanup.policy": "compact,delete"}),
        ({"cleanup_policy": "compact"}, {}),
    ],
)
def test_a_setting_that_deletes_records_needs_the_name_of_the_topic(before, declared):
    topic, present = Topic("t", 3, config=declared), found(**before)
    (refusal,) = plan([topic], [present], held=10).refused
    assert "deleted" in refusal
    assert "-e kafka_confirmed_topics=t" in refusal
    assert not plan([topic], [present], held=0).refused
    done = plan([topic], [present], held=10, confirmed=["t"])
    assert done.alter
    assert not done.refused


@pytest.mark.parametrize(
    ("before", "declared"),
    [
        ({"retention_ms": "2000"}, {"retention.ms": "2001"}),
        ({"retention_ms": "2000"}, {"retention.ms": "-1"}),
        ({}, {"retention.ms": "1000"}),
        ({}, {"cleanup.policy": "delete"}),
        ({}, {"max.message.bytes": "7"}),
    ],
)
def test_a_setting_that_keeps_all_records_is_changed(before, declared):
    done = plan([Topic("t", 3, config=declared)], [found(**before)], held=10)
    assert done.alter
    assert not done.refused


def test_what_was_never_declared_here_is_not_deleted():
    done = plan([], [found("other")], prune=True)
    assert not done.changed
    assert not done.rest


def test_what_is_no_longer_declared_is_kept_and_told():
    done = plan([], [found("old")], earlier=["old", "gone"])
    assert not done.changed
    assert done.rest == ("old",)


def test_an_empty_topic_is_pruned_and_one_with_records_needs_its_name():
    assert plan([], [found("old")], earlier=["old"], prune=True).delete == ("old",)
    (refusal,) = plan([], [found("old")], held=1, earlier=["old"], prune=True).refused
    assert "no longer declared, and would be deleted" in refusal
    done = plan([], [found("old")], held=1, earlier=["old"], confirmed=["old"])
    assert done.delete == ("old",)
    assert not done.refused


def test_a_confirmed_name_deletes_neither_what_is_declared_nor_what_never_was():
    assert not plan([Topic("t", 3)], [found()], earlier=["t"], confirmed=["t"]).changed
    done = plan([], [found("other")], confirmed=["other"])
    assert not done.changed
    assert "never declared here" in done.refused[0]


def test_shrinking_is_refused_with_the_reason():
    done = plan([Topic("t", 2)], [Topic("t", 3, 3)])
    assert not done.changed
    assert "t has 3 partitions, 2 are declared" in done.refused[0]
    assert "delete their records" in done.refused[0]


def test_what_is_not_declared_is_the_clusters_choice():
    assert not plan([Topic("t")], [Topic("t", 7, 2)]).changed


def test_another_replication_factor_is_refused_with_the_way_to_do_it():
    (refusal,) = plan([Topic("t", 3, 3)], [Topic("t", 3, 1)]).refused
    assert "reassignment" in refusal


def test_settings_become_exactly_the_declared_ones():
    present = Topic("t", 1, 1, {"a": "1", "b": "2", "c": "3"})
    assert plan([Topic("t", 1, config={"a": "1", "b": "9", "d": "4"})], [present]).alter == {
        "t": {"b": "9", "d": "4", "c": None}
    }


def test_throttles_of_a_running_reassignment_stay():
    throttled = Topic("t", 1, 1, {"leader.replication.throttled.replicas": "*"})
    assert not plan([Topic("t", 1)], [throttled]).changed


def test_a_topic_declared_twice_is_refused():
    assert plan([Topic("t"), Topic("t")]).refused == ("t is declared twice",)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (-1, "-1"),
        (0.5, "0.5"),
        ("x", "x"),
        (["compact", "delete"], "compact,delete"),
    ],
)
def test_values_are_written_as_kafka_writes_them(value, text):
    assert config_text(value) == text


def test_batches_stay_below_what_a_request_may_hold_and_lose_nothing():
    topics = [Topic(f"t{index}", 50) for index in range(1000)]
    parts = list(topic_batches(topics))
    assert [topic for part in parts for topic in part] == topics
    assert all(sum(1 + topic.partitions for topic in part) <= BATCH_RECORDS for part in parts)
    assert len(parts) == 11


def test_a_topic_too_large_for_a_batch_goes_alone():
    parts = list(topic_batches([Topic("a", 1), Topic("b", 9000), Topic("c", 1)]))
    assert [len(part) for part in parts] == [1, 1, 1]
