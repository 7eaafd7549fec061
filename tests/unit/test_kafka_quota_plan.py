"""Which limits are set and unset, and for whom."""

import pytest

from plugins.module_utils.kafka_quota_plan import DEFAULT, Entity, Quota, plan_quotas

ANNA = Entity(user="anna")


def plan(declared, found=None, earlier=(), **options):
    return plan_quotas([Quota(*one) for one in declared.items()], found or {}, earlier, **options)


def test_quotas_as_declared_need_nothing():
    assert not plan({ANNA: {"producer_byte_rate": 5}}, {ANNA: {"producer_byte_rate": 5.0}}).changed


def test_an_entity_has_exactly_the_declared_limits():
    found = {ANNA: {"producer_byte_rate": 5.0, "consumer_byte_rate": 7.0}}
    declared = {ANNA: {"producer_byte_rate": 6.0, "request_percentage": 50.0}}
    assert plan(declared, found).alter == {
        ANNA: {"producer_byte_rate": 6.0, "request_percentage": 50.0, "consumer_byte_rate": None}
    }


def test_what_was_not_declared_here_stays():
    assert not plan({}, {ANNA: {"producer_byte_rate": 5.0}}, prune=True).changed


def test_what_is_no_longer_declared_is_kept_and_told_unless_pruned():
    found = {ANNA: {"producer_byte_rate": 5.0}}
    kept = plan({}, found, ["user anna"])
    assert not kept.changed
    assert kept.rest == ("user anna",)
    done = plan({}, found, ["user anna"], prune=True)
    assert done.alter == {ANNA: {"producer_byte_rate": None}}
    assert done.delete == ("user anna",)


@pytest.mark.parametrize(
    ("entity", "parts", "text"),
    [
        (ANNA, {"user": "anna"}, "user anna"),
        (Entity(user=DEFAULT), {"user": None}, "user <default>"),
        (Entity(client_id="c"), {"client-id": "c"}, "client id c"),
        (
            Entity(user="anna", client_id=DEFAULT),
            {"user": "anna", "client-id": None},
            "user anna, client id <default>",
        ),
        (Entity(ip="192.0.2.1"), {"ip": "192.0.2.1"}, "address 192.0.2.1"),
    ],
)
def test_entities_are_named_as_the_protocol_does_and_back(entity, parts, text):
    assert entity.parts() == parts
    assert Entity.of(parts) == entity
    assert str(entity) == text


@pytest.mark.parametrize(
    ("entity", "limits", "problem"),
    [
        (Entity(), {"producer_byte_rate": 5}, "neither user, client_id nor ip"),
        (Entity(user="a", ip="192.0.2.1"), {"connection_creation_rate": 5}, "stands alone"),
        (ANNA, {"connection_creation_rate": 5}, "no connection_creation_rate there"),
        (Entity(ip="192.0.2.1"), {"producer_byte_rate": 5}, "no producer_byte_rate there"),
        (ANNA, {"producer_byte_rate": 0}, "must be more than 0"),
        (ANNA, {}, "no limit is given"),
    ],
)
def test_a_quota_that_means_nothing_is_refused(entity, limits, problem):
    (refusal,) = plan({entity: limits}).refused
    assert problem in refusal


def test_an_entity_declared_twice_is_refused():
    twice = [Quota(ANNA, {"producer_byte_rate": 5}), Quota(ANNA, {"producer_byte_rate": 6})]
    assert plan_quotas(twice, {}, []).refused == ("a quota of user anna is declared twice",)
