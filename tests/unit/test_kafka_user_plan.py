"""When a user's password is set, although Kafka never tells it."""

import pytest

from plugins.module_utils.kafka_user_plan import (
    ITERATIONS,
    Fingerprint,
    User,
    new_iterations,
    plan_users,
)

ANNA = User("anna", "correct horse")
SET = {"anna": Fingerprint.of(ANNA.password, 5000)}


def test_a_password_that_is_set_needs_nothing():
    assert not plan_users([ANNA], {"anna": 5000}, SET).changed


@pytest.mark.parametrize(
    ("declared", "iterations", "kept", "reason"),
    [
        (ANNA, None, {}, "new"),
        (ANNA, None, SET, "new"),
        (ANNA, 5000, {}, "not known here"),
        (User("anna", "battery staple"), 5000, SET, "another password"),
        (ANNA, 4096, SET, "somebody else"),
    ],
)
def test_a_password_is_set_and_the_reason_told(declared, iterations, kept, reason):
    found = {} if iterations is None else {"anna": iterations}
    done = plan_users([declared], found, kept)
    assert list(done.set_password) == ["anna"]
    assert reason in done.set_password["anna"]


def test_who_is_no_longer_declared_stays_unless_pruned_and_others_always_do():
    found = {"anna": 5000, "somebody": 4096}
    kept = plan_users([], found, SET)
    assert not kept.changed
    assert kept.rest == ("anna",)
    assert plan_users([], found, SET, prune=True).delete == ("anna",)
    assert not plan_users([], {"somebody": 4096}, SET, prune=True).changed


@pytest.mark.parametrize(
    ("users", "problem"),
    [
        ([ANNA, ANNA], "anna is declared twice"),
        ([User("a b", "long enough")], "'a b' is no name"),
        ([User("", "long enough")], "'' is no name"),
        ([User("anna", "short")], "fewer than 8 characters"),
    ],
)
def test_what_cannot_be_a_user_is_refused(users, problem):
    (refusal,) = plan_users(users, {}, {}).refused
    assert problem in refusal


def test_a_super_user_gets_no_password():
    (refusal,) = plan_users([User("kafka", "long enough")], {}, {}, reserved=["kafka"]).refused
    assert "kafka is a super user" in refusal


def test_no_text_holds_a_password():
    done = plan_users([User("anna", "short")], {}, {})
    assert "short" not in f"{done} {User('anna', 'short')}"
    facts = Fingerprint.of(ANNA.password, 5000).facts()
    assert ANNA.password not in str(facts)


def test_fingerprints_of_one_password_differ_and_survive_the_record():
    one, other = (Fingerprint.of(ANNA.password, 5000) for _ in range(2))
    assert one != other
    assert Fingerprint(**one.facts()).matches(ANNA.password)
    assert not one.matches("battery staple")


def test_iterations_are_never_those_of_kafkas_tools_nor_those_before():
    for _ in range(20):
        assert new_iterations(None) in ITERATIONS
        assert new_iterations(5000) != 5000
    assert 4096 not in ITERATIONS
    # Kafka's own limits.
    assert min(ITERATIONS) >= 4096
    assert max(ITERATIONS) <= 16384
