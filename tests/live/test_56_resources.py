"""Topics, users, access rules and quotas as declared: what their users can and cannot do."""

import json
import time

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from conftest import INVENTORY, ROOT, on

from ops.plant import Plant
from tests.resources import RECORDS, declare

TOPIC = "test-resources"
HOST = "node1"
LISTENER, PROTOCOL = "CLIENT", "sasl_ssl"
# Of nobody else: the test looks for them where they must not be.
PASSWORDS = {"test-writer": "canary-writes-1", "test-reader": "canary-reads-1"}
RECORD = "kafka-tests"
WITHIN_S = 30
TOOLS = "JAVA_HOME=/opt/plantline/java KAFKA_HEAP_OPTS=-Xmx128m /opt/plantline/kafka/bin/"
ADMIN = "/etc/plantline/kafka/admin.properties"


def may(user, operation, resource, name):
    return {
        "principal": f"User:{user}",
        "operations": [operation],
        "resource": resource,
        "name": name,
    }


DECLARED = {
    "kafka_topics": [{"name": TOPIC, "partitions": 1}],
    "kafka_users": list(PASSWORDS),
    "kafka_passwords": PASSWORDS,
    "kafka_acls": [
        may("test-writer", "write", "topic", TOPIC),
        may("test-reader", "read", "topic", TOPIC),
        may("test-reader", "read", "group", "test-readers"),
    ],
    "kafka_quotas": [{"user": "test-writer", "producer_byte_rate": 12345678}],
}


@pytest.fixture(scope="module")
def declared(plant):
    """The first run that declares them."""
    first = declare(INVENTORY, RECORD, "-vvv", "--diff", **DECLARED)
    yield first
    last = declare(INVENTORY, RECORD, kafka_prune=True, kafka_confirmed_topics=[TOPIC])
    assert last.ok, last.output


@pytest.fixture(scope="module")
def login(declared):
    """Settings of a client that logs in, with its password unless another is given."""
    plant = Plant(ROOT / INVENTORY)
    port = plant.value(HOST, "kafka_listeners", "kafka")[LISTENER]["port"]
    address = plant.value(HOST, "ansible_host")

    def of(user, password=None):
        return {
            "bootstrap.servers": f"{address}:{port}",
            "security.protocol": PROTOCOL,
            "ssl.ca.location": str(ROOT / "out" / "pki" / INVENTORY.name / "ca.pem"),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password or PASSWORDS[user],
            "log_level": 0,
        }

    return of


def write(config, value):
    """What becomes of a record: None, or the code of the error."""
    reports = []
    producer = Producer(config | {"message.timeout.ms": WITHIN_S * 1000})
    producer.produce(TOPIC, value, b"key", on_delivery=lambda error, _: reports.append(error))
    producer.flush(WITHIN_S)
    assert reports, "no report"
    return reports[0] and reports[0].code()


def read(config, count):
    """The values of the first records, read as a group; raises KafkaException."""
    group = {"group.id": "test-readers", "auto.offset.reset": "earliest"}
    consumer = Consumer(config | group | {"enable.auto.commit": False})
    consumer.subscribe([TOPIC])
    values = []
    deadline = time.monotonic() + WITHIN_S
    try:
        while len(values) < count and time.monotonic() < deadline:
            for message in consumer.consume(count, 1):
                if message.error():
                    raise KafkaException(message.error())
                values.append(message.value())
    finally:
        consumer.close()
    return values


def outcome(config):
    """None where the user is let in, or the code of the error."""
    errors = []
    admin = AdminClient(config | {"error_cb": errors.append})
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


def kafka_configs(arguments):
    servers = f"$(sed -n 's/^bootstrap.servers=//p' {ADMIN})"
    options = f"--bootstrap-server {servers} --command-config {ADMIN}"
    return on(HOST, f"{TOOLS}kafka-configs.sh {options} {arguments}")


def test_they_are_made_once(declared):
    assert declared.ok, declared.output
    assert declared.changed == 4
    again = declare(INVENTORY, RECORD, **DECLARED)
    assert again.ok, again.output
    assert again.changed == 0
    dry = declare(INVENTORY, RECORD, "--check", "--diff", **DECLARED)
    assert dry.ok, dry.output
    assert dry.changed == 0


def test_users_do_what_they_may(login):
    assert write(login("test-writer"), b"1") is None
    assert read(login("test-reader"), 1) == [b"1"]


def test_users_do_nothing_else(login):
    refused = KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert write(login("test-reader"), b"2") == refused
    with pytest.raises(KafkaException) as caught:
        read(login("test-writer"), 1)
    assert caught.value.args[0].code() in (refused, KafkaError.GROUP_AUTHORIZATION_FAILED)


def test_a_wrong_password_is_refused(login):
    assert outcome(login("test-reader")) is None
    assert outcome(login("test-reader", "battery-staple")) == KafkaError._AUTHENTICATION


def test_kafkas_own_tools_see_the_quota(declared):
    described = kafka_configs("--describe --entity-type users --entity-name test-writer")
    assert "producer_byte_rate=1.2345678E7" in described


def test_no_password_is_shown_or_kept(declared):
    kept = on(HOST, f"cat {RECORDS}/{RECORD}/*.json")
    assert "test-writer" in kept
    journal = on(HOST, "journalctl --no-pager -q -t python3 -t ansible-kafka_users --since -1hour")
    assert "test-writer" in journal
    assert "test-writer" in declared.output
    for text in (declared.output, kept, journal):
        assert not [password for password in PASSWORDS.values() if password in text]
    assert on(HOST, f"stat -c %a:%U {RECORDS}/{RECORD}/users.json") == "600:root"


def test_a_password_set_by_hand_is_set_back(login):
    by_hand = "battery-staple"
    change = f"--add-config 'SCRAM-SHA-512=[password={by_hand}]'"
    kafka_configs(f"--alter --entity-type users --entity-name test-reader {change}")
    dry = declare(INVENTORY, RECORD, "--check", "--diff", **DECLARED)
    assert "changed by somebody else" in dry.output
    done = declare(INVENTORY, RECORD, **DECLARED)
    assert done.changed == 1, done.output
    assert outcome(login("test-reader")) is None
    assert outcome(login("test-reader", by_hand)) == KafkaError._AUTHENTICATION


def test_another_password_is_set_and_the_old_one_refused(login):
    passwords = PASSWORDS | {"test-reader": "canary-reads-2"}
    done = declare(INVENTORY, RECORD, **DECLARED | {"kafka_passwords": passwords})
    assert done.changed == 1, done.output
    assert outcome(login("test-reader", passwords["test-reader"])) is None
    assert outcome(login("test-reader")) == KafkaError._AUTHENTICATION
    assert declare(INVENTORY, RECORD, **DECLARED).changed == 1
    assert outcome(login("test-reader")) is None


def test_a_topic_with_records_grows_only_by_its_name(login):
    assert write(login("test-writer"), b"3") is None
    wider = DECLARED | {"kafka_topics": [{"name": TOPIC, "partitions": 2}]}
    refused = declare(INVENTORY, RECORD, **wider)
    assert not refused.ok
    assert "readers may see a machine's new records before its old ones" in refused.output
    done = declare(INVENTORY, RECORD, **wider | {"kafka_confirmed_topics": [TOPIC]})
    assert done.ok, done.output
    assert len(AdminClient(login("test-writer")).list_topics(TOPIC).topics[TOPIC].partitions) == 2
    back = declare(INVENTORY, RECORD, **DECLARED)
    assert not back.ok
    assert "taking partitions away would delete their records" in back.output


def test_what_is_no_longer_declared_is_told_and_goes_only_when_asked_for(login):
    wider = DECLARED | {"kafka_topics": [{"name": TOPIC, "partitions": 2}]}
    fewer = wider | {"kafka_users": ["test-writer"]}
    kept = declare(INVENTORY, RECORD, **fewer)
    assert kept.changed == 0, kept.output
    assert "No longer declared, and still there: users test-reader" in kept.output
    assert outcome(login("test-reader")) is None
    done = declare(INVENTORY, RECORD, **fewer | {"kafka_prune": True})
    assert done.changed == 1, done.output
    assert outcome(login("test-reader")) == KafkaError._AUTHENTICATION
    # What the plant itself declared is none of ours.
    record = json.loads(on(HOST, f"cat {RECORDS}/kafka/users.json"))
    described = kafka_configs("--describe --entity-type users")
    assert all(user in described for user in record["items"])


def test_a_topic_with_records_is_deleted_only_by_its_name(declared):
    nothing = {name: value for name, value in DECLARED.items() if name != "kafka_topics"}
    refused = declare(INVENTORY, RECORD, **nothing | {"kafka_prune": True})
    assert not refused.ok
    assert f"{TOPIC} holds up to" in refused.output
    assert f"-e kafka_confirmed_topics={TOPIC}" in refused.output
