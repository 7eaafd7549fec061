"""What is done so that topics are as declared, and what is refused."""

import pytest

from plugins.module_utils.kafka_topic_plan import (
    BATCH_RECORDS,
    Topic,
    batches,
    config_text,
    plan_topics,
)


def plan(declared, found=()):
    return plan_topics(declared, {topic.name: topic for topic in found})


def test_topics_as_declared_need_nothing():
    topic = Topic("t", 3, 3, {"retention.ms": "1"})
    assert not plan([topic], [topic]).changed


def test_a_missing_topic_is_created_and_an_undeclared_one_left_alone():
    done = plan([Topic("new", 3)], [Topic("old", 1, 1)])
    assert [topic.name for topic in done.create] == ["new"]
    assert not done.grow
    assert not done.alter


def test_partitions_grow():
    assert plan([Topic("t", 6)], [Topic("t", 3, 3)]).grow == {"t": 6}


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
    found = Topic("t", 1, 1, {"a": "1", "b": "2", "c": "3"})
    assert plan([Topic("t", 1, config={"a": "1", "b": "9", "d": "4"})], [found]).alter == {
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
    parts = list(batches(topics))
    assert [topic for part in parts for topic in part] == topics
    assert all(sum(1 + topic.partitions for topic in part) <= BATCH_RECORDS for part in parts)
    assert len(parts) == 11


def test_a_topic_too_large_for_a_batch_goes_alone():
    assert [len(part) for part in batches([Topic("a", 1), Topic("b", 9000), Topic("c", 1)])] == [
        1,
        1,
        1,
    ]
