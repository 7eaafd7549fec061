"""Broken inventories and plant models: each gets its message, before a host is touched.

The inventories are real folders, read by Ansible with the project's own roles; a case changes one
thing of a sound one.
"""

import copy
import json
import os
import subprocess

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from test_roles import ROOT  # it makes Ansible's plugins known to this process

from plugins.action.preflight import Reader
from plugins.module_utils import preflight_inventory

DEPOT = {
    "kafka": "3.8.1",
    "kafka-admin": "3.0.12",
    "jmx-agent": "1.0.1",
    "flink": "1.20.5",
    "flink-connectors": "3.4.0-1.20",
    "flink-plantline": "0.1.0",
    "job-runtime": "1.20.5",
    "debian-bookworm": "12",
}
CHANNEL = {"unit": "bar", "valid": [0, 16]}
SOUND = {
    "hosts": {
        f"n{number}": {"ansible_host": f"192.0.2.1{number}", "kafka_node_id": number}
        for number in (1, 2, 3)
    },
    "groups": {
        "kafka_controllers": ["n1", "n2", "n3"],
        "kafka_brokers": ["n1", "n2", "n3"],
        "flink_masters": ["n1"],
        "flink_workers": ["n1", "n2", "n3"],
        "monitoring": ["n3"],
    },
    "vars": {
        "host_memory_mb": 8192,
        "flink_slots": 2,
        "plant_models": {"pump": "pump.onnx"},
        "artifact_depot_dir": "depot",
        "vault_kafka_passwords": {"plantline-clock": "battery-staple"},
    },
    "plant": {
        "name": "small",
        "machine_types": {
            "pump": {"window_s": 30, "slide_s": 10, "channels": {"pressure": CHANNEL}}
        },
        "machines": [{"machine_id": "pump-1", "machine_type": "pump"}],
    },
    "depot": DEPOT,
}
GONE = object()


def changed(changes):
    """The sound plant with values at paths such as `hosts/n2/kafka_node_id` changed or GONE."""
    plant = copy.deepcopy(SOUND)
    for path, value in changes.items():
        *way, last = path.split("/")
        place = plant
        for step in way:
            place = place[int(step) if isinstance(place, list) else step]
        if value is GONE:
            del place[last]
        else:
            place[last] = value
    return plant


def write(folder, plant):
    """An inventory folder, a depot and a model, as an engineer would have them."""
    groups = {group: {"hosts": dict.fromkeys(names)} for group, names in plant["groups"].items()}
    parents = plant.get("parents") or {
        parent: {"children": {group: {} for group in groups if group.startswith(f"{parent}_")}}
        for parent in ("kafka", "flink")
    }
    variables = plant["vars"] | {
        "artifact_depot_dir": str(folder / "depot"),
        "plant_models": {
            kind: str(folder / file) for kind, file in plant["vars"]["plant_models"].items()
        },
    }
    files = {
        "hosts.yml": {"all": {"hosts": plant["hosts"]}, **groups, **parents},
        "group_vars/all/vars.yml": variables,
        "group_vars/all/plant.yml": {"plant": plant["plant"]},
    }
    for name, content in files.items():
        file = folder / "inventory" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content, sort_keys=False))
    (folder / "pump.onnx").touch()
    (folder / "depot").mkdir()
    held = {}
    for name, version in plant["depot"].items():
        held[name] = {"version": version, "file": f"{name}.tar"}
        if name not in plant.get("lost", ()):
            (folder / "depot" / f"{name}.tar").touch()
    if held:
        (folder / "depot" / "manifest.json").write_text(json.dumps({"artifacts": held}))
    return folder / "inventory"


def problems_of(inventory):
    """What preflight says of an inventory folder, as lines."""
    loader = DataLoader()
    loader.set_basedir(str(ROOT / "playbooks"))
    hosts = InventoryManager(loader, sources=[str(inventory)])
    variables = VariableManager(loader, hosts)
    groups = {group: [h.name for h in about.get_hosts()] for group, about in hosts.groups.items()}
    task_vars = {"hostvars": HostVars(hosts, variables, loader), "groups": groups}
    found = preflight_inventory.problems(Reader(loader, task_vars).inventory({}))
    return [str(problem).replace(str(inventory.parent), "…") for problem in found]


def test_a_sound_inventory_has_no_problem(tmp_path):
    assert problems_of(write(tmp_path, SOUND)) == []


PLANT_YML = "…/inventory/group_vars/all/plant.yml"
ONE_MORE = {"ansible_host": "192.0.2.14", "kafka_node_id": 4}
LISTENERS = {
    "CLIENT": {"port": 9092, "protocol": "SASL_SSL"},
    "BROKER": {"port": 9094, "protocol": "SSL"},
    "CONTROLLER": {"port": 9093, "protocol": "SSL"},
    "OPERATOR": {"port": 9096, "protocol": "SSL"},
}
PLAINTEXT = {
    "CLIENT": {"port": 9192, "protocol": "PLAINTEXT"},
    "BROKER": {"port": 9194, "protocol": "PLAINTEXT"},
    "CONTROLLER": {"port": 9193, "protocol": "PLAINTEXT"},
}
BROKEN = {
    # groups
    "no brokers": (
        {"groups/kafka_brokers": []},
        ["group kafka_brokers: hosts: is missing or has no host; name one in hosts.yml"],
    ),
    "no masters": (
        {"groups/flink_masters": GONE},
        ["group flink_masters: hosts: is missing or has no host; name one in hosts.yml"],
    ),
    "an even number of controllers": (
        {"groups/kafka_controllers": ["n1", "n2"]},
        [
            "group kafka_controllers: hosts: 2 controllers survive no more losses than 1; "
            "use an odd number: 1, 3 or 5"
        ],
    ),
    "a misspelt group": (
        {"groups/flink_worker": ["n1"]},
        ["group flink_worker: name: no playbook knows it; did you mean flink_workers?"],
    ),
    "a parent that lacks a group": (
        {
            "parents": {
                "kafka": {"children": {"kafka_controllers": {}, "kafka_brokers": {}}},
                "flink": {"children": {"flink_masters": {}}},
            }
        },
        [
            "group flink: children: lacks n2, n3 of flink_workers; make flink_workers a child "
            "of flink"
        ],
    ),
    "a misspelt host in a group": (
        {"groups/flink_workers": ["n1", "n2", "n33"]},
        [
            "n33: ansible_host: not given, and the control node cannot resolve the host's name; "
            "did you mean n3? Else give its address beside the host in hosts.yml"
        ],
    ),
    "a host that runs nothing": (
        {"hosts/spare": {"ansible_host": "192.0.2.19"}},
        [
            "spare: groups: is in no group of the plant, so it would run nothing; put it into "
            "one of "
            "flink_masters, flink_workers, kafka_brokers, kafka_controllers, monitoring, or "
            "remove it"
        ],
    ),
    # names, addresses, ids
    "an underscore in a host's name": (
        {"hosts/n_4": {"ansible_host": "192.0.2.14"}, "groups/monitoring": ["n_4"]},
        [
            "n_4: host name: Flink and Kafka take letters, digits, dots and hyphens only; "
            "rename the host in hosts.yml"
        ],
    ),
    "two hosts at one address": (
        {"hosts/n2/ansible_host": "192.0.2.11"},
        ["n1, n2: ansible_host: all have 192.0.2.11; give each host its own address"],
    ),
    "two brokers at one data address": (
        {"hosts/n1/kafka_address": "198.51.100.1", "hosts/n3/kafka_address": "198.51.100.1"},
        ["n1, n3: kafka_address: all are reached at 198.51.100.1; give each host its own address"],
    ),
    "an address that nobody knows": (
        {"hosts/n2/ansible_host": "n2.invalid"},
        [
            "n2: ansible_host: the control node cannot resolve 'n2.invalid'; "
            "correct it, or give an IP address"
        ],
    ),
    "an address that leads home": (
        {"hosts/n2/kafka_address": "127.0.0.1"},
        [
            "n2: kafka_address: 127.0.0.1 leads every host to itself; "
            "give the address at which the other hosts reach it"
        ],
    ),
    "a node id twice": (
        {"hosts/n3/kafka_node_id": 1},
        [
            "n1, n3: kafka_node_id: all have 1; "
            "give each Kafka host its own, and never change that of a host that has run"
        ],
    ),
    # variables
    "a required variable": (
        {"hosts/n3/kafka_node_id": GONE},
        [
            "n3: kafka_node_id: is required and not given; "
            "it is: The node's number in the cluster, given beside the host in the inventory"
        ],
    ),
    "a misspelt variable": (
        {"vars/kafka_heap": 1024},
        [
            "every host: kafka_heap: no role has a variable of this name; did you mean "
            "kafka_heap_mb?"
        ],
    ),
    "a variable with a misspelt role": (
        {"hosts/n1/flnik_slots": 4},
        ["n1: flnik_slots: no role has a variable of this name; did you mean flink_slots?"],
    ),
    "a variable by another collection's name": (
        {"hosts/n1/kafka_broker_id": 1},
        ["n1: kafka_broker_id: is not used here; use kafka_node_id"],
    ),
    "a variable of the wrong type": (
        {"vars/kafka_heap_mb": "lots"},
        ["every host: kafka_heap_mb: is text, not a whole number; it is: Java heap in MB"],
    ),
    "a value that is none of the choices": (
        {"vars/flink_state_backend": "disk"},
        [
            "every host: flink_state_backend: value of flink_state_backend must be one of: "
            "hashmap, "
            "rocksdb, got: disk; it is: Where running jobs keep their state, on the heap or "
            "(checkpointed incrementally) in RocksDB"
        ],
    ),
    "a template that cannot be evaluated": (
        {"vars/kafka_rack": "{{ racks[inventory_hostname] }}"},
        ["every host: kafka_rack: cannot be evaluated: 'racks' is undefined; correct it"],
    ),
    "hosts that do not agree": (
        {"hosts/n2/flink_shared_dir": "/mnt/other"},
        ["n2: flink_shared_dir: differs from n1's; set it once, in group_vars"],
    ),
    # Kafka
    "a rack for some": (
        {"hosts/n1/kafka_rack": "a"},
        [
            "n2, n3: kafka_rack: is not given, while other brokers have one: Kafka spreads no "
            "replicas then; give it to every broker, or to none"
        ],
    ),
    "more replicas than brokers": (
        {"vars/kafka_config": {"default.replication.factor": 4}},
        [
            "group kafka_brokers: kafka_config: default.replication.factor: 4 replicas need as "
            "many "
            "brokers, and there are 3; lower it, or add brokers"
        ],
    ),
    "more replicas in sync than replicas": (
        {"vars/kafka_config": {"min.insync.replicas": 4}},
        [
            "group kafka_brokers: kafka_config: min.insync.replicas: 4 replicas in sync can "
            "never be "
            "reached with 3; lower it, best to one less than default.replication.factor"
        ],
    ),
    "a listener that is missing": (
        {"vars/kafka_listeners": {k: v for k, v in LISTENERS.items() if k != "BROKER"}},
        [
            "every host: kafka_listeners: BROKER is missing; "
            "give all of them in kafka_listeners: the whole variable is replaced, not merged"
        ],
    ),
    "no listener for the operator": (
        {"vars/kafka_listeners": {k: v for k, v in LISTENERS.items() if k != "OPERATOR"}},
        [
            "every host: kafka_listeners: OPERATOR is missing; "
            "give all of them in kafka_listeners: the whole variable is replaced, not merged"
        ],
    ),
    "security on some hosts": (
        {"hosts/n2/kafka_security": False},
        [
            "n2: kafka_listeners: differs from n1's; set it once, in group_vars",
            "n2: kafka_security: differs from n1's; set it once, in group_vars",
        ],
    ),
    "no passwords for Kafka's users": (
        {"vars/vault_kafka_passwords": GONE},
        [
            "every host: vault_kafka_passwords: is not given, and Kafka asks its clients for "
            "passwords; `make secrets` makes them, encrypted by ansible-vault"
        ],
    ),
    "a listener without a port": (
        {"vars/kafka_listeners": LISTENERS | {"PLANT": {"protocol": "SSL"}}},
        ["every host: kafka_listeners.PLANT: has no port; give port and protocol"],
    ),
    "old and new listeners on the same ports": (
        {
            "vars/kafka_plaintext_listeners": PLAINTEXT | {"CLIENT": LISTENERS["CLIENT"]},
            "vars/kafka_listener_prefix": "TLS_",
        },
        [
            "every host: kafka_plaintext_listeners.CLIENT: is SASL_SSL, not PLAINTEXT; "
            "name here only what ends when the plant has moved in",
            "every host: kafka_listeners.CLIENT.port: port 9092 is taken more than once: "
            "kafka_plaintext_listeners.CLIENT.port (Kafka), kafka_listeners.CLIENT.port (Kafka); "
            "give each a port of its own",
        ],
    ),
    "old and new listeners of the same names": (
        {"vars/kafka_plaintext_listeners": PLAINTEXT},
        [
            "every host: kafka_listener_prefix: is empty, and Kafka would know the old and the new "
            "listeners by the same names; give one such as TLS_, and keep it afterwards"
        ],
    ),
    "listeners of before that are not all there": (
        {
            "vars/kafka_plaintext_listeners": {"CLIENT": PLAINTEXT["CLIENT"]},
            "vars/kafka_listener_prefix": "tls_",
        },
        [
            "every host: kafka_plaintext_listeners: BROKER is missing; give all of them in "
            "kafka_plaintext_listeners: the whole variable is replaced, not merged",
            "every host: kafka_plaintext_listeners: CONTROLLER is missing; give all of them in "
            "kafka_plaintext_listeners: the whole variable is replaced, not merged",
            "every host: kafka_listener_prefix: 'tls_' cannot begin the name of a listener; "
            "write one such as TLS_",
        ],
    ),
    "nothing to move in to": (
        {
            "vars/kafka_plaintext_listeners": PLAINTEXT,
            "vars/kafka_listener_prefix": "TLS_",
            "vars/kafka_security": False,
        },
        [
            "every host: kafka_plaintext_listeners: is given, and kafka_security is false: there "
            "is nothing to move in to; take kafka_security: false out of the inventory"
        ],
    ),
    "records on the shared mount": (
        {"vars/kafka_log_dirs": ["/srv/plantline/kafka"]},
        [
            "every host: flink_shared_dir: /srv/plantline and Kafka's /srv/plantline/kafka lie "
            "in each "
            "other; keep Kafka's records on the host's own disks, beside the shared mount"
        ],
    ),
    "a relative folder": (
        {"vars/flink_shared_dir": "srv/plantline"},
        [
            "every host: flink_shared_dir: 'srv/plantline' cannot be used; give a folder's "
            "absolute path"
        ],
    ),
    # ports and memory
    "Flink on Kafka's port": (
        {"vars/flink_config": {"rest.port": 9092}},
        [
            "n1: flink_config: rest.port: port 9092 is taken more than once: "
            "kafka_listeners.CLIENT.port (Kafka), "
            "flink_config: rest.port (Flink's jobmanager); give each a port of its own"
        ],
    ),
    "a port that Flink is to choose": (
        {"vars/flink_config": {"taskmanager.data.port": 0}},
        [
            "every host: flink_config: taskmanager.data.port: 0 leaves the choice to Flink, and "
            "the firewall must know it; give one port"
        ],
    ),
    "operators from no network": (
        {"vars/firewall_operators": ["10.20.0.0/33"]},
        [
            "every host: firewall_operators: '10.20.0.0/33' is no network and no address; "
            "write one such as 192.0.2.0/24"
        ],
    ),
    "an address that is none": (
        {"hosts/n2/firewall_additional": [{"port": 5666, "from": ["nagios"], "reason": "ours"}]},
        [
            "n2: firewall_additional: 'nagios' is no network and no address; "
            "write one such as 192.0.2.0/24"
        ],
    ),
    "Alertmanager on its usual port": (
        {"vars/alertmanager_port": 9093},
        [
            "n3: alertmanager_port: port 9093 is taken more than once: "
            "kafka_listeners.CONTROLLER.port "
            "(Kafka), alertmanager_port (alertmanager); give each a port of its own"
        ],
    ),
    "a heap that does not fit": (
        {"hosts/n2/kafka_heap_mb": 6000},
        [
            "n2: kafka_heap_mb: the processes take 9115 MB of 8192 MB, of which 7372 MB can be "
            "given "
            "away: 6000 kafka_heap_mb (Kafka), 300 off its heap (Kafka), 2785 "
            "flink_taskmanager_memory_mb (Flink's taskmanager), 30 node_exporter (node_exporter); "
            "lower the largest, correct host_memory_mb, or move a service to another host"
        ],
    ),
    "a TaskManager by Flink's own name for it": (
        {"hosts/n2/flink_config": {"taskmanager.memory.process.size": "8g"}},
        [
            "n2: flink_taskmanager_memory_mb: the processes take 9750 MB of 8192 MB, of which "
            "7372 MB "
            "can be given away: 1228 kafka_heap_mb (Kafka), 300 off its heap (Kafka), 8192 "
            "flink_taskmanager_memory_mb (Flink's taskmanager), 30 node_exporter (node_exporter); "
            "lower the largest, correct host_memory_mb, or move a service to another host"
        ],
    ),
    "more jobs than slots": (
        {"vars/plant_jobs_parallelism": 6},
        [
            "group flink_workers: flink_slots: the jobs take 7 slots, and the workers offer 6; "
            "lower plant_jobs_parallelism, raise flink_slots, or add workers"
        ],
    ),
    # versions and depot
    "a version that the depot lacks": (
        {"vars/kafka_version": "3.9.1"},
        [
            "group_vars: kafka_version: is 3.9.1, and the depot holds kafka 3.8.1; "
            "use 3.8.1, or change depot.yml and run `make depot`"
        ],
    ),
    "a version that we do not support": (
        {
            "vars/flink_version": "2.0.0",
            "depot": DEPOT
            | {"flink": "2.0.0", "job-runtime": "2.0.0", "flink-connectors": "4.0.0-2.0"},
        },
        ["group_vars: flink_version: 2.0.0 is not supported; use one of 1.19.x, 1.20.x"],
    ),
    "connectors of another Flink": (
        {"depot/flink-connectors": "3.3.0-1.19"},
        [
            "depot.yml: flink-connectors: 3.3.0-1.19 is not made for Flink 1.20.5; "
            "use a version that ends with -1.20 and run `make depot`"
        ],
    ),
    "a job environment of another Flink": (
        {"depot/job-runtime": "1.20.0"},
        [
            "depot.yml: job-runtime: is 1.20.0, and Flink is 1.20.5: their Python sides do not "
            "match; "
            "give both the same version and run `make depot`"
        ],
    ),
    "an empty depot": (
        {"depot": {}},
        ["depot: manifest.json: the depot is empty; run `make depot`"],
    ),
    "a depot without Kafka's admin client": (
        {"depot/kafka-admin": GONE},
        ["depot: kafka-admin: is not in the depot; run `make depot`"],
    ),
    "a Grafana without a password": (
        {"depot/grafana": "11.6.4"},
        [
            "n3: grafana_admin_password: is not given, and the depot has Grafana; "
            "put one into the inventory's secrets, encrypted by ansible-vault"
        ],
    ),
    "an archive that is gone": (
        {"lost": ["flink"]},
        ["depot: flink: its file is gone from the depot; run `make depot`"],
    ),
    # the plant model and its models
    "a model for a type that is not there": (
        {"vars/plant_models": {"pmup": "pump.onnx"}},
        [f"plant_models: pmup: {PLANT_YML} has no such machine type; did you mean pump?"],
    ),
    "a model file that is not there": (
        {"vars/plant_models": {"pump": "none.onnx"}},
        [
            "plant_models: pump: there is no file …/none.onnx on the control node; make it: "
            f".venv-train/bin/python -m flink_jobs.tools.train --type pump --plant {PLANT_YML} "
            "--data FILE --out …/none.onnx"
        ],
    ),
    "more readers than partitions": (
        {"plant/machine_types/pump/partitions": 1},
        [
            "plant_jobs_parallelism: pump: 2 readers are more than the 1 partitions: one without a "
            "partition holds all windows back; lower it, or raise the type's partitions in "
            f"{PLANT_YML}"
        ],
    ),
    "a window that slides past its end": (
        {"plant/machine_types/pump/slide_s": 7},
        [
            f"{PLANT_YML}:6: plant.machine_types.pump.slide_s: 7 does not divide window_s (30); "
            "choose a slide_s of which window_s is a multiple."
        ],
    ),
    "a machine of no type": (
        {"plant/machines": [{"machine_id": "pump-1", "machine_type": "pomp"}]},
        [
            f"{PLANT_YML}:15: plant.machines[0].machine_type: machine type 'pomp' is not declared; "
            "did you mean 'pump'? Known types: pump."
        ],
    ),
    "a machine twice": (
        {"plant/machines": [dict(SOUND["plant"]["machines"][0]) for _ in "12"]},
        [
            f"{PLANT_YML}:16: plant.machines[1].machine_id: machine 'pump-1' is declared twice, "
            "first "
            "in line 14; give each machine its own id."
        ],
    ),
}


@pytest.mark.parametrize(("changes", "expected"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_gets_its_message(tmp_path, changes, expected):
    assert problems_of(write(tmp_path, changed(changes))) == expected


def test_all_problems_are_told_at_once(tmp_path):
    several = ["an even number of controllers", "a node id twice", "a misspelt variable"]
    several += ["more replicas than brokers", "a window that slides past its end"]
    changes = {path: value for name in several for path, value in BROKEN[name][0].items()}
    changes["groups/kafka_controllers"] = ["n1", "n3"]
    told = problems_of(write(tmp_path, changed(changes)))
    assert sorted(told) == sorted(line for name in several for line in BROKEN[name][1])


def test_secrets_are_not_read(tmp_path):
    unreadable = "{{ lookup('ansible.builtin.file', '/nowhere') }}"
    changes = {"depot/grafana": "11.6.4", "vars/grafana_admin_password": unreadable}
    assert problems_of(write(tmp_path, changed(changes))) == []


# What depends on a host that was not asked yet is not judged.


def test_memory_that_is_not_declared_waits_for_the_host(tmp_path):
    changes = {"vars/host_memory_mb": GONE, "hosts/n2/kafka_heap_mb": 6000}
    assert problems_of(write(tmp_path, changed(changes))) == []


def test_values_that_ask_for_facts_wait_for_the_host(tmp_path):
    facts = "{{ ansible_facts.memtotal_mb }}"
    changes = {
        "vars/kafka_heap_mb": facts,
        "vars/flink_slots": "{{ ansible_facts.processor_vcpus }}",
    }
    assert problems_of(write(tmp_path, changed(changes))) == []


# As an operator runs it


def run(playbook, inventory, tmp_path, *arguments):
    """A playbook whose every contact to a host would leave a mark; returns (code, output)."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\ntouch {tmp_path}/contacted\nexit 255\n")
    ssh.chmod(0o755)
    command = ["ansible-playbook", playbook, "-i", inventory, *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"ANSIBLE_SSH_EXECUTABLE": str(ssh), "ANSIBLE_CONFIG": "ansible.cfg"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "case",
    [
        "an even number of controllers",
        "a misspelt variable",
        "a heap that does not fit",
        "an empty depot",
        "a window that slides past its end",
    ],
)
def test_site_stops_before_a_host_is_contacted(tmp_path, case):
    changes, lines = BROKEN[case]
    code, output = run("site.yml", write(tmp_path, changed(changes)), tmp_path)
    assert code != 0
    assert "1 problem. Nothing was changed." in output
    for line in lines:
        assert line.replace("…", str(tmp_path)) in output
    assert not (tmp_path / "contacted").exists()


def test_the_first_part_alone_says_one_line_and_contacts_nobody(tmp_path):
    inventory = write(tmp_path, SOUND)
    code, output = run("playbooks/preflight.yml", inventory, tmp_path, "--tags", "inventory")
    assert code == 0, output
    assert [line for line in output.splitlines() if line.startswith("preflight:")] == [
        "preflight: inventory and variables are sound (3 hosts)"
    ]
    assert not (tmp_path / "contacted").exists()


def test_hosts_that_cannot_be_reached_are_all_named(tmp_path):
    code, output = run("site.yml", write(tmp_path, SOUND), tmp_path, "--check")
    assert code != 0
    assert (tmp_path / "contacted").exists()
    for host in SOUND["hosts"]:
        assert f". {host}: host: could not be asked: " in output
