"""Hosts that are not ready: what they answer, and the message it gets. And the modules that ask."""

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from plugins.action.preflight import answer
from plugins.module_utils import preflight_hosts
from plugins.module_utils.preflight import Host, Inventory, Job, MachineType
from plugins.module_utils.preflight_hosts import Answer, Disk, Listener
from plugins.modules import preflight_connect, preflight_host

ROOT = Path(__file__).resolve().parents[2]
VALUES = {
    "kafka_listeners": {
        "CLIENT": {"port": 9092, "protocol": "PLAINTEXT"},
        "BROKER": {"port": 9094, "protocol": "PLAINTEXT"},
        "CONTROLLER": {"port": 9093, "protocol": "PLAINTEXT"},
    },
    "kafka_log_dirs": ["/data"],
    "kafka_heap_mb": 1024,
    "flink_jobmanager_memory_mb": 1024,
    "flink_taskmanager_memory_mb": 2048,
    "flink_shared_dir": "/srv/plantline",
    "flink_slots": 2,
    "node_exporter_port": 9100,
    "common_hosts_file": True,
}
READY = Answer(
    memory_mb=8000,
    cpus=2,
    disks={
        "/data": Disk("/data", 100_000, 90_000),
        "/opt/plantline": Disk("/", 50_000, 20_000),
        "/var/log": Disk("/", 50_000, 20_000),
    },
    shared_mount="/srv/plantline",
    shared_inode=7,
)
GROUPS = {
    "kafka_controllers": ("n1",),
    "kafka_brokers": ("n1", "n2"),
    "flink_masters": ("n1",),
    "flink_workers": ("n1", "n2"),
    "monitoring": ("n2",),
}


def plant(**changes):
    """Two hosts; `values` are laid over those of both."""
    more = changes.pop("values", {})
    hosts = {
        name: Host(
            name,
            frozenset(group for group, names in GROUPS.items() if name in names),
            frozenset(more),
            {**VALUES, "ansible_host": f"192.0.2.{number}", "host_memory_mb": 8000, **more},
        )
        for number, name in enumerate(("n1", "n2"), 1)
    }
    return Inventory(hosts, GROUPS, **changes)


def told(inventory, **of_n2):
    """The problems where n1 is ready and n2 answers otherwise."""
    answers = {"n1": READY, "n2": replace(READY, **of_n2)}
    return list(map(str, preflight_hosts.problems(inventory, answers, 2.0, 2048)))


def test_ready_hosts_have_no_problem():
    assert told(plant()) == []


UNREADY = {
    "a host that does not answer": (
        {"failure": "timed out"},
        "n2: host: could not be asked: timed out; it needs a login over SSH (ansible_user, "
        "ansible_ssh_private_key_file), root or sudo (ansible_become_password), and "
        "/usr/bin/python3",
    ),
    "another Debian": (
        {"system": "debian 11"},
        "n2: operating system: runs debian 11; "
        "Plantline needs Debian 12 with systemd: install it, or take the host out of hosts.yml",
    ),
    "no systemd": (
        {"systemd": False},
        "n2: operating system: runs debian 12 without systemd; "
        "Plantline needs Debian 12 with systemd: install it, or take the host out of hosts.yml",
    ),
    "another Python": (
        {"python": (3, 12)},
        "n2: python3: is 3.12, and the depot's packages are for 3.11; "
        "bring Debian's own /usr/bin/python3 back",
    ),
    "a clock ahead": (
        {"ahead_s": 61.4},
        "n2: clock: is 61 s or more ahead of the control node's; set the one that is wrong "
        "(`timedatectl set-time`); then common_ntp_servers keep it",
    ),
    "a clock behind": (
        {"ahead_s": -3600.0},
        "n2: clock: is 3600 s or more behind the control node's; set the one that is wrong "
        "(`timedatectl set-time`); then common_ntp_servers keep it",
    ),
    "a name without an address": (
        {"names": {"n1": []}},
        "n2: name n1: cannot be resolved here; "
        "give an IP address as ansible_host of n1, or mend the plant's DNS",
    ),
    "a name that leads home": (
        {"names": {"n2": ["127.0.1.1"]}},
        "n2: name n2: resolves to 127.0.1.1: services would listen where nobody reaches; "
        "remove the line from /etc/hosts, or set common_hosts_file: true",
    ),
    "a foreign process on our port": (
        {"listening": {9092: Listener("root", "python3", "old-broker.service")}},
        "n2: kafka_listeners.CLIENT.port: port 9092 is taken by python3 of user root "
        "(old-broker.service); stop that process, or give Kafka another port",
    ),
    "a foreign process that we may not look at": (
        {"listening": {9100: Listener("nobody")}},
        "n2: node_exporter_port: port 9100 is taken by a process of user nobody; "
        "stop that process, or give node_exporter another port",
    ),
    "a full disk": (
        {"disks": {"/opt/plantline": Disk("/", 50_000, 900), "/var/log": Disk("/", 50_000, 900)}},
        "n2: /opt/plantline: 900 MB are free on /, 2048 are needed; "
        "make room, or lower preflight_min_free_mb where that is enough",
    ),
    "no shared mount": (
        {"shared_mount": "/"},
        "n2: flink_shared_dir: /srv/plantline lies on the host's own disk: a checkpoint would be "
        "lost with the host; mount storage there that all Flink hosts share, in /etc/fstab",
    ),
    "no shared folder": (
        {"shared_inode": None},
        "n2: flink_shared_dir: there is no folder /srv/plantline; mount the shared storage there",
    ),
    "another mount": (
        {"shared_inode": 8},
        "n2: flink_shared_dir: what is mounted there is not what n1 has; "
        "mount the same storage on all Flink hosts",
    ),
    "a firewall": (
        {"unreached": [("192.0.2.1", 9094, "refused"), ("192.0.2.1", 9092, "refused")]},
        "n2: way to n1: 192.0.2.1 port 9092, 9094: refused; open these ports between the hosts "
        "(firewall, switch), or correct the address",
    ),
}


@pytest.mark.parametrize(("answered", "message"), UNREADY.values(), ids=UNREADY)
def test_what_is_not_ready_gets_its_message(answered, message):
    assert told(plant(), **answered) == [message]


def test_what_our_own_firewall_refuses_is_no_problem_since_the_run_opens_it():
    way = ("192.0.2.1", 9094, "no route to host")
    asks = replace(READY, unreached=[way])

    def found(**of_n1):
        answers = {"n1": replace(READY, **of_n1), "n2": asks}
        return [str(problem) for problem in preflight_hosts.problems(plant(), answers, 2.0, 2048)]

    assert found(firewall=True) == []
    [foreign] = found(firewall=False)
    assert foreign.startswith("n2: way to n1: 192.0.2.1 port 9094: no route to host;")
    # One that does not come from a firewall is told all the same.
    asks = replace(READY, unreached=[(*way[:2], "refused")])
    assert len(found(firewall=True)) == 1


def test_a_service_that_restarts_meanwhile_is_no_problem():
    asks = replace(READY, unreached=[("192.0.2.1", 9094, "refused")])

    def found(listening):
        answers = {"n1": replace(READY, listening=listening), "n2": asks}
        return list(preflight_hosts.problems(plant(), answers, 2.0, 2048))

    kafka = Listener("kafka", "java", "kafka.service")
    assert found({9094: kafka}) == []
    assert len(found({9092: kafka})) == 1
    # Another process may have the port for itself alone.
    assert any("way to n1" in str(one) for one in found({9094: Listener("root", "python3", "x")}))


def test_the_same_trouble_everywhere_is_told_once():
    trouble = replace(READY, system="debian 11")
    found = preflight_hosts.problems(plant(), {"n1": trouble, "n2": trouble}, 2.0, 2048)
    assert [problem.place for problem in found] == ["every host"]


def test_our_own_services_may_have_their_ports():
    ours = {9092: Listener("kafka", "java", "kafka.service"), 9100: Listener("prometheus")}
    assert told(plant(), listening=ours) == []


def test_memory_is_judged_by_what_the_host_has_where_it_is_not_declared():
    [problem] = told(plant(values={"host_memory_mb": 3000, "kafka_heap_mb": 1024}), memory_mb=2900)[
        :1
    ]
    assert "host_memory_mb" in problem
    small = plant(values={"host_memory_mb": 3500})
    found = told(
        replace(small, hosts={n: replace(h, given=frozenset()) for n, h in small.hosts.items()})
    )
    assert all("of 3500 MB, of which 3150 MB can be given away" in line for line in found)
    assert len(found) == 2


def test_slots_are_counted_once_processors_are_known():
    jobs = [Job("pump", "pump.onnx", True)]
    assert told(plant(jobs=jobs, values={"flink_slots": 1})) == [
        "group flink_workers: flink_slots: the jobs take 3 slots, and the workers offer 2; "
        "lower plant_jobs_parallelism, raise flink_slots, or add workers"
    ]


def test_declared_readings_must_fit_on_the_disks():
    kinds = {"pump": MachineType(6, channels=8, machines=100, slide_s=10)}
    rate = {"preflight_readings_per_s": {"pump": 1000}}
    # 1000/s x 260 bytes x 7 days, and 10 predictions/s x 600 bytes x 30 days, on both brokers.
    kept = (1000 * 260 * 7 + 10 * 600 * 30) * 86_400 // 2**20
    found = told(plant(machine_types=kinds, values=rate))
    assert found == [
        f"every host: kafka_log_dirs: the declared readings come to {kept} MB on each broker "
        "within "
        "their retention, and /data can take 85000 MB; shorten the retention in plant.yml, correct "
        "preflight_readings_per_s, or add disks"
    ]
    assert (
        told(plant(machine_types=kinds, values={"preflight_readings_per_s": {"pump": 100}})) == []
    )


# What is asked


def test_every_host_tries_the_ports_that_it_will_use():
    inventory = plant()
    asked = {
        name: {one["port"] for one in preflight_hosts.questions(inventory, host)["connect"]}
        for name, host in inventory.hosts.items()
    }
    assert asked["n1"] == {9092, 9094}
    assert asked["n2"] == {9092, 9093, 9094, 8081, 6123, 9100}


def test_kafka_is_tried_where_its_clients_reach_it():
    inventory = plant(values={"kafka_address": "198.51.100.9", "kafka_metrics": True})
    metrics = {name: dict(h.values, kafka_metrics_port=7071) for name, h in inventory.hosts.items()}
    hosts = {name: replace(h, values=metrics[name]) for name, h in inventory.hosts.items()}
    inventory = replace(inventory, hosts=hosts)
    found = preflight_hosts.targets(inventory, inventory.hosts["n2"])
    assert {port: address for address, port, _ in found} == {
        **dict.fromkeys((9092, 9093, 9094), "198.51.100.9"),
        **dict.fromkeys((6123, 7071, 8081, 9100), "192.0.2.1"),
    }


def test_only_names_that_the_hosts_file_will_not_hold_are_resolved():
    def names(**values):
        inventory = plant(values=values)
        return preflight_hosts.questions(inventory, inventory.hosts["n1"])["names"]

    assert names() == []
    assert names(common_hosts_file=False) == ["n1", "n2"]
    assert names(ansible_host="plant.example") == ["n1", "n2"]


def test_one_flink_host_alone_needs_no_shared_mount():
    alone = replace(plant(), groups=GROUPS | {"flink_workers": ("n1",)})
    assert preflight_hosts.questions(alone, alone.hosts["n1"])["shared_dir"] == ""


@pytest.mark.parametrize(("time", "ahead_s"), [(99.0, -1.0), (101.0, 0.0), (104.0, 1.0)])
def test_a_clock_is_only_blamed_for_what_lies_outside_the_question(time, ahead_s):
    result = {
        **{"time": time, "asked_at": 100.0, "answered_at": 103.0, "system": "debian 12"},
        **{"systemd": True, "python": [3, 11], "memory_mb": 1, "cpus": 1, "disks": {}, "names": {}},
        **{"listening": {}, "shared_mount": "", "shared_inode": None, "firewall": False},
    }
    assert answer(result, {"unreached": []}).ahead_s == ahead_s


def test_a_result_without_an_answer_is_a_failure_in_plain_words():
    result = {"unreachable": True, "msg": "Task failed: Failed to connect:\n no route:"}
    assert answer(result, {"skipped": True}).failure == "Failed to connect: no route"


# The modules


@pytest.fixture
def open_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_owner_of_a_listener_is_found(open_port):
    listening = preflight_host._listening({open_port, 1})
    assert set(listening) == {str(open_port)}
    about = listening[str(open_port)]
    assert about["process"] == Path("/proc/self/comm").read_text().strip()
    assert about["user"] == preflight_host._user(os.geteuid())


def test_a_folder_that_is_not_there_yet_is_on_its_parents_file_system(tmp_path):
    missing = tmp_path / "a" / "b"
    assert preflight_host._disk(missing) == preflight_host._disk(tmp_path)
    assert preflight_host._mount(Path("/proc/sys")) == Path("/proc")


def test_names_are_resolved_or_not():
    assert preflight_host._addresses("localhost")
    assert preflight_host._addresses("no-such-host.invalid") == []


def test_connections_say_why_they_fail(open_port):
    assert preflight_connect._refusal("127.0.0.1", open_port, 3) == ""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can have it meanwhile
        assert preflight_connect._refusal("127.0.0.1", taken.getsockname()[1], 3) == "refused"
    assert preflight_connect._refusal("no-such-host.invalid", 80, 3) != ""


def test_a_listener_serves_until_it_is_told_to_end():
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    started = module("preflight_listener", {"ports": [port], "lifetime_s": 30})
    assert preflight_connect._refusal("127.0.0.1", port, 3) == ""
    module("preflight_listener", {"pid": started["pid"]})
    for _ in range(100):
        if preflight_connect._refusal("127.0.0.1", port, 3) == "refused":
            return
    pytest.fail("still listening")


def module(name, arguments):
    """A module of ours on this machine; what it returns."""
    command = ["ansible", "localhost", "-c", "local", "-m", name, "-a", json.dumps(arguments)]
    done = subprocess.run(
        [*command, "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
    )  # fmt: skip
    return json.loads(re.sub(r"^.*? => ", "", done.stdout, flags=re.DOTALL))
