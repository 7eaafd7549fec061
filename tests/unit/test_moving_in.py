"""From plaintext to security without a stop: nodes of neighbouring steps understand each other.

While a step is taken, some nodes run with its settings, the others with those of the step before.
Here the settings of all steps are rendered, and read as the nodes would.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys

import pytest
import yaml
from test_roles import ROOT, Plant, endpoints, kafka_inventory, of_nodes

from plugins.modules.kafka_node_info import _address, _between_nodes, _connections, _listeners
from plugins.modules.kafka_node_info import _sockets as sockets

PAGE = ROOT / "docs" / "operations" / "moving_in.md"
# As the page tells people to.
[DECLARED] = (
    yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
)
ENDED = {name: value for name, value in DECLARED.items() if name != "kafka_plaintext_listeners"}
# Step -> what the inventory says, and whether nodes still run that listen in plaintext only.
STEPS = {
    "plaintext": ({"kafka_security": False}, False),
    "both": (DECLARED, True),
    "changed over": (DECLARED, False),
    "ended": (ENDED, False),
}
NEIGHBOURS = list(zip(STEPS, list(STEPS)[1:], strict=False))


@pytest.fixture(scope="module", params=[(1, True), (3, True), (3, False)], ids=str)
def steps(request, tmp_path_factory):
    """Step -> host -> its settings."""
    file = tmp_path_factory.mktemp("plant") / "hosts.yml"
    file.write_text(yaml.safe_dump(kafka_inventory(*request.param)))
    found = {}
    for step, (declared, some_plaintext_only) in STEPS.items():
        plant = Plant(file)
        first, *others = plant.hostvars.values()
        first["__kafka_plaintext_only"] = some_plaintext_only
        for host in others:
            host["__kafka_plaintext_only"] = False
        for host in plant.hostvars.values():
            host.update(declared)
        found[step] = of_nodes(plant)
    return found


def protocols(node):
    return dict(pair.split(":") for pair in node["listener.security.protocol.map"].split(","))


def calls(node):
    """Where a node calls others: name and protocol for brokers; by node id, port and protocol."""
    broker = node["inter.broker.listener.name"]
    [controller, *_] = node["controller.listener.names"].split(",")
    voters = dict(voter.split("@") for voter in node["controller.quorum.voters"].split(","))
    return (
        (broker, protocols(node)[broker]),
        {
            number: (address.rpartition(":")[2], protocols(node)[controller])
            for number, address in voters.items()
        },
    )


def understands(caller, called):
    """Whether a node gets through to another at which it calls it."""
    (broker, spoken), controllers = calls(caller)
    if "broker" in caller["process.roles"] and "broker" in called["process.roles"]:
        offered = endpoints(called["advertised.listeners"])
        if broker not in offered or protocols(called)[broker] != spoken:
            return False
        if endpoints(called["listeners"])[broker][1] != offered[broker][1]:
            return False
    if "controller" in called["process.roles"]:
        names = called["controller.listener.names"].split(",")
        bound = {
            (port, protocols(called)[name])
            for name, (_, port) in endpoints(called["listeners"]).items()
            if name in names
        }
        return controllers[called["node.id"]] in bound
    return True


@pytest.mark.parametrize(("before", "after"), NEIGHBOURS, ids=" - ".join)
def test_a_node_of_one_step_and_one_of_the_next_understand_each_other(steps, before, after):
    for old in steps[before].values():
        for new in steps[after].values():
            assert understands(old, new)
            assert understands(new, old)


def test_without_the_steps_between_they_do_not(steps):
    pairs = [("plaintext", "changed over"), ("plaintext", "ended"), ("both", "ended")]
    for before, after in pairs:
        old, new = (next(iter(steps[step].values())) for step in (before, after))
        assert not (understands(old, new) and understands(new, old))


def test_each_step_restarts_every_node_once(steps):
    for before, after in NEIGHBOURS:
        for host, settings in steps[after].items():
            assert settings != steps[before][host]


def test_a_program_in_plaintext_is_served_until_plaintext_ends(steps):
    for step in ("plaintext", "both", "changed over"):
        for host, node in steps[step].items():
            if "broker" in node["process.roles"]:
                [before] = {steps["plaintext"][host]["advertised.listeners"].split(",")[0]}
                assert before in node["advertised.listeners"].split(",")
                assert protocols(node)["CLIENT"] == "PLAINTEXT"
    for node in steps["ended"].values():
        assert "PLAINTEXT" not in node["listener.security.protocol.map"]


def test_who_has_no_name_may_do_everything_until_plaintext_ends_and_nothing_afterwards(steps):
    for step in ("both", "changed over"):
        for node in steps[step].values():
            assert "User:ANONYMOUS" in node["super.users"].split(";")
    for node in steps["ended"].values():
        assert node["super.users"] == "User:kafka;User:operator"
        assert node["allow.everyone.if.no.acl.found"] == "false"


def test_certificates_are_asked_for_at_the_new_listeners(steps):
    for node in steps["ended"].values():
        for name, protocol in protocols(node).items():
            asked = node.get(f"listener.name.{name.lower()}.ssl.client.auth")
            assert asked == ("required" if protocol == "SSL" else None)
        jaas = "listener.name.tls_client.scram-sha-512.sasl.jaas.config"
        assert node[jaas].endswith("ScramLoginModule required;")


def test_a_node_that_is_a_broker_only_names_one_listener_of_the_controllers(steps):
    for nodes in steps.values():
        for node in nodes.values():
            names = node["controller.listener.names"].split(",")
            assert "controller" in node["process.roles"] or len(names) == 1


@pytest.mark.parametrize(
    ("step", "port", "has_certificate"), [("both", 9092, False), ("changed over", 9196, True)]
)
def test_nodes_are_asked_where_all_of_them_listen(tmp_path, step, port, has_certificate):
    file = tmp_path / "hosts.yml"
    file.write_text(yaml.safe_dump(kafka_inventory(3, combined=True)))
    plant = Plant(file)
    declared, some_plaintext_only = STEPS[step]
    plant.hostvars["broker3"]["__kafka_plaintext_only"] = some_plaintext_only
    servers = plant.value("kafka", "__kafka_health_servers", "broker1", **declared)
    assert servers == ",".join(f"198.51.100.{number}:{port}" for number in (1, 2, 3))
    own = plant.value("kafka", "__kafka_health_own_server", "broker1", **declared)
    assert own == f"198.51.100.1:{port}"
    tls = plant.value("kafka", "__kafka_health_tls", "broker1", **declared)
    assert (tls is not None) == has_certificate
    # Users and their passwords go the secured way from the beginning.
    assert "9196" in plant.value("kafka", "__kafka_operator_servers", "broker1", **declared)


def test_a_plant_that_does_not_move_is_left_as_it_is(tmp_path):
    # Another byte would restart every node of every plant.
    file = tmp_path / "hosts.yml"
    file.write_text(yaml.safe_dump(kafka_inventory(1, combined=True)))
    text = Plant(file).render("kafka", "server.properties.j2", "broker1")
    about = ("advertised", "controller.", "inter.", "listener", "super")
    assert [line for line in text.splitlines() if line.startswith(about)] == [
        "advertised.listeners=CLIENT://198.51.100.1:9092,BROKER://198.51.100.1:9094,"
        "OPERATOR://198.51.100.1:9096",
        "controller.listener.names=CONTROLLER",
        "controller.quorum.voters=1@198.51.100.1:9093",
        "inter.broker.listener.name=BROKER",
        "listener.name.broker.ssl.client.auth=required",
        "listener.name.client.scram-sha-512.sasl.jaas.config="
        "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "listener.name.controller.ssl.client.auth=required",
        "listener.name.operator.ssl.client.auth=required",
        "listener.security.protocol.map=CLIENT:SASL_SSL,BROKER:SSL,CONTROLLER:SSL,OPERATOR:SSL",
        "listeners=CLIENT://:9092,BROKER://:9094,OPERATOR://:9096,CONTROLLER://:9093",
        "super.users=User:kafka;User:operator",
    ]


# What a host tells


SETTINGS = {
    "listeners": "CLIENT://:9092,BROKER://198.51.100.1:9094",
    "listener.security.protocol.map": "CLIENT:PLAINTEXT,BROKER:SSL,CONTROLLER:SSL",
    "inter.broker.listener.name": "BROKER",
    "controller.listener.names": "CONTROLLER,OLD",
}


def test_listeners_are_read_from_the_settings():
    assert _listeners(SETTINGS) == {
        "CLIENT": {"protocol": "PLAINTEXT", "port": 9092},
        "BROKER": {"protocol": "SSL", "port": 9094},
        "CONTROLLER": {"protocol": "SSL", "port": None},
    }
    assert _between_nodes(SETTINGS) == ["BROKER", "CONTROLLER"]
    assert _listeners({}) == {}
    assert _between_nodes({}) == []


def test_connections_are_told_by_listener_and_address(tmp_path):
    header = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n"
    rest = "00000000:00000000 00:00000000 00000000     0        0 1 1\n"
    mapped = "0000000000000000FFFF0000"
    (tmp_path / "tcp").write_text(f"{header} 0: 00000000:2384 00000000:0000 0A {rest}")
    (tmp_path / "tcp6").write_text(
        f"{header}"
        f" 0: {mapped}0B51CB0A:2384 {mapped}0151CB0A:D2F0 01 {rest}"
        f" 1: {mapped}0B51CB0A:2384 {mapped}0151CB0A:D2F2 01 {rest}"
        f" 2: {mapped}0B51CB0A:2384 {mapped}0C51CB0A:D2F4 06 {rest}"
        f" 3: {mapped}0B51CB0A:D2F6 {mapped}0C51CB0A:2384 01 {rest}"
    )
    found = [*sockets(tmp_path / "tcp"), *sockets(tmp_path / "tcp6")]
    assert found[0][:2] == ("0A", 9092)
    assert _connections(_listeners(SETTINGS), found) == [
        {"listener": "CLIENT", "protocol": "PLAINTEXT", "address": "10.203.81.1", "count": 2}
    ]


@pytest.mark.parametrize(
    ("digits", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("B80D0120000000000000000001000000", "2001:db8::1"),
        ("0000000000000000FFFF00000B51CB0A", "10.203.81.11"),
    ],
)
def test_addresses_are_read_as_the_kernel_prints_them(digits, address):
    assert _address(digits) == address


# What a run refuses


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.import_role:
        name: kafka
        tasks_from: listeners
    - ansible.builtin.debug:
        msg: "goes on {{ 'in plaintext' if __kafka_opening else 'by certificate' }}"
"""


class Node:
    """A host with the files of a Kafka node, and sockets in place of its process."""

    def __init__(self, folder):
        self.folder = folder
        self.open = []
        numbers = iter(self._free_ports(7))
        self.declared = {
            name: {one: about | {"port": next(numbers)} for one, about in DECLARED[name].items()}
            for name in ("kafka_listeners", "kafka_plaintext_listeners")
        } | {"kafka_listener_prefix": DECLARED["kafka_listener_prefix"]}
        (folder / "systemctl").write_text(
            "#!/bin/sh\necho LoadState=loaded; echo NeedDaemonReload=no\n"
        )
        (folder / "systemctl").chmod(0o755)

    def _free_ports(self, count):
        with contextlib.ExitStack() as stack:
            taken = [stack.enter_context(listening()) for _ in range(count)]
            return [one.getsockname()[1] for one in taken]

    def variables(self, step):
        """What the inventory says at a step, with ports that are free here."""
        if step == "plaintext":
            plain = self.declared["kafka_plaintext_listeners"]
            return {"kafka_security": False, "kafka_listeners": plain}
        return {name: value for name, value in self.declared.items() if name in STEPS[step][0]}

    def has(self, step):
        """Writes the settings of a step."""
        file = self.folder / "plant.yml"
        file.write_text(yaml.safe_dump(kafka_inventory(1, combined=True)))
        plant = Plant(file)
        plant.hostvars["broker1"]["__kafka_plaintext_only"] = STEPS[step][1]
        text = plant.render("kafka", "server.properties.j2", "broker1", **self.variables(step))
        (self.folder / "server.properties").write_text(text)

    def runs(self, step):
        """Listens as a process does that was started with the settings of a step."""
        (self.folder / "started-with").touch()
        declared = self.variables(step)
        for variable in ("kafka_listeners", "kafka_plaintext_listeners"):
            for about in declared.get(variable, {}).values():
                self.open.append(listening(about["port"]))

    def is_called(self, listener):
        """Somebody connects to a listener of before."""
        port = self.declared["kafka_plaintext_listeners"][listener]["port"]
        self.open.append(socket.create_connection(("127.0.0.1", port)))

    def asked(self, step, *arguments, brokers=1):
        """Exit code and answer of the role for what the inventory says at a step."""
        inventory = kafka_inventory(brokers, combined=True)
        inventory["all"]["vars"] = self.variables(step) | {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
        }
        (self.folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (self.folder / "play.yml").write_text(PLAY)
        paths = {"etc": self.folder, "started_with": self.folder / "started-with"}
        given = [f"-e__kafka_{name}={path}" for name, path in paths.items()]
        done = subprocess.run(
            ["ansible-playbook", "-i", "hosts.yml", "play.yml", *given, *arguments],
            cwd=self.folder,
            env=os.environ
            | {
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_CACHE_PLUGIN": "memory",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split())


def listening(port=0):
    return socket.create_server(("127.0.0.1", port))


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    for one in made.open:
        one.close()


@pytest.mark.parametrize(
    ("has", "runs", "speaks"),
    [
        ("plaintext", "plaintext", "in plaintext"),
        # Interrupted before its restart.
        ("both", "plaintext", "in plaintext"),
        ("both", "both", "by certificate"),
        ("changed over", "both", "by certificate"),
        ("changed over", "changed over", "by certificate"),
        ("ended", "ended", "by certificate"),
        # Down, or a host without Kafka yet: it starts with what all have then.
        ("both", None, "by certificate"),
        (None, None, "by certificate"),
    ],
)
def test_a_run_goes_on_from_what_the_process_listens_to(node, has, runs, speaks):
    if has:
        node.has(has)
    if runs:
        node.runs(runs)
    code, told = node.asked("changed over")
    assert code == 0, told
    assert f"goes on {speaks}" in told


@pytest.mark.parametrize(
    ("has", "wanted"),
    [
        ("plaintext", "ended"),
        ("both", "ended"),
        ("changed over", "plaintext"),
        ("ended", "plaintext"),
    ],
)
def test_nodes_that_would_not_understand_each_other_are_left_alone(node, has, wanted):
    node.has(has)
    node.runs(has)
    code, told = node.asked(wanted)
    assert code != 0
    assert "do not understand each other" in told
    assert "playbooks/moving_in.yml" in told


def test_a_plant_that_has_not_moved_in_goes_back(node):
    node.has("both")
    node.runs("both")
    code, told = node.asked("plaintext")
    assert code == 0, told


def test_plaintext_does_not_end_while_nodes_speak_it(node):
    node.has("changed over")
    node.runs("both")
    node.is_called("CONTROLLER")
    code, told = node.asked("ended", "-e", "kafka_end_plaintext=true")
    assert code != 0
    assert "nodes still speak it: 127.0.0.1" in told


def test_plaintext_ends_for_who_is_connected_only_if_told_so(node):
    node.has("changed over")
    node.runs("changed over")
    assert node.asked("ended")[0] == 0
    node.is_called("CLIENT")
    code, told = node.asked("ended")
    assert code != 0
    assert "still connected are 127.0.0.1 (CLIENT, 1)" in told
    assert node.asked("ended", "-e", "kafka_end_plaintext=true")[0] == 0
    # Whoever is to stay is not asked about.
    assert node.asked("changed over")[0] == 0


def test_all_nodes_take_part_in_each_step(node):
    code, told = node.asked("changed over", "--limit", "broker1", brokers=2)
    assert code != 0
    assert "and broker2 would not: run again without --limit" in told
