"""What preflight knows of a plant: its hosts, what runs on them, and how a problem is told.

Plain data and arithmetic. `plugins/action/preflight.py` reads the inventory into these types;
`preflight_inventory` judges them before a host is contacted, `preflight_hosts` what hosts answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KAFKA = frozenset({"kafka_controllers", "kafka_brokers"})
FLINK = frozenset({"flink_masters", "flink_workers"})
MONITORING = frozenset({"monitoring"})
PLANT_GROUPS = KAFKA | FLINK | MONITORING
# Who comes from outside the plant: the networks that the inventory names in firewall_<word>.
OPERATORS = frozenset({"operators"})
CLIENTS = frozenset({"clients"})

# Roles by the groups whose hosts they are applied to; none: all hosts.
ROLE_GROUPS: Mapping[str, frozenset[str]] = {
    "common": frozenset(),
    "firewall": frozenset(),
    "java": frozenset(),
    "node_exporter": frozenset(),
    "preflight": frozenset(),
    "sshd": frozenset(),
    "kafka": KAFKA,
    "flink": FLINK,
    "ssh_trust": FLINK,
    "flink_jobs": FLINK,
    "plant_exporter": frozenset({"flink_masters"}),
    "prometheus": MONITORING,
    "alertmanager": MONITORING,
    "grafana": MONITORING,
}


@dataclass(frozen=True)
class Problem:
    """Something to mend before a run: a host, group or file, and usually a variable there."""

    place: str
    subject: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.subject}: {self.what}; {self.remedy}"


@dataclass(frozen=True)
class Host:
    """One host of the inventory.

    `given` are the names of the variables that the inventory sets for it. `values` are its roles'
    variables as they would be used, defaults included; what depends on something unknown is absent.
    `broken` are variables that cannot be evaluated, with the reason.
    """

    name: str
    groups: frozenset[str]
    given: frozenset[str] = frozenset()
    values: Mapping[str, Any] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def is_in(self, groups: Iterable[str]) -> bool:
        """Whether the host is in one of the groups."""
        return not self.groups.isdisjoint(groups)

    def number(self, variable: str) -> int | None:
        """The variable's value if it is a whole number."""
        return whole(self.values.get(variable))

    @property
    def memory_mb(self) -> int | None:
        """Memory of the host: declared, or as the host said; None before it was asked."""
        return self.number("host_memory_mb")

    @property
    def address(self) -> str:
        """Where Ansible reaches it."""
        return str(self.values.get("ansible_host", self.name))

    @property
    def data_address(self) -> str:
        """Where Kafka's nodes and clients reach it."""
        return str(self.values.get("kafka_address", self.address))


@dataclass(frozen=True)
class MachineType:
    """What preflight needs of a machine type. `machines`: how many the plant model declares."""

    partitions: int
    channels: int = 1
    machines: int = 0
    slide_s: int = 10


@dataclass(frozen=True)
class Job:
    """A job that the plant model and plant_models ask for."""

    machine_type: str
    model_file: str
    model_exists: bool


@dataclass(frozen=True)
class Inventory:
    """Everything that is known before a host is contacted.

    `specs` are the roles' argument_specs (role -> entry point -> option -> its specification),
    `depot` versions by artifact, `depot_missing` artifacts without their file. `plant_problems` are
    complete lines; `retention_days` are those of telemetry and of results. `unresolved` are the
    addresses that the control node cannot resolve.
    """

    hosts: Mapping[str, Host]
    groups: Mapping[str, Sequence[str]]
    specs: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    depot: Mapping[str, str] = field(default_factory=dict)
    depot_missing: frozenset[str] = frozenset()
    plant_file: str = "plant.yml"
    plant_problems: Sequence[str] = ()
    machine_types: Mapping[str, MachineType] = field(default_factory=dict)
    retention_days: tuple[int, int] = (7, 30)
    heartbeat: bool = True
    jobs: Sequence[Job] = ()
    unresolved: frozenset[str] = frozenset()

    def members(self, *groups: str) -> list[Host]:
        """The hosts of the groups, each once, in the inventory's order."""
        names = dict.fromkeys(name for group in groups for name in self.groups.get(group, ()))
        return [self.hosts[name] for name in names if name in self.hosts]

    @property
    def master(self) -> str | None:
        """The host whose JobManager runs; the other masters are standbys."""
        return next(iter(self.groups.get("flink_masters", ())), None)


@dataclass(frozen=True)
class Port:
    """A TCP port that something listens on, and who connects to it.

    `clients` are groups of the plant's hosts; `networks` are OPERATORS, CLIENTS, both or none.
    """

    number: int
    variable: str
    clients: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Service:
    """A process of the plant on one host. `memory` are its parts in MB, by what sets them."""

    name: str
    unit: str
    user: str
    ports: tuple[Port, ...] = ()
    memory: Mapping[str, int] = field(default_factory=dict)


def services(inventory: Inventory, host: Host) -> list[Service]:
    """What runs on the host, as far as its variables say.

    Memory beyond what variables set is what the processes were seen to take.
    """
    found = [*_kafka(host), *_flink(host)]
    if host.name == inventory.master:
        found.append(_plain(host, "plant_exporter", "plantline-exporter", "flink", 100))
        small = {"their processes": 100}
        found.append(Service("clock and heartbeat", "flink-clock", "flink", memory=small))
    unit = "prometheus-node-exporter"
    found.append(_plain(host, "node_exporter", unit, "prometheus", 30))
    if host.is_in(MONITORING):
        found.append(_plain(host, "prometheus", "prometheus", "prometheus", 300, OPERATORS))
        unit = "prometheus-alertmanager"
        found.append(_plain(host, "alertmanager", unit, "prometheus", 50, OPERATORS))
        if "grafana" in inventory.depot:
            found.append(_plain(host, "grafana", "grafana", "grafana", 250, OPERATORS))
    return found


# Those of before are there as well while a plant moves in.
KAFKA_LISTENERS = ("kafka_plaintext_listeners", "kafka_listeners")
# By listener; one that the plant has added is for programs, as CLIENT is. Kafka's own hosts ask the
# brokers how they are before one of them is restarted.
_KAFKA_CLIENTS = {
    "CLIENT": (FLINK | KAFKA, CLIENTS | OPERATORS),
    "BROKER": (frozenset({"kafka_brokers"}), frozenset[str]()),
    "CONTROLLER": (KAFKA, frozenset[str]()),
    "OPERATOR": (KAFKA, OPERATORS),
}


def _kafka(host: Host) -> Iterator[Service]:
    if not host.is_in(KAFKA):
        return
    ports = []
    for variable in KAFKA_LISTENERS:
        listeners = host.values.get(variable)
        for name, about in (listeners if isinstance(listeners, Mapping) else {}).items():
            number = whole(about.get("port")) if isinstance(about, Mapping) else None
            needed_by = {"CONTROLLER": "kafka_controllers"}.get(name, "kafka_brokers")
            if number is not None and needed_by in host.groups:
                clients, networks = _KAFKA_CLIENTS.get(name, _KAFKA_CLIENTS["CLIENT"])
                ports.append(Port(number, f"{variable}.{name}.port", clients, networks))
    if host.values.get("kafka_metrics"):
        ports += _port(host, "kafka_metrics_port", MONITORING)
    memory = {"off its heap": 300}
    if (heap := host.number("kafka_heap_mb")) is not None:
        memory = {"kafka_heap_mb": heap, **memory}
    yield Service("Kafka", "kafka", "kafka", tuple(ports), memory)


# With Flink's own defaults, for what __flink_config does not say; 0 stands for any free port.
FLINK_PORTS: Mapping[str, Mapping[str, int]] = {
    "jobmanager": {"rest.port": 8081, "jobmanager.rpc.port": 6123, "blob.server.port": 0},
    "taskmanager": {"taskmanager.rpc.port": 0, "taskmanager.data.port": 0},
}


def _flink(host: Host) -> Iterator[Service]:
    settings = host.values.get("__flink_config")
    settings = settings if isinstance(settings, Mapping) else {}
    for group, name, size in (
        ("flink_masters", "jobmanager", "flink_jobmanager_memory_mb"),
        ("flink_workers", "taskmanager", "flink_taskmanager_memory_mb"),
    ):
        if group not in host.groups:
            continue
        ports = []
        for key, default in FLINK_PORTS[name].items():
            networks = OPERATORS if key == "rest.port" else frozenset[str]()
            if number := whole(settings.get(key, default)):
                ports.append(Port(number, f"flink_config: {key}", FLINK, networks))
        if host.values.get("flink_metrics"):
            ports += _port(host, f"flink_metrics_{name}_port", MONITORING)
        ports += _port(host, f"flink_query_{name}_port", FLINK)
        own = host.values.get("flink_config")
        changed = own.get(f"{name}.memory.process.size") if isinstance(own, Mapping) else None
        memory = host.number(size) if changed is None else size_mb(changed)
        parts = {} if memory is None else {size: memory}
        yield Service(f"Flink's {name}", f"flink-{name}", "flink", tuple(ports), parts)


def _plain(
    host: Host,
    role: str,
    unit: str,
    user: str,
    memory: int,
    networks: frozenset[str] = frozenset(),
) -> Service:
    """A service of one port, which monitoring asks."""
    ports = tuple(_port(host, f"{role}_port", MONITORING, networks))
    return Service(role, unit, user, ports, {role: memory})


def _port(
    host: Host, variable: str, clients: frozenset[str], networks: frozenset[str] = frozenset()
) -> list[Port]:
    number = host.number(variable)
    return [] if number is None else [Port(number, variable, clients, networks)]


def whole(value: object) -> int | None:
    """The value as a whole number; None if it is none (a boolean is none)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d+", value.strip()) else None


def size_mb(text: object) -> int | None:
    """A memory size of Flink's (`1728m`, `4g`, `1073741824`) in MB; None if it is none."""
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)(?:b|ibibytes|bytes)?", str(text).strip().lower())
    if match is None:
        return None
    scale = {"": 2**20, "k": 2**10, "m": 1, "g": 2**-10, "t": 2**-20}[match[2]]
    return int(int(match[1]) / scale)


def merged(problems: Iterable[Problem], inventory: Inventory) -> list[Problem]:
    """The same problem of several hosts as one, in the order of its first."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for problem in problems:
        key = problem.subject, problem.what, problem.remedy
        places.setdefault(key, []).append(problem.place)
    return [Problem(named(where, inventory), *key) for key, where in places.items()]


def named(places: Sequence[str], inventory: Inventory) -> str:
    """Several hosts as the place of a problem."""
    everywhere = len(inventory.hosts) > 1 and set(places) == set(inventory.hosts)
    return "every host" if everywhere else ", ".join(places)


def report(problems: Iterable[Problem | str]) -> str:
    """All problems, one a line, numbered so that they can be ticked off."""
    lines = [str(problem) for problem in problems]
    head = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    told = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
    return f"{head}. Nothing was changed.\n{told}"
