"""Who may connect to what, by the inventory; and a file whose mistakes cannot shut Ansible out."""

import json
import os
import stat
import subprocess
import sys

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from test_roles import ROOT  # it makes Ansible's plugins known to this process

from ops import probe
from plugins.action import guarded_file as guarded_action
from plugins.action.firewall_rules import addresses
from plugins.action.preflight import Reader
from plugins.module_utils import firewall, preflight_inventory

# A plant in which every task has hosts of its own, and one host all tasks of Kafka.
HOSTS = {
    "kc1": {"ansible_host": "192.0.2.11", "kafka_node_id": 1},
    "kb1": {"ansible_host": "192.0.2.21", "kafka_node_id": 2, "kafka_address": "198.51.100.21"},
    "kb2": {"ansible_host": "192.0.2.22", "kafka_node_id": 3},
    "fm1": {"ansible_host": "192.0.2.31"},
    "fw1": {"ansible_host": "192.0.2.41", "firewall_addresses": ["198.51.100.41"]},
    "mon1": {"ansible_host": "192.0.2.51"},
}
GROUPS = {
    "kafka_controllers": ["kc1"],
    "kafka_brokers": ["kb1", "kb2"],
    "flink_masters": ["fm1"],
    "flink_workers": ["fw1"],
    "monitoring": ["mon1"],
}
KAFKA = {"192.0.2.11", "192.0.2.21", "198.51.100.21", "192.0.2.22"}
FLINK = {"192.0.2.31", "192.0.2.41", "198.51.100.41"}
MONITORING = {"192.0.2.51"}
OPERATORS = {"203.0.113.0/24"}
CLIENTS = {"203.0.113.7", "2001:db8::/32"}


def read(folder, **variables):
    """The inventory of the plant above, as preflight and the firewall see it."""
    groups = {group: {"hosts": dict.fromkeys(names)} for group, names in GROUPS.items()}
    for parent in ("kafka", "flink"):
        groups[parent] = {"children": {g: {} for g in GROUPS if g.startswith(f"{parent}_")}}
    file = folder / "hosts.yml"
    file.write_text(yaml.safe_dump({"all": {"hosts": HOSTS, "vars": variables}} | groups))
    loader = DataLoader()
    loader.set_basedir(str(ROOT / "playbooks"))
    hosts = InventoryManager(loader, sources=[str(file)])
    manager = VariableManager(loader, hosts)
    members = {group: [h.name for h in about.get_hosts()] for group, about in hosts.groups.items()}
    reader = Reader(loader, {"hostvars": HostVars(hosts, manager, loader), "groups": members})
    inventory, mistyped = preflight_inventory.typed_values(reader.inventory({}))
    assert not mistyped
    return inventory


def admitted(inventory, host):
    """Port -> networks that may connect."""
    rules = firewall.rules(inventory, inventory.hosts[host], addresses)
    ports = [rule.port for rule in rules]
    assert len(set(ports)) == len(ports)
    return {rule.port: set(rule.sources) for rule in rules}


@pytest.fixture(scope="module")
def plant(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plant")
    return read(folder, firewall_operators=sorted(OPERATORS), firewall_clients=sorted(CLIENTS))


# Who may connect


def test_a_broker_takes_each_of_its_peers_where_it_needs_to(plant):
    own = {"192.0.2.21", "198.51.100.21"}
    # An address inside a network that is named as well adds nothing.
    outside = OPERATORS | {"2001:db8::/32"}
    found = admitted(plant, "kb1")
    assert found[9092] == (KAFKA - own) | FLINK | outside
    assert found[9094] == {"192.0.2.22"}
    assert found[7071] == found[9100] == MONITORING
    assert 9093 not in found, "brokers are no controllers"
    assert 8081 not in found


def test_the_quorum_is_for_kafkas_own_hosts(plant):
    assert admitted(plant, "kc1")[9093] == KAFKA - {"192.0.2.11"}


def test_flinks_processes_reach_each_other_and_nobody_else_reaches_them(plant):
    master, worker = admitted(plant, "fm1"), admitted(plant, "fw1")
    assert master[8081] == (FLINK - {"192.0.2.31"}) | OPERATORS
    for port in (6123, 6124, 6125):
        assert master[port] == FLINK - {"192.0.2.31"}
    for port in (6121, 6122, 6126):
        assert worker[port] == {"192.0.2.31"}


def test_figures_are_for_monitoring_and_its_pages_for_operators(plant):
    assert admitted(plant, "fm1")[9249] == admitted(plant, "fw1")[9250] == MONITORING
    pages = admitted(plant, "mon1")
    assert pages[9090] == pages[9095] == OPERATORS
    assert 9100 not in pages, "Prometheus reaches its own host without a rule"


def test_ssh_is_for_operators_and_to_workers_for_masters(plant):
    for host in ("kc1", "kb1", "fm1", "mon1"):
        assert admitted(plant, host)[22] == OPERATORS
    assert admitted(plant, "fw1")[22] == OPERATORS | {"192.0.2.31"}


def test_probe_may_measure_the_ways_between_all_hosts(plant):
    for host in plant.hosts:
        own = {HOSTS[host]["ansible_host"], HOSTS[host].get("kafka_address")}
        own |= set(HOSTS[host].get("firewall_addresses", ()))
        assert admitted(plant, host)[probe.PORT] == (KAFKA | FLINK | MONITORING) - own


def test_without_declared_operators_only_ssh_is_open(tmp_path):
    inventory = read(tmp_path)
    plants_own = KAFKA | FLINK | MONITORING
    for host in inventory.hosts:
        found = admitted(inventory, host)
        assert found.pop(22) == {"0.0.0.0/0", "::/0"}
        assert all(sources <= plants_own for sources in found.values())


def test_ssh_is_let_in_where_ansible_finds_it(tmp_path):
    found = admitted(read(tmp_path, ansible_port=2222), "kc1")
    assert 2222 in found
    assert 22 not in found


def test_a_listener_of_the_plants_own_is_for_programs(tmp_path):
    listeners = {
        name: {"port": port, "protocol": "SSL"}
        for name, port in {"CLIENT": 9092, "BROKER": 9094, "CONTROLLER": 9093, "MES": 9192}.items()
    }
    networks = {"firewall_clients": ["203.0.113.7"]}
    found = admitted(read(tmp_path, kafka_listeners=listeners, **networks), "kb2")
    assert found[9192] == found[9092] >= {"203.0.113.7"}


def test_listeners_of_before_are_open_to_the_same_until_they_go(tmp_path):
    before = {
        name: {"port": port, "protocol": "PLAINTEXT"}
        for name, port in {"CLIENT": 9292, "BROKER": 9294, "CONTROLLER": 9293}.items()
    }
    networks = {"firewall_clients": ["203.0.113.7"]}
    inventory = read(tmp_path, kafka_plaintext_listeners=before, **networks)
    broker, controller = admitted(inventory, "kb2"), admitted(inventory, "kc1")
    assert broker[9292] == broker[9092] >= {"203.0.113.7"}
    assert broker[9294] == broker[9094]
    assert controller[9293] == controller[9093]
    assert 9293 not in broker


def test_what_else_runs_on_a_host_is_declared(tmp_path):
    more = [
        {"port": 5666, "from": ["203.0.113.5"], "reason": "the plant's own monitoring"},
        {"port": 161, "protocol": "udp", "reason": "the plant's own monitoring"},
    ]
    inventory = read(tmp_path, firewall_additional=more)
    *_, tcp, udp = firewall.rules(inventory, inventory.hosts["kc1"], addresses)
    assert (tcp.protocol, tcp.sources) == ("tcp", ("203.0.113.5",))
    assert (udp.protocol, udp.sources) == ("udp", ("0.0.0.0/0", "::/0"))


def test_a_hosts_name_stands_for_all_its_addresses(tmp_path):
    inventory = read(tmp_path, kafka_address="broker.example")
    known = {"broker.example": ["198.51.100.1", "2001:db8::1"]}
    rules = firewall.rules(
        inventory, inventory.hosts["kb2"], lambda name: known.get(name) or addresses(name)
    )
    [replication] = [rule for rule in rules if rule.port == 9094]
    assert replication.by_family == {"ip": ["192.0.2.21", "198.51.100.21"]}
    [clients] = [rule for rule in rules if rule.port == 9092]
    assert "198.51.100.1" in clients.by_family["ip"]
    assert clients.by_family["ip6"] == ["2001:db8::1"]


def test_networks_inside_others_are_left_out():
    given = ["10.1.2.3", "10.0.0.0/8", "192.0.2.7/24", "2001:db8::1", "2001:db8::/64"]
    assert firewall.collapsed(given) == ("10.0.0.0/8", "192.0.2.0/24", "2001:db8::/64")


def test_a_name_that_nobody_knows_stops_the_run():
    with pytest.raises(OSError, match=r"cannot resolve 'nowhere\.invalid'"):
        addresses("nowhere.invalid")


# The file that may not shut Ansible out

# Stands in for systemd: a unit is the command that its timer would run.
SYSTEMD_RUN = """#!/bin/sh
for last; do :; done
for argument; do case $argument in --unit=*) unit=${argument#--unit=};; esac; done
printf %s "$last" > "$FAKE/$unit"
"""
SYSTEMCTL = """#!/bin/sh
for last; do :; done
unit=${last%.*}
case $1 in
    is-active) test -e "$FAKE/$unit" ;;
    start) sh "$FAKE/$unit" ;;
    stop) rm "$FAKE/$unit" ;;
esac
"""


class Host:
    """A host of one folder: the guarded file, what its service took over, and pending returns."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "settings.conf"
        self.active = folder / "active"
        self.fake = folder / "systemd"
        self.fake.mkdir()
        for name, script in (("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL)):
            program = folder / name
            program.write_text(script)
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def run(self, content, *, check=False, **more):
        arguments = {
            "dest": str(self.file),
            "content": content,
            "validate": ["grep", "-q", "^valid", "%s"],
            "activate": ["cp", str(self.file), str(self.active)],
            "deactivate": ["rm", "-f", str(self.active)],
            "_ansible_check_mode": check,
            "_ansible_tmpdir": str(self.folder),
            **more,
        }
        environment = os.environ | {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "FAKE": str(self.fake),
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [sys.executable, "-m", "plugins.modules.guarded_file"],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            capture_output=True,
            check=False,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        return json.loads(done.stdout)

    def wait_in_vain(self):
        """The time for a new login passes."""
        [pending] = self.fake.iterdir()
        subprocess.run(["sh", pending], check=True)
        pending.unlink()

    @property
    def state(self):
        """What the file holds, and what the service uses."""
        return tuple(
            place.read_text() if place.exists() else None for place in (self.file, self.active)
        )


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


@pytest.fixture
def settled(host):
    """A host whose file was put in place and confirmed."""
    host.run("valid 1\n")
    assert not host.run("valid 1\n", stage="keep").get("failed")
    assert host.state == ("valid 1\n", "valid 1\n")
    return host


def test_a_new_file_is_used_and_kept_once_a_login_confirms_it(settled):
    assert list(settled.fake.iterdir()) == []
    again = settled.run("valid 1\n")
    assert again["changed"] is False
    assert list(settled.fake.iterdir()) == []


def test_without_a_new_login_the_former_file_comes_back(settled):
    assert settled.run("valid 2\n")["changed"]
    assert settled.state == ("valid 2\n", "valid 2\n")
    settled.wait_in_vain()
    assert settled.state == ("valid 1\n", "valid 1\n")
    late = settled.run("valid 2\n", stage="keep")
    assert late["failed"]
    assert "the former state is back" in late["msg"]


def test_without_a_new_login_a_first_file_goes_away(host):
    host.run("valid 1\n")
    host.wait_in_vain()
    assert host.state == (None, None)


def test_a_file_that_its_checker_refuses_is_not_put_in_place(settled):
    refused = settled.run("nonsense\n")
    assert refused["failed"]
    assert "the new content is refused" in refused["msg"]
    assert settled.state == ("valid 1\n", "valid 1\n")
    assert list(settled.fake.iterdir()) == []


def test_a_file_that_cannot_be_activated_is_taken_back_at_once(settled):
    # What can be activated is known by its content only.
    activate = ["sh", "-c", f"grep -q 1 {settled.file} && cp {settled.file} {settled.active}"]
    failed = settled.run("valid 2\n", activate=activate)
    assert failed["failed"]
    assert settled.state == ("valid 1\n", "valid 1\n")
    assert list(settled.fake.iterdir()) == []


def test_a_file_that_the_service_does_not_use_is_activated_again(settled):
    settled.active.unlink()
    assert settled.run("valid 1\n", in_force=False)["changed"]
    assert settled.state == ("valid 1\n", "valid 1\n")


def test_a_mode_that_differs_is_mended_without_a_trial(settled):
    settled.file.chmod(0o644)
    mended = settled.run("valid 1\n", mode="0600")
    assert mended["changed"]
    assert "on_trial" not in mended
    assert stat.S_IMODE(settled.file.stat().st_mode) == 0o600
    assert list(settled.fake.iterdir()) == []


def test_two_runs_do_not_take_each_others_trial_for_the_former_state(settled):
    settled.run("valid 2\n")
    # Also the same again: it would be told as kept, and then return.
    for content in ("valid 2\n", "valid 3\n"):
        second = settled.run(content)
        assert second["failed"]
        assert "another run tries it just now" in second["msg"]
    settled.wait_in_vain()
    assert settled.state == ("valid 1\n", "valid 1\n")


def test_a_dry_run_tells_the_change_and_makes_none(settled):
    told = settled.run("valid 2\n", check=True)
    assert told["changed"]
    assert (told["diff"]["before"], told["diff"]["after"]) == ("valid 1\n", "valid 2\n")
    assert settled.state == ("valid 1\n", "valid 1\n")
    assert settled.run("nonsense\n", check=True)["failed"]
    assert list(settled.fake.iterdir()) == []


class Connection:
    """A way to a host that a number of new logins do not find."""

    def __init__(self, shut_for):
        self.left = shut_for
        self.logins = 0

    def reset(self):
        self.logins += 1

    def use(self):
        if self.logins and self.left:
            self.left -= 1
            raise AnsibleConnectionFailure("timed out")


def action(connection, monkeypatch):
    """The action plugin over that connection; the second value are the stages it went through."""
    stages = []

    def call(stage, task_vars):
        connection.use()
        stages.append(stage)
        return {"changed": True} | ({"on_trial": True} if stage == "try" else {})

    def command(text):
        connection.use()

    monkeypatch.setattr(guarded_action.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(guarded_action.ActionBase, "run", lambda self, tmp, task_vars: {})
    plugin = guarded_action.ActionModule.__new__(guarded_action.ActionModule)
    plugin._connection = connection
    plugin._task = type("Task", (), {"args": {"dest": "/etc/x"}, "check_mode": False})()
    plugin._call = call
    plugin._low_level_execute_command = command
    return plugin, stages


def test_a_file_is_kept_over_a_new_login_only(monkeypatch):
    connection = Connection(shut_for=0)
    plugin, stages = action(connection, monkeypatch)
    assert plugin.run() == {"changed": True}
    assert stages == ["try", "keep"]
    assert connection.logins == 1


@pytest.mark.parametrize("tried", [{"changed": False}, {"changed": True}, {"failed": True}])
def test_without_a_trial_there_is_no_new_login(monkeypatch, tried):
    connection = Connection(shut_for=0)
    plugin, _ = action(connection, monkeypatch)
    plugin._call = lambda stage, task_vars: tried
    assert plugin.run() == tried
    assert connection.logins == 0


def test_a_run_that_is_shut_out_fails_once_the_former_file_is_back(monkeypatch):
    plugin, stages = action(Connection(shut_for=3), monkeypatch)
    result = plugin.run()
    assert result["failed"]
    assert "no new login succeeds; the former state is back" in result["msg"]
    assert stages == ["try"]
