"""Who may talk to Kafka, and who may not: each is let in or refused as a client would see it.

What must be refused is tried beside what must not: a plant that is down refuses everybody.
"""

import json
import ssl
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from conftest import INVENTORY, ROOT, on, rest, run
from tls import METADATA, Authority, alert, answers, only, trusting

from flink_jobs import contracts
from flink_jobs.tools.kafka import Publisher, ToolError, read_all
from ops.plant import Plant

OUT = ROOT / "out"
HOSTS = ["node1", "node2", "node3"]
BY_CERTIFICATE = ["BROKER", "CONTROLLER", "OPERATOR"]
LISTENERS = ["CLIENT", *BY_CERTIFICATE]
WITHIN_S = 30

# Sent to a host with the secrets, by standard input: looks for them where others than their owner
# would see them, and where they are meant to be.
LOOK = """
import json, os, pathlib, stat, subprocess
def said(*command):
    return subprocess.run(command, capture_output=True, text=True, errors="replace").stdout
def shows(text):
    return any(secret in text for secret in secrets)
open_to_all, kept = [], []
for what, command in {
    "processes": ("ps", "axwwe"),
    "journal": ("journalctl", "--no-pager"),
    "units": ("systemctl", "show", "*"),
}.items():
    if shows(said(*command)):
        open_to_all.append(what)
for top in ("/etc", "/opt", "/run", "/srv", "/tmp", "/var"):
    for folder, _, files in os.walk(top):
        for file in map(pathlib.Path(folder).joinpath, files):
            about = file.lstat()
            if not stat.S_ISREG(about.st_mode) or about.st_size > 100_000_000:
                continue
            if "/journal/" in str(file) or not shows(file.read_bytes().decode("latin-1")):
                continue
            is_log = str(file).startswith("/var/log")
            (open_to_all if is_log or about.st_mode & 0o007 else kept).append(str(file))
print(json.dumps([open_to_all, kept]))
"""


@pytest.fixture(scope="module")
def settings(plant):
    """The inventory as it is evaluated."""
    return Plant(ROOT / INVENTORY)


@pytest.fixture(scope="module")
def passwords(settings):
    return settings.value("node1", "vault_kafka_passwords")


@pytest.fixture(scope="module")
def ca():
    return str(OUT / "pki" / INVENTORY.name / "ca.pem")


@pytest.fixture(scope="module")
def operator():
    return OUT / "pki" / INVENTORY.name / "operator" / "bundle.pem"


@pytest.fixture(scope="module")
def authority(plant):
    """The plant's own CA, whose key only the vault's password opens."""
    folder = ROOT / INVENTORY / "pki" / "ca"
    key = run("ansible-vault", "decrypt", "--output", "-", folder / "ca.key").stdout
    return Authority.of((folder / "ca.crt").read_bytes(), key.encode())


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
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert alert(*place, only(version, ca, operator)) is None
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
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


# Secrets


@pytest.mark.parametrize("host", HOSTS)
def test_no_password_lies_open_on_a_host(passwords, host):
    config = OUT / "hosts" / INVENTORY.name / "ssh_config"
    program = f"secrets = {sorted(passwords.values())!r}\n{LOOK}"
    found = run("ssh", "-F", config, host, "python3 -", input=program)
    open_to_all, kept = json.loads(found.stdout)
    assert open_to_all == []
    # It is able to find them: they are where only their readers come.
    assert {str(Path(file).parent) for file in kept} >= {"/etc/plantline/flink/kafka"}
    assert all(
        file.startswith("/etc/plantline/") or file.startswith("/var/lib/kafka/") for file in kept
    )


def test_no_password_is_shown_by_flink(passwords):
    paths = ["/jobmanager/config", "/jobmanager/environment", "/jobmanager/logs", "/jobs/overview"]
    jobs = rest("/jobs/overview")["jobs"]
    parts = ("", "/config", "/plan", "/exceptions", "/checkpoints/config")
    paths += [f"/jobs/{job['jid']}{part}" for job in jobs for part in parts]
    shown = {path: json.dumps(rest(path)) for path in paths}
    assert not [path for path, text in shown.items() for one in passwords.values() if one in text]
    assert len(jobs) > 0


def test_kafkas_own_tools_work_on_a_node_and_ask_for_no_password():
    java = "JAVA_HOME=/opt/plantline/java KAFKA_HEAP_OPTS=-Xmx128m"
    servers = on("node1", "sed -n 's/^bootstrap.servers=//p' /etc/plantline/kafka/admin.properties")
    listed = on(
        "node1",
        f"{java} /opt/plantline/kafka/bin/kafka-topics.sh --list --bootstrap-server {servers} "
        "--command-config /etc/plantline/kafka/admin.properties",
    )
    assert contracts.PREDICTIONS in listed.split()
