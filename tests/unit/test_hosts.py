"""tools/hosts.py: what is read from an inventory and what is told to the container engine."""

import configparser
import importlib.util
import json
import os
import stat
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("hosts", ROOT / "tools" / "hosts.py")
assert spec is not None and spec.loader is not None
hosts = sys.modules["hosts"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hosts)


def listing(addresses: dict[str, str | None]) -> str:
    """What `ansible-inventory --list` prints for these hosts, all in one group."""
    hostvars = {name: {"ansible_host": address} for name, address in addresses.items() if address}
    groups = {"all": {"children": ["kafka"]}, "kafka": {"hosts": list(addresses)}}
    return json.dumps({"_meta": {"hostvars": hostvars}, **groups})


def fleet(name: str = "demo") -> "hosts.Fleet":
    return hosts.parse_inventory(name, listing({"node2": "10.9.8.12", "node1": "10.9.8.11"}))


def test_hosts_are_read_in_the_order_of_their_names():
    found = fleet()
    assert [host.name for host in found.hosts] == ["node1", "node2"]
    assert found.hosts[0].address == IPv4Address("10.9.8.11")
    assert found.network == IPv4Network("10.9.8.0/24")


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        ({}, "names no hosts"),
        ({"node1": None}, "host node1: ansible_host must be an IPv4 address, found ''"),
        ({"node1": "db.example"}, "host node1: ansible_host must be an IPv4 address"),
        ({"node1": "10.9.8.11", "node2": "10.9.9.11"}, "one /24, found 10.9.8.0/24, 10.9.9.0/24"),
        ({"node1": "10.9.8.1"}, "no host may have 10.9.8.0, 10.9.8.1, 10.9.8.255"),
        ({"node1": "10.9.8.11", "node2": "10.9.8.11"}, "two hosts have the same address"),
    ],
)
def test_an_inventory_that_cannot_become_containers_is_refused(addresses, message):
    with pytest.raises(hosts.HostsError, match=message):
        hosts.parse_inventory("demo", listing(addresses))


def test_the_demo_inventory_is_read_through_ansible():
    found = hosts.read_inventory(ROOT / "inventories" / "demo")
    assert found.name == "demo"
    assert {host.name for host in found.hosts} == {"node1", "node2", "node3"}


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(hosts.HostsError, match="is not an inventory folder"):
        hosts.read_inventory(tmp_path / "absent")


def test_two_fleets_share_no_name():
    one, other = fleet("one"), fleet("other")
    assert one.prefix != other.prefix
    assert one.keys != other.keys
    assert one.container(one.hosts[0]) != other.container(other.hosts[0])


def test_hosts_are_picked_by_name_and_unknown_names_are_refused():
    assert [host.name for host in fleet().pick(["node2"])] == ["node2"]
    with pytest.raises(hosts.HostsError, match="not in inventory demo: node7, node9"):
        fleet().pick(["node9", "node1", "node7"])


def test_a_host_is_labelled_with_its_inventory_and_never_privileged():
    options = hosts.run_options(fleet(), fleet().hosts[0], "1")
    assert "--privileged" not in options
    assert options[options.index("--label") + 1] == "plantline.inventory=demo"
    assert options[options.index("--ip") + 1] == "10.9.8.11"


@pytest.mark.parametrize(("version", "binds_cgroups"), [("1", True), ("2", False)])
def test_the_machines_cgroups_are_bound_with_version_1_only(version, binds_cgroups):
    options = hosts.run_options(fleet(), fleet().hosts[0], version)
    assert any("/sys/fs/cgroup" in option for option in options) is binds_cgroups
    assert ("private" in options) is not binds_cgroups


def test_ssh_knows_each_host_by_name_and_by_address(tmp_path):
    line = hosts.known_hosts_line(fleet().hosts[0], "ssh-ed25519 AAAAC3Nz root@image\n")
    assert line == "node1,10.9.8.11 ssh-ed25519 AAAAC3Nz\n"
    config = tmp_path / "config"
    config.write_text(hosts.ssh_config(fleet()))
    told = subprocess.run(
        ["ssh", "-F", config, "-G", "node2"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {"hostname 10.9.8.12", "user root", "stricthostkeychecking true"} <= set(told)


def test_a_new_key_replaces_the_old_one_and_only_its_owner_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "OUT", tmp_path)
    first, second = hosts.make_key(fleet()), hosts.make_key(fleet())
    assert first != second == hosts.public_key(fleet())
    assert stat.S_IMODE((fleet().keys / "id_ed25519").stat().st_mode) == 0o600


def test_an_empty_depot_names_the_command_that_fills_it(tmp_path, monkeypatch):
    monkeypatch.setattr(hosts, "DEPOT", tmp_path)
    with pytest.raises(hosts.HostsError, match="make depot"):
        hosts.depot_image()
    (tmp_path / "manifest.json").write_text('{"artifacts": {}}')
    with pytest.raises(hosts.HostsError, match="no node-image"):
        hosts.depot_image()


@pytest.fixture
def facts(tmp_path, monkeypatch):
    """Ansible's fact cache with the hosts of two inventories; the function tells whose are left."""
    monkeypatch.setattr(hosts, "FACTS", tmp_path / "facts")
    monkeypatch.setattr(hosts, "OUT", tmp_path / "out")
    hosts.FACTS.mkdir()
    for name in ("node1", "s1_node1", "s12_node2", "s1_node11", "s1_other-node1"):
        (hosts.FACTS / name).touch()
    return lambda: {file.name for file in hosts.FACTS.iterdir()}


def test_facts_are_kept_where_hosts_forgets_them():
    config = configparser.ConfigParser()
    config.read(ROOT / "ansible.cfg")
    assert ROOT / config["defaults"]["fact_caching_connection"] == hosts.FACTS


class Docker:
    """Stands in for an engine that has these containers and does as it is told."""

    def __init__(self, *containers):
        self._containers = containers

    def run(self, *_, **__):
        return ""

    def names(self, *_):
        return set()

    def state(self, container):
        return "running" if container in self._containers else "absent"

    def stop_if_ours(self):
        pass


def test_a_host_made_anew_has_no_facts_yet_and_a_running_one_keeps_its(facts, monkeypatch):
    for step in ("wait_for_boot", "wait_for_ssh"):
        monkeypatch.setattr(hosts, step, lambda *_: None)
    monkeypatch.setattr(hosts, "import_image", lambda *_: "image")
    monkeypatch.setattr(hosts, "known_hosts_line", lambda host, _: f"{host.name}\n")
    hosts.up(Docker("plantline-demo-node1"), fleet(), Path("image.tar"))
    assert facts() == {"node1", "s1_node1", "s1_node11", "s1_other-node1"}


def test_removed_hosts_leave_no_facts(facts):
    engine = Docker("plantline-demo-node1", "plantline-demo-node2")
    for _ in range(2):
        hosts.down(engine, fleet(), with_image=False)
        assert facts() == {"s1_node11", "s1_other-node1"}


def test_a_missing_engine_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(hosts.HostsError, match="make prerequisites"):
        hosts.Engine()


def test_waiting_ends_with_the_condition_or_the_deadline():
    answers = iter([False, True])
    hosts.wait_until("it is there", lambda: next(answers), 10)
    with pytest.raises(hosts.HostsError, match="it is there: not within 0 s"):
        hosts.wait_until("it is there", lambda: False, 0)
