"""What each host lets in, and what its services may do: asked of the hosts, and from here."""

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ops.plant import Plant

KAFKA = ("kafka_controllers", "kafka_brokers")
FLINK = ("flink_masters", "flink_workers")
MONITORING = ("monitoring",)
CONTROL_NODE = "control node"
# By role and variable of a port: the groups that serve it, those that may connect, and whether
# operators may.
PORTS = {
    ("node_exporter", "node_exporter_port"): (("all",), MONITORING, False),
    ("kafka", "kafka_metrics_port"): (KAFKA, MONITORING, False),
    ("kafka", "kafka_listeners.CONTROLLER.port"): (("kafka_controllers",), KAFKA, False),
    ("kafka", "kafka_listeners.BROKER.port"): (("kafka_brokers",), ("kafka_brokers",), False),
    ("kafka", "kafka_listeners.CLIENT.port"): (("kafka_brokers",), (*KAFKA, *FLINK), True),
    ("flink", "flink_query_taskmanager_port"): (("flink_workers",), FLINK, False),
    ("flink", "flink_metrics_taskmanager_port"): (("flink_workers",), MONITORING, False),
    ("prometheus", "prometheus_port"): (MONITORING, MONITORING, True),
}
OPEN, CLOSED = "open", "No route to host"
# Runs on a host with a list of (address, port): what became of a connection to each.
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def attempt(target):
    try:
        socket.create_connection(target, 10).close()
    except OSError as error:
        return error.strerror or "timed out"
    return "open"
with ThreadPoolExecutor(16) as pool:
    print(json.dumps(list(pool.map(attempt, json.loads(sys.argv[1])))))
"""

# Debian's units that our roles configure, where they run. Not ssh.service: what that unit may not
# do, no administrator who logs in may do.
OF_DEBIAN = ("chrony",)
EXPOSURE = 4.0


@pytest.fixture(scope="module")
def model(inventory):
    return Plant(Path(inventory))


@pytest.fixture(scope="module")
def hosts(model):
    """The plant's hosts by name."""
    return {host.name: host for host in model.hosts}


def members(model, groups):
    return {name for group in groups for name in model.group(group)}


def ways(model, hosts):
    """(from, to, port) -> whether a connection is meant to be taken."""
    found = {}
    for (role, variable), (serving, connecting, for_operators) in PORTS.items():
        for to in members(model, serving):
            if not model.value(to, "firewall_enabled", "firewall"):
                continue
            port = int(model.value(to, variable, role))
            peers = members(model, connecting)
            found |= {(name, to, port): name in peers for name in hosts if name != to}
            # One that is a host of the plant itself counts as that.
            if not any(host.local for host in hosts.values()):
                known = bool(model.value(to, "firewall_operators", "firewall"))
                found[CONTROL_NODE, to, port] = for_operators and known
    return found


def attempt(target):
    try:
        socket.create_connection(target, 10).close()
    except OSError as error:
        return error.strerror or "timed out"
    return OPEN


def test_each_port_takes_its_peers_and_refuses_everybody_else(model, hosts, on):
    meant = ways(model, hosts)
    told = {}
    for origin in {origin for origin, _, _ in meant}:
        its = [way for way in meant if way[0] == origin]
        targets = [(hosts[to].address, port) for _, to, port in its]
        if origin == CONTROL_NODE:
            with ThreadPoolExecutor(16) as pool:
                answers = list(pool.map(attempt, targets))
        else:
            asked = on(origin).check_output("python3 -c %s %s", CONNECT, json.dumps(targets))
            answers = json.loads(asked)
        told |= dict(zip(its, answers, strict=True))
    assert told == {way: OPEN if may else CLOSED for way, may in meant.items()}


def test_whoever_has_no_key_is_not_asked_for_a_password(hosts, on):
    for name in hosts:
        # The refusal names what the server would take. Told in words: testinfra takes exit code 255
        # for a failure of its own connection.
        answer = on(name).run(
            "ssh -o BatchMode=yes -o PubkeyAuthentication=no -o StrictHostKeyChecking=no "
            "-o UserKnownHostsFile=/dev/null root@localhost true; echo $?"
        )
        assert answer.stdout.strip() == "255"
        assert "Permission denied (publickey)" in answer.stderr


def test_no_service_of_ours_may_do_more_than_it_needs(hosts, on):
    for name in hosts:
        host = on(name)
        ours = host.check_output("grep -l '^# Ansible managed' /etc/systemd/system/*.service")
        units = [Path(file).name for file in ours.split()]
        units += [f"{unit}.service" for unit in OF_DEBIAN if host.service(unit).is_running]
        exposure = {}
        for unit in units:
            told = host.check_output("systemd-analyze security --no-pager %s", unit)
            [level] = re.findall(r"exposure level for \S+: ([\d.]+)", told)
            exposure[unit] = float(level)
        assert "prometheus-node-exporter.service" in exposure
        assert {unit: level for unit, level in exposure.items() if level > EXPOSURE} == {}
