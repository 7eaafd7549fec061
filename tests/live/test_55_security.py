"""Who may talk to Kafka, and who may not: each is let in or refused as a client would see it.

What must be refused is tried beside what must not: a plant that is down refuses everybody.
"""

import json
import time

import pytest
import yaml
from authority import Authority
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from conftest import INVENTORY, on, run
from tls import FORGOTTEN, METADATA, SPOKEN, alert, answers, only, trusting

from flink_jobs import contracts
from flink_jobs.tools.kafka import Publisher, ToolError, read_all

HOSTS = ["node1", "node2", "node3"]
# Those that can be reached from here; test_57_ports asks all of them, from the hosts.
BY_CERTIFICATE = ["OPERATOR"]
LISTENERS = ["CLIENT", *BY_CERTIFICATE]
WITHIN_S = 30


@pytest.fixture(scope="module")
def passwords(plant):
    # Not by `settings`: Ansible remembers which files there were when this process first looked.
    vault = INVENTORY / "group_vars" / "all" / "vault.yml"
    return yaml.safe_load(run("ansible-vault", "view", vault).stdout)["vault_kafka_passwords"]


@pytest.fixture(scope="module")
def at(settings):
    """(address, port) of a listener of a host."""

    def found(host, listener):
        listeners = settings.value(host, "kafka_listeners", "kafka")
        return settings.value(host, "ansible_host"), listeners[listener]["port"]

    return found


@pytest.fixture(scope="module")
def program(at, ca):
    """Settings of a program that logs in by password."""
    servers = ",".join("{}:{}".format(*at(host, "CLIENT")) for host in HOSTS)

    def of(user, password):
        return {
            "bootstrap.servers": servers,
            "security.protocol": "sasl_ssl",
            "ssl.ca.location": ca,
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password,
        }

    return of


def outcome(config):
    """None if the brokers serve this client, or the code of the first error that it meets."""
    errors = []
    admin = AdminClient(config | {"error_cb": errors.append, "log_level": 0})
    deadline = time.monotonic() + WITHIN_S
    while not errors and time.monotonic() < deadline:
        try:
            admin.list_topics(timeout=1)
        except KafkaException:
            admin.poll(0.1)
        else:
            return None
    assert errors, "neither served nor refused"
    return errors[0].code()


# Encryption


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("host", HOSTS)
def test_plaintext_is_not_answered(at, ca, operator, host, listener):
    place = at(host, listener)
    assert answers(*place, trusting(ca, operator))
    assert not answers(*place)


# Python warns of the versions that are tried here to be refused.
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("host", HOSTS)
def test_tls_before_1_2_is_not_spoken(at, ca, operator, host, listener):
    place = at(host, listener)
    for version in SPOKEN:
        assert alert(*place, only(version, ca, operator)) is None
    for version in FORGOTTEN:
        # Said by the other side, not by our own library.
        assert alert(*place, only(version, ca, operator)) == "TLSV1_ALERT_PROTOCOL_VERSION"


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_client_can_tell_the_plant_from_somebody_else(at, tmp_path, listener):
    other = Authority.another().trust(tmp_path)
    assert alert(*at("node1", listener), trusting(str(other))) == "CERTIFICATE_VERIFY_FAILED"


# Certificates


@pytest.mark.parametrize("listener", BY_CERTIFICATE)
def test_who_has_no_certificate_is_refused(at, ca, operator, listener):
    assert answers(*at("node1", listener), trusting(ca, operator))
    assert not answers(*at("node1", listener), trusting(ca))


@pytest.mark.parametrize("listener", BY_CERTIFICATE)
def test_a_certificate_of_another_ca_is_refused(at, ca, tmp_path, listener):
    stranger = Authority.another().bundle("kafka", tmp_path)
    assert not answers(*at("node1", listener), trusting(ca, stranger))


@pytest.mark.parametrize("listener", BY_CERTIFICATE)
def test_an_expired_certificate_is_refused(at, ca, authority, tmp_path, listener):
    place = at("node1", listener)
    assert answers(*place, trusting(ca, authority.bundle("operator", tmp_path)))
    assert not answers(*place, trusting(ca, authority.bundle("operator", tmp_path, expired=True)))


def test_a_certificate_alone_gives_no_right(at, ca, authority, tmp_path):
    bundle = str(authority.bundle("guest", tmp_path))
    guest = {
        "bootstrap.servers": "{}:{}".format(*at("node1", "OPERATOR")),
        "security.protocol": "ssl",
        "ssl.ca.location": ca,
        "ssl.certificate.location": bundle,
        "ssl.key.location": bundle,
    }
    assert AdminClient(guest).list_topics(timeout=WITHIN_S).topics == {}


# Passwords


def test_a_program_with_its_password_is_served(program, passwords):
    for user, password in passwords.items():
        assert outcome(program(user, password)) is None


@pytest.mark.parametrize("user", ["plantline-exporter", "kafka", "operator", "nobody"])
def test_a_wrong_password_is_refused(program, user):
    assert outcome(program(user, "battery-staple")) == KafkaError._AUTHENTICATION


def test_nobody_is_told_of_topics_without_logging_in(at, ca, operator):
    assert answers(*at("node1", "OPERATOR"), trusting(ca, operator), METADATA)
    assert not answers(*at("node1", "CLIENT"), trusting(ca), METADATA)
    # A certificate is no password either.
    assert not answers(*at("node1", "CLIENT"), trusting(ca, operator), METADATA)


# Access


def test_a_program_sees_and_does_what_it_is_for_and_nothing_else(program, passwords, client):
    registry = program("plantline-registry", passwords["plantline-registry"])
    assert list(AdminClient(registry).list_topics(timeout=WITHIN_S).topics) == [contracts.MACHINES]
    assert any(read_all(registry, contracts.MACHINES))
    list(read_all(client, contracts.PREDICTIONS))
    with pytest.raises(ToolError, match="authorization"):
        list(read_all(registry, contracts.PREDICTIONS))
    with pytest.raises(ToolError, match="authorization"), Publisher(registry) as publisher:
        publisher.send(contracts.ALERTS, b"pump-001", b"{}")


def test_a_program_cannot_read_what_it_only_writes(program, passwords):
    heartbeat = program("plantline-heartbeat", passwords["plantline-heartbeat"])
    with pytest.raises(ToolError, match="authorization"):
        list(read_all(heartbeat, contracts.telemetry_topic(contracts.HEARTBEAT)))


@pytest.mark.parametrize(
    "user", ["plantline-exporter", "plantline-clock", "plantline-anomaly-pump"]
)
def test_no_program_administers(program, passwords, user):
    admin = AdminClient(program(user, passwords[user]))
    [made] = admin.create_topics([NewTopic("somebodys", 1)]).values()
    with pytest.raises(KafkaException) as refused:
        made.result(WITHIN_S)
    assert refused.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


def test_a_running_plant_is_not_left_open_by_half(at, ca, operator):
    before = on("node1", "sha256sum /etc/plantline/kafka/server.properties")
    plaintext = ["-e", json.dumps({"kafka_security": False})]
    done = run("ansible-playbook", "playbooks/kafka.yml", "-i", INVENTORY, *plaintext, check=False)
    assert done.returncode != 0
    assert "do not understand each other" in " ".join(done.stdout.split())
    assert on("node1", "sha256sum /etc/plantline/kafka/server.properties") == before
    assert answers(*at("node1", "OPERATOR"), trusting(ca, operator))


def test_kafkas_own_tools_work_on_a_node_and_ask_for_no_password():
    java = "JAVA_HOME=/opt/plantline/java KAFKA_HEAP_OPTS=-Xmx128m"
    servers = on("node1", "sed -n 's/^bootstrap.servers=//p' /etc/plantline/kafka/admin.properties")
    listed = on(
        "node1",
        f"{java} /opt/plantline/kafka/bin/kafka-topics.sh --list --bootstrap-server {servers} "
        "--command-config /etc/plantline/kafka/admin.properties",
    )
    assert contracts.PREDICTIONS in listed.split()
