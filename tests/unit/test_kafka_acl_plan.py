"""Which access rules are added and taken away, and which are refused."""

from dataclasses import replace

import pytest

from plugins.module_utils.kafka_acl_plan import Acl, plan_acls

READ = Acl("User:anna", "read", "topic", "predictions")


def test_rules_as_declared_need_nothing_however_often_they_are():
    assert not plan_acls([READ, READ], [READ], []).changed


@pytest.mark.parametrize(
    "other",
    [
        replace(READ, principal="User:bert"),
        replace(READ, operation="write"),
        replace(READ, resource="group"),
        replace(READ, name="predict"),
        replace(READ, pattern="prefixed"),
        replace(READ, host="192.0.2.1"),
        replace(READ, permission="deny"),
    ],
)
def test_rules_that_differ_in_anything_are_two(other):
    done = plan_acls([READ], [other], [])
    assert done.create == (READ,)
    assert not done.delete


def test_a_rule_that_was_not_declared_here_stays():
    assert not plan_acls([], [READ], [], prune=True).changed


def test_a_rule_no_longer_declared_is_kept_and_told_unless_pruned():
    kept = plan_acls([], [READ], [str(READ)])
    assert not kept.changed
    assert kept.rest == ("allow User:anna read on topic literal predictions from *",)
    done = plan_acls([], [READ], [str(READ)], prune=True)
    assert done.delete == (READ,)
    assert not done.rest


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (replace(READ, principal="anna"), "such as User:anna"),
        (replace(READ, operation="raed"), "use one of all, alter"),
        (replace(READ, resource="group", operation="write"), "all, delete, describe, read"),
        (replace(READ, resource="cluster", operation="alter"), "name is kafka-cluster"),
        (replace(READ, name=""), "* is every one"),
    ],
)
def test_a_rule_that_would_never_take_effect_is_refused(wrong, problem):
    (refusal,) = plan_acls([wrong], [], []).refused
    assert problem in refusal


def test_every_operation_is_one():
    assert not plan_acls([replace(READ, operation="all")], [], []).refused
