"""An Ansible inventory as ops sees it: what a playbook would see, and how hosts are reached."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ops.fleet import pyinfra_inventory
from ops.plant import Plant, PlantError, ssh_config, ssh_options

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def inventory(tmp_path, monkeypatch):
    """Writes an inventory folder: hosts, and variables by file; returns the plant."""
    monkeypatch.setattr("ops.fleet.ROOT", tmp_path)

    def write(hosts, **files):
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
        for name, variables in files.items():
            kind, _, of = name.partition("__")
            (tmp_path / kind).mkdir(exist_ok=True)
            (tmp_path / kind / f"{of}.yml").write_text(yaml.safe_dump(variables))
        return Plant(tmp_path)

    return write


def test_the_demo_is_read_as_ansible_reads_it():
    demo = Plant(ROOT / "inventories" / "demo")
    assert demo.name == "demo"
    assert demo.group("flink_masters") == ["node1"]
    assert demo.group("no_such_group") == []
    first = demo.hosts[0]
    assert (first.name, first.address, first.become) == ("node1", "10.203.77.11", False)
    assert first.ssh_options["IdentityFile"] == "out/hosts/demo/id_ed25519"


def test_variables_of_host_group_and_all_count_in_ansibles_order(inventory):
    plant = inventory(
        {"a": {"x": "host"}, "b": {}, "c": {}},
        group_vars__all={"x": "all", "y": "all"},
        host_vars__b={"x": "host file"},
    )
    assert [plant.value(host, "x") for host in "abc"] == ["host", "host file", "all"]
    assert plant.value("a", "y") == "all"
    assert plant.value("a", "z") is None


def test_templates_are_filled_in(inventory):
    plant = inventory({"a": {"ansible_host": "{{ net }}.7"}}, group_vars__all={"net": "10.0.0"})
    assert plant.hosts[0].address == "10.0.0.7"


def test_a_roles_variable_is_what_the_role_would_use(inventory):
    demo = Plant(ROOT / "inventories" / "demo")
    assert demo.value("node1", "__kafka_own_server", "kafka") == "10.203.77.11:9096"
    moved = inventory({"a": {}}, group_vars__all={"kafka_log_dirs": ["/data/kafka"]})
    assert moved.value("a", "kafka_log_dirs", "kafka") == ["/data/kafka"]
    assert moved.value("a", "flink_shared_dir", "flink") == "/srv/plantline"
    assert moved.value("a", "plant_exporter_port", "no_such_role") is None


def test_another_user_than_root_needs_sudo_and_this_machine_does_not(inventory):
    plant = inventory(
        {
            "a": {"ansible_user": "operator", "ansible_become_password": "correct-horse"},
            "b": {"ansible_user": "root"},
            "c": {"ansible_connection": "local"},
        }
    )
    assert [(host.become, host.local) for host in plant.hosts] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    assert plant.hosts[0].become_password == "-".join(("correct", "horse"))


def test_secrets_are_known_by_the_names_of_their_variables(inventory):
    plant = inventory(
        {"a": {"ansible_password": "of-one-host"}},
        group_vars__all={
            "base": "correct",
            "grafana_admin_password": "{{ base }}-horse",
            "kafka_secrets": {"users": [{"name": "u", "value": "battery-staple"}]},
            "plain": "kept",
        },
    )
    assert plant.secrets() >= {"of-one-host", "correct-horse", "battery-staple"}
    assert "kept" not in plant.secrets()


def test_an_encrypted_variable_is_known_where_ansible_knows_the_vaults_password(tmp_path):
    password = tmp_path / "vault-password"
    password.write_text("open sesame\n")
    environment = os.environ | {"ANSIBLE_VAULT_PASSWORD_FILE": str(password)}

    def run(*command):
        return subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, check=True, text=True
        ).stdout

    inventory = tmp_path / "plant"
    (inventory / "group_vars").mkdir(parents=True)
    (inventory / "hosts.yml").write_text("all: {hosts: {a: {}}}\n")
    encrypted = run("ansible-vault", "encrypt_string", "correct-horse", "--name", "db_password")
    (inventory / "group_vars" / "all.yml").write_text(encrypted)
    program = "import sys; from pathlib import Path; from ops.plant import Plant;"
    program += "print(Plant(Path(sys.argv[1])).secrets())"
    assert run(sys.executable, "-c", program, str(inventory)) == "{'correct-horse'}\n"


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("", {}),
        (
            "-o UserKnownHostsFile=out/known -o StrictHostKeyChecking=accept-new",
            {"UserKnownHostsFile": "out/known", "StrictHostKeyChecking": "accept-new"},
        ),
        ("-oPort=2222 -o 'ProxyCommand=ssh -W %h:%p gate'",
         {"Port": "2222", "ProxyCommand": "ssh -W %h:%p gate"}),
        ("-o 'user someone'", {"User": "someone"}),
        ("-J gate -p 2222 -i key -l someone",
         {"ProxyJump": "gate", "Port": "2222", "IdentityFile": "key", "User": "someone"}),
        ("-o ControlMaster=auto -o Compression=yes", {}),
        ("-o Port=1 -o Port=2", {"Port": "1"}),
    ],
)  # fmt: skip
def test_ssh_arguments_become_options(arguments, options):
    assert ssh_options(arguments, "host a") == options


def test_an_ssh_argument_of_another_kind_is_refused_by_host_and_argument():
    with pytest.raises(PlantError, match=r"host a: ssh argument '-F'"):
        ssh_options("-F config", "host a")


def test_ssh_reads_the_same_options(inventory, tmp_path):
    plant = inventory(
        {"a": {"ansible_host": "192.0.2.7", "ansible_user": "u", "ansible_port": 2222}}
    )
    (tmp_path / "config").write_text(ssh_config(plant.hosts))
    told = subprocess.run(
        ["ssh", "-F", tmp_path / "config", "-G", "a"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {"hostname 192.0.2.7", "user u", "port 2222", "stricthostkeychecking true"} <= set(told)


def test_pyinfra_gets_the_same_hosts_and_groups(inventory):
    plant = inventory({"a": {}, "b": {"ansible_connection": "local"}})
    hosts, groups = pyinfra_inventory(plant)
    assert [name for name, _ in hosts] == ["a", "@local"]
    assert groups["all"] == ["a", "@local"]
    assert Path(hosts[0][1]["ssh_config_file"]).is_file()


@pytest.mark.parametrize("make", [lambda path: path / "absent", lambda path: path])
def test_what_is_no_inventory_is_refused(tmp_path, make):
    with pytest.raises(PlantError, match=r"is not there|names no hosts"):
        Plant(make(tmp_path))
