"""Certificates, passwords and the CA change while readings pass: nothing lost, nothing doubled."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from exactly_once import balance, sent, windows_of
from program import Program, account

from flink_jobs import contracts
from flink_jobs.tools.kafka import Publisher
from flink_jobs.tools.stream import clock_reading, close_ts, event_time
from tests.live.conftest import INVENTORY, ROOT, eventually, note, on, playbook, run

HOSTS = ["node1", "node2", "node3"]
# The clock's user, since it may do both: write telemetry and read it.
USER = "plantline-clock"
JOB = "plantline-anomaly-pump"
CHANGE = ("ansible-playbook", "playbooks/ca_change.yml", "-i", str(INVENTORY))
WITHIN_S = 1800
# As OpenSSL, Java and Go say it.
REFUSED = re.compile(
    r"certificate verify failed|PKIX|bad[ _]certificate|certificate[ _]unknown"
    r"|unknown[ _](ca|authority|certificate)",
    re.IGNORECASE,
)


class Login:
    """What a program is given to log in; another password or CA counts from the next look on."""

    def __init__(self, settings, ca):
        port = settings.value("node1", "kafka_listeners", "kafka")["CLIENT"]["port"]
        servers = [f"{settings.value(host, 'ansible_host')}:{port}" for host in HOSTS]
        self._ca = ca
        self._servers = ",".join(servers)
        self.password = password_of(USER)

    def __call__(self):
        return {
            "bootstrap.servers": self._servers,
            "security.protocol": "sasl_ssl",
            "ssl.ca.pem": self._ca.read_text(),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": USER,
            "sasl.password": self.password,
        }


def password_of(user):
    vault = ROOT / INVENTORY / "group_vars" / "all" / "vault.yml"
    values = yaml.safe_load(run("ansible-vault", "view", vault).stdout)
    return values["vault_kafka_passwords"][user]


@pytest.fixture
def login(settings, pki):
    return Login(settings, pki / "ca.pem")


def close(client, kind, last):
    """Event time goes on past the last window of the readings, as no machine sends any more."""
    with Publisher(client) as publisher:
        for partition in range(kind.partitions):
            clock = clock_reading(close_ts(last, kind))
            topic = contracts.telemetry_topic(kind.name)
            publisher.send(topic, contracts.CLOCK.encode(), clock, partition)


@pytest.fixture
def passing(login, kind, client):
    """Readings that pass meanwhile; calling it ends them and looks what became of each."""
    closed = event_time(client, kind) or 0
    eventually("the present is past what was closed", lambda: time.time() * 1000 > closed, 120)
    with Program(login, kind) as program:
        eventually("readings pass", lambda: program.read or program.errors, 60)

        def finished():
            program.finish()
            assert program.errors == []
            kept = sent(client, kind, program.machines)
            result = account(program, kept)
            note(str(result))
            assert result.exact, str(result)
            # And the job has scored each window once.
            close(client, kind, max(ts for _, ts in kept))
            windows = balance(client, windows_of(kept, kind), within_s=420)
            note(f"windows: {windows}")
            assert windows.exact, str(windows)

        yield finished


def certificates():
    """The certificates of all hosts, by where they are."""
    found = {}
    for host in HOSTS:
        for line in on(host, "sha256sum /etc/plantline/pki/*/cert.pem").splitlines():
            digest, file = line.split()
            found[host, file] = digest
    return found


def nothing_is_left_to_do():
    """Another run changes nothing, and no program is refused for whom it trusts meanwhile."""
    since = {host: on(host, "date +%s") for host in HOSTS}
    _, recap = playbook("site.yml")
    assert sum(counts["changed"] for counts in recap.values()) == 0
    for host in HOSTS:
        said = on(host, f"journalctl --no-pager --since @{since[host]} -o short")
        refused = [line for line in said.splitlines() if REFUSED.search(line)]
        assert refused == [], (host, refused[:5])


def test_every_certificate_is_renewed(passing):
    before = certificates()
    due = {"pki_renew_before_days": 400, "pki_validity_days": 500}
    playbook("site.yml", "-e", json.dumps(due))
    after = certificates()
    assert before.keys() == after.keys()
    assert not [place for place, digest in after.items() if before[place] == digest]
    passing()
    nothing_is_left_to_do()


def refusal(config):
    """The code of the error with which a broker refuses a new connection; None if it does not."""
    errors = []
    admin = AdminClient(config | {"error_cb": errors.append, "log_level": 0})

    def answered():
        try:
            admin.list_topics(timeout=1)
        except KafkaException:
            admin.poll(0.1)
        else:
            return True
        return bool(errors)

    eventually("served or refused", answered, 30)
    return errors[0].code() if errors else None


def test_passwords_change_under_a_program_and_a_job(passing, login):
    old = login()
    for user in (USER, JOB):
        run(sys.executable, "tools/vault.py", "rotate", INVENTORY, f"vault_kafka_passwords.{user}")
    playbook("site.yml")
    assert refusal(old) == KafkaError._AUTHENTICATION
    login.password = password_of(USER)
    assert refusal(login()) is None
    passing()
    nothing_is_left_to_do()


def changing(log, moment):
    """Runs the change of CA to its end, or kills it once `moment` is true of what it has said."""
    with log.open("w") as output:
        process = subprocess.Popen(
            CHANGE,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        eventually(
            f"killed or over, see {log}",
            lambda: process.poll() is not None or moment(log.read_text()),
            WITHIN_S,
        )
    finally:
        if process.poll() is None:
            # With the processes it has for its hosts.
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def half_done(phase):
    """Whether a run is so far: the phase has begun, and a node is restarted for it."""
    return lambda said: "[kafka : Restart Kafka]" in said.partition(f"{phase} of 3: ")[2]


def test_the_ca_changes_though_the_run_is_killed_in_each_phase(passing, pki, tmp_path):
    folder = ROOT / INVENTORY / "pki"
    old = (folder / "ca" / "ca.crt").read_text()
    for phase, beside in enumerate(("next", "previous", "dropped"), 1):
        code = changing(tmp_path / f"{phase}.log", half_done(phase))
        assert code == -signal.SIGKILL, f"over before it was killed, see {tmp_path}"
        assert sorted(path.name for path in folder.iterdir()) == ["ca", beside]
    code = changing(tmp_path / "last.log", lambda _: False)
    assert code == 0, (tmp_path / "last.log").read_text()[-3000:]
    assert [path.name for path in folder.iterdir()] == ["ca"]
    new = (folder / "ca" / "ca.crt").read_text().strip()
    assert new != old.strip()
    trusted = [on(host, "cat /etc/plantline/pki/ca.pem") for host in HOSTS]
    assert [*trusted, (pki / "ca.pem").read_text().strip()] == [new] * 4
    passing()
    nothing_is_left_to_do()
