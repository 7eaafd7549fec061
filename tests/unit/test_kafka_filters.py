"""What programs are told about Kafka: how to reach it, and who they are."""

import json

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter.kafka import kafka_client, kafka_jaas, kafka_login

PASSWORDS = {"plantline-clock": "battery-staple"}


def test_programs_check_whom_they_talk_to_before_they_name_themselves():
    settings = kafka_client("a:9092,b:9092", security=True)
    assert settings["bootstrap.servers"] == "a:9092,b:9092"
    assert settings["security.protocol"] == "sasl_ssl"
    assert settings["ssl.ca.location"] == "/etc/plantline/pki/ca.pem"


def test_a_program_has_its_own_password_and_nothing_else_does():
    settings = kafka_client("a:9092", security=True)
    login = kafka_login(settings, "plantline-clock", PASSWORDS)
    assert login["sasl.username"] == "plantline-clock"
    assert login["sasl.password"] == "battery-staple"
    assert "battery-staple" not in json.dumps(settings)


def test_where_kafka_asks_nobody_no_password_is_needed_or_told():
    plain = kafka_client("a:9092", security=False)
    assert plain == {"bootstrap.servers": "a:9092"}
    assert kafka_login(plain, "plantline-clock", PASSWORDS) == plain
    assert kafka_login(plain, "somebody", {}) == plain


def test_java_gets_the_same_login():
    assert kafka_jaas("plantline-clock", PASSWORDS) == (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="plantline-clock" password="battery-staple";'
    )


@pytest.mark.parametrize(
    "login", [kafka_jaas, lambda *who: kafka_login({"sasl.mechanism": ""}, *who)]
)
def test_a_user_without_a_password_is_named(login):
    with pytest.raises(AnsibleFilterError, match="user pump-gateway has no password"):
        login("pump-gateway", PASSWORDS)


@pytest.mark.parametrize("password", ['a"b', "a\\b", "a'b", "a\nb", "käse"])
def test_a_password_that_would_end_its_quotes_is_refused_and_not_shown(password):
    with pytest.raises(AnsibleFilterError) as refused:
        kafka_jaas("u", {"u": password})
    assert password not in str(refused.value)
