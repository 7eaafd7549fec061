"""A Kafka that speaks plaintext becomes a secured one while programs write to it and read from it.

`make drill-moving-in`. Three hosts of its own, made for it and removed afterwards; nothing of the
demo is touched. The playbook is interrupted in the middle of a restart, twice, and run again.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
import yaml
from exactly_once import sent
from program import Program, account

from flink_jobs.plant import load_plant
from flink_jobs.tools.kafka import read_config
from ops.plant import Plant
from tests.live.conftest import ROOT, eventually, note, run

PAGE = ROOT / "docs" / "operations" / "moving_in.md"
# What the page tells people to declare is what is declared here.
[DECLARED] = (
    yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
)
ENDED = {name: value for name, value in DECLARED.items() if name != "kafka_plaintext_listeners"}

NAME = "moving"
HOSTS = {f"mv{number}": f"10.203.81.1{number}" for number in (1, 2, 3)}
CONTROL_NODE = "10.203.81.1"
USER = "drill"
OLD = {name: about["port"] for name, about in DECLARED["kafka_plaintext_listeners"].items()}
NEW = {name: about["port"] for name, about in DECLARED["kafka_listeners"].items()}
# What Kafka needs of a plant; the rest of the plant is not here.
ONLY_KAFKA = ("--skip-tags", "flink,jobs,monitoring")
# Clients may wait for the new leaders of a restarted node's partitions, as in any rolling restart.
LONGEST_GAP_S = 15

ALL_HOSTS = {"hosts": {name: {} for name in HOSTS}}
FILES = {
    "hosts.yml": {
        "all": {
            "hosts": {
                name: {"ansible_host": address, "kafka_node_id": number}
                for number, (name, address) in enumerate(HOSTS.items(), 1)
            }
        },
        "kafka": {"children": {"kafka_controllers": ALL_HOSTS, "kafka_brokers": ALL_HOSTS}},
        "flink": {
            "children": {
                "flink_masters": {"hosts": {"mv1": {}}},
                "flink_workers": {"hosts": {"mv1": {}}},
            }
        },
    },
    "group_vars/all/plant.yml": {
        "plant": {
            "name": NAME,
            "heartbeat": False,
            "machine_types": {
                "pump": {
                    "window_s": 30,
                    "slide_s": 10,
                    "channels": {"pressure": {"unit": "bar", "valid": [0, 16]}},
                }
            },
            "machines": [],
        }
    },
    "group_vars/all/hosts.yml": {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": f"out/hosts/{NAME}/id_ed25519",
        "ansible_ssh_common_args": f"-o UserKnownHostsFile=out/hosts/{NAME}/known_hosts "
        "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
        "host_memory_mb": 4096,
        "firewall_operators": [CONTROL_NODE],
        "kafka_metrics": False,
        "kafka_users": [USER],
        "kafka_acls": [
            {
                "principal": f"User:{USER}",
                "resource": resource,
                "name": name,
                "operations": operations,
            }
            for resource, name, operations in (
                ("topic", "telemetry.pump", ["read", "write"]),
                ("group", USER, ["read"]),
            )
        ],
    },
}


def on(host, command):
    """Output of a shell command on a host."""
    config = ROOT / "out" / "hosts" / NAME / "ssh_config"
    return run("ssh", "-F", config, host, command).stdout.strip()


def answers(host, port):
    """Whether something takes connections there."""
    try:
        socket.create_connection((HOSTS[host], port), 5).close()
    except OSError:
        return False
    return True


def starts():
    """Host -> how often its Kafka was started since it was made."""
    count = "journalctl -u kafka -o cat | grep -c '^Started kafka.service' || true"
    return {host: int(on(host, count)) for host in HOSTS}


def changed(done):
    """How many tasks changed something on the hosts of a plant."""
    return sum(map(int, re.findall(r"changed=(\d+)", done.stdout.split("PLAY RECAP")[1])))


def works(program):
    """Whether records come through from writing to reading, and none was refused."""
    before = len(program.read)
    eventually("records come through", lambda: len(program.read) > before + 100, 60)
    return program.errors == []


class Fleet:
    """The hosts, their inventory, and the playbooks that are run on them."""

    def __init__(self, folder):
        self.inventory = folder / NAME
        self.clients = folder / "clients"
        for name, content in FILES.items():
            file = self.inventory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(yaml.safe_dump(content, sort_keys=False))

    def declare(self, variables):
        clients = {"kafka_client_dir": str(self.clients)}
        file = self.inventory / "group_vars" / "all" / "kafka.yml"
        file.write_text(yaml.safe_dump(variables | clients))

    def command(self, name, *arguments):
        return ["ansible-playbook", name, "-i", str(self.inventory), *ONLY_KAFKA, *arguments]

    def playbook(self, name, *arguments, check=True):
        begin = time.monotonic()
        done = run(*self.command(name, *arguments), check=check, stdin=subprocess.DEVNULL)
        seconds = time.monotonic() - begin
        note(f"{name} {' '.join(arguments)}: {seconds:.0f} s, exit code {done.returncode}")
        return done

    def interrupted(self, name, when):
        """Runs a playbook and stops it, as Ctrl-C does, once `when()` is true."""
        with subprocess.Popen(
            self.command(name),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            eventually("the moment to interrupt", lambda: process.poll() is not None or when(), 600)
            assert process.poll() is None, "it ended before it could be interrupted"
            os.killpg(process.pid, signal.SIGINT)
            assert process.wait(120) != 0

    def in_plaintext(self):
        """Settings of a program as it was before; a name is not asked for."""
        servers = ",".join(f"{address}:{OLD['CLIENT']}" for address in HOSTS.values())
        return {"bootstrap.servers": servers, "sasl.username": USER}

    def by_password(self):
        """Settings of a program that logs in."""
        passwords = Plant(self.inventory).value("mv1", "vault_kafka_passwords")
        return {
            "bootstrap.servers": ",".join(f"{a}:{NEW['CLIENT']}" for a in HOSTS.values()),
            "security.protocol": "sasl_ssl",
            "ssl.ca.location": str(ROOT / "out" / "pki" / NAME / "ca.pem"),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": USER,
            "sasl.password": passwords[USER],
        }

    @property
    def kind(self):
        return load_plant(self.inventory / "group_vars" / "all" / "plant.yml").machine_types["pump"]

    def settle(self, name, program):
        """Ends a program, and looks what became of each record."""
        program.finish()
        assert program.errors == []
        operator = read_config(self.clients / "client.conf")
        became = account(program, sent(operator, self.kind, program.machines))
        note(f"{name}: {became}")
        assert became.exact
        assert became.acknowledged_gap_s < LONGEST_GAP_S


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    """Three hosts whose Kafka speaks plaintext."""
    made = Fleet(tmp_path_factory.mktemp("inventories"))
    hosts = [sys.executable, "tools/hosts.py"]
    run(*hosts, "down", made.inventory)
    try:
        run(*hosts, "up", made.inventory)
        made.declare({"kafka_security": False})
        run(sys.executable, "tools/vault.py", "make", made.inventory)
        made.playbook("site.yml")
        yield made
    finally:
        if not os.environ.get("PLANTLINE_KEEP"):
            run(*hosts, "down", made.inventory)
            shutil.rmtree(ROOT / "out" / "pki" / NAME, ignore_errors=True)


@pytest.fixture(scope="module")
def old(fleet):
    """In plaintext, from before until plaintext ends."""
    login = fleet.in_plaintext()
    with Program(lambda: login, fleet.kind) as program:
        assert works(program)
        yield program


@pytest.fixture(scope="module")
def new(fleet):
    """The same program, once it logs in."""
    login = fleet.by_password()
    with Program(lambda: login, fleet.kind) as program:
        assert works(program)
        yield program


def test_without_the_steps_a_running_plant_is_not_touched(fleet, old):
    before = starts()
    fleet.declare({})
    refused = fleet.playbook("site.yml", check=False)
    assert refused.returncode != 0
    told = " ".join(refused.stdout.split())
    assert "do not understand each other" in told
    assert "playbooks/moving_in.yml" in told
    assert starts() == before
    assert works(old)


def test_a_dry_run_on_a_plant_in_plaintext_goes_through(fleet, old):
    fleet.declare(DECLARED)
    before = starts()
    fleet.playbook("playbooks/moving_in.yml", "--check", "--diff")
    assert starts() == before


def test_the_plant_moves_in_although_each_roll_is_interrupted(fleet, old):
    before = starts()
    fleet.interrupted(
        "playbooks/moving_in.yml", lambda: any(answers(host, NEW["CLIENT"]) for host in HOSTS)
    )
    assert not all(answers(host, NEW["CLIENT"]) for host in HOSTS)
    assert works(old)

    def second_roll():
        return max(times - before[host] for host, times in starts().items()) >= 2

    fleet.interrupted("playbooks/moving_in.yml", second_roll)
    assert not all(times - before[host] >= 2 for host, times in starts().items())
    assert works(old)

    done = fleet.playbook("playbooks/moving_in.yml")
    assert f"{CONTROL_NODE} (CLIENT, " in done.stdout
    # One restart for each step, and none twice.
    assert starts() == {host: times + 2 for host, times in before.items()}
    assert works(old)


def test_moved_in_nothing_changes(fleet, old):
    before = starts()
    assert changed(fleet.playbook("playbooks/moving_in.yml")) == 0
    assert changed(fleet.playbook("site.yml")) == 0
    assert starts() == before


def test_the_nodes_speak_plaintext_no_more(fleet):
    ports = " or ".join(f"sport = :{OLD[name]}" for name in ("BROKER", "CONTROLLER"))
    replicas = f"ss -Htn state established '( sport = :{NEW['BROKER']} )'"
    for host in HOSTS:
        assert on(host, f"ss -Htn state established '( {ports} )'") == ""
    # Nobody follows a node that leads nothing just now.
    assert any(on(host, replicas) for host in HOSTS)


def test_plaintext_does_not_end_while_somebody_needs_it(fleet, old, new):
    before = starts()
    fleet.declare(ENDED)
    refused = fleet.playbook("site.yml", check=False)
    assert refused.returncode != 0
    assert f"still connected are {CONTROL_NODE} (CLIENT, " in " ".join(refused.stdout.split())
    assert starts() == before
    assert works(old)
    assert works(new)


def test_plaintext_ends_when_nobody_needs_it(fleet, old, new):
    before = starts()
    fleet.settle("in plaintext, until its end", old)
    fleet.playbook("site.yml")
    assert works(new)
    assert starts() == {host: times + 1 for host, times in before.items()}
    for host in HOSTS:
        assert not any(answers(host, port) for port in OLD.values())
        assert answers(host, NEW["CLIENT"])
    assert changed(fleet.playbook("site.yml")) == 0
    fleet.settle("by password, beyond the end of plaintext", new)
