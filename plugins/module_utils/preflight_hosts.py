"""What hosts are asked before a run, and what can be wrong with their answers.

`questions` says what module `preflight_host` and `preflight_connect` ask a host; `problems` judges
what all of them said.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plugins.module_utils.preflight import (
    FLINK,
    KAFKA,
    MONITORING,
    Host,
    Inventory,
    MachineType,
    Problem,
    Service,
    merged,
    named,
    services,
)
from plugins.module_utils.preflight_inventory import (
    is_loopback,
    memory_suffices,
    slots_suffice,
)

# The least that programs and logs need for a first run, and that a running plant should have left.
PROGRAMS = "/opt/plantline"
LOGS = "/var/log"
# A JSON reading, without compression: its id, time and braces, and each channel's name and number.
READING_BYTES, CHANNEL_BYTES = 60, 25
PREDICTION_BYTES = 600
# Kafka removes whole segments, and a disk must not be full.
DISK_SHARE = 0.85
DAY_S = 86_400
# What a host's firewall answers, ours among them, and no port where nobody listens.
CLOSED_BY_FIREWALL = "no route to host"
# What a host answers where nobody listens; some firewalls do, too.
REFUSED = "refused"


@dataclass(frozen=True)
class Disk:
    """The file system that a folder lies on, or will lie on."""

    mount: str
    total_mb: int
    free_mb: int


@dataclass(frozen=True)
class Listener:
    """Who listens on a port. Process and unit are empty where the host does not let us look."""

    user: str
    process: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Answer:
    """What one host said. `failure` says why it said nothing; `firewall`, that ours is loaded."""

    failure: str = ""
    ahead_s: float = 0.0
    system: str = "debian 12"
    systemd: bool = True
    python: tuple[int, int] = (3, 11)
    memory_mb: int = 0
    cpus: int = 1
    disks: Mapping[str, Disk] = field(default_factory=dict)
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    listening: Mapping[int, Listener] = field(default_factory=dict)
    shared_mount: str = ""
    shared_inode: int | None = None
    firewall: bool = False
    unreached: Sequence[tuple[str, int, str]] = ()


def questions(inventory: Inventory, host: Host) -> dict[str, Any]:
    """What the host is asked: arguments of the modules, as plain values."""
    ports = [port.number for service in services(inventory, host) for port in service.ports]
    return {
        "ports": sorted(set(ports)),
        "names": names_to_resolve(inventory, host),
        "paths": sorted({PROGRAMS, LOGS, *data_folders(host)}),
        "shared_dir": shared_dir(inventory, host) or "",
        "connect": [
            {"address": address, "port": port, "host": name}
            for address, port, name in targets(inventory, host)
        ],
    }


def names_to_resolve(inventory: Inventory, host: Host) -> list[str]:
    """Names that the host must resolve by itself: those that /etc/hosts will not hold."""
    written = host.values.get("common_hosts_file", True)
    return sorted(
        other.name
        for other in inventory.hosts.values()
        if not (written and _is_address(other.address))
    )


def data_folders(host: Host) -> list[str]:
    """Folders that hold what the plant keeps."""
    folders = host.values.get("kafka_log_dirs", []) if host.is_in(KAFKA) else []
    folders = [str(folder) for folder in folders] if isinstance(folders, list) else []
    if host.is_in(MONITORING) and "prometheus_data_dir" in host.values:
        folders.append(str(host.values["prometheus_data_dir"]))
    return folders


def shared_dir(inventory: Inventory, host: Host) -> str | None:
    """The mount that the host must share; one Flink host alone shares nothing."""
    if not host.is_in(FLINK) or inventory.members(*sorted(FLINK)) == [host]:
        return None
    return str(host.values["flink_shared_dir"]) if "flink_shared_dir" in host.values else None


def targets(inventory: Inventory, host: Host) -> list[tuple[str, int, str]]:
    """Where the host connects to: (address, port, name of the host that listens there)."""
    found = {}
    for other in inventory.hosts.values():
        for service in services(inventory, other):
            for port in service.ports:
                is_kafkas = service.unit == "kafka" and port.clients != MONITORING
                address = other.data_address if is_kafkas else other.address
                if other.name != host.name and host.is_in(port.clients):
                    found[address, port.number] = other.name
    return [(address, port, name) for (address, port), name in sorted(found.items())]


def problems(
    inventory: Inventory, answers: Mapping[str, Answer], max_clock_skew_s: float, min_free_mb: int
) -> list[Problem | str]:
    """Everything that is wrong with the hosts that were asked."""
    found: list[Problem] = []
    for name, answer in answers.items():
        host = inventory.hosts[name]
        if answer.failure:
            found.append(
                Problem(name, "host", f"could not be asked: {answer.failure}", _MEND_LOGIN)
            )
            continue
        found += system(host, answer)
        found += clock(host, answer, max_clock_skew_s)
        found += names(inventory, host, answer)
        found += ports(inventory, host, answer)
        found += disks(inventory, host, answer, min_free_mb)
    sound = {name: answer for name, answer in answers.items() if not answer.failure}
    found += shared(inventory, sound)
    found += reachability(inventory, sound)
    found += resources(inventory, sound)
    return [*merged(found, inventory)]


_MEND_LOGIN = (
    "it needs a login over SSH (ansible_user, ansible_ssh_private_key_file), root or sudo "
    "(ansible_become_password), and /usr/bin/python3"
)


def system(host: Host, answer: Answer) -> Iterator[Problem]:
    if answer.system != "debian 12" or not answer.systemd:
        init = "" if answer.systemd else " without systemd"
        yield Problem(
            host.name,
            "operating system",
            f"runs {answer.system}{init}",
            "Plantline needs Debian 12 with systemd: install it, or take the host out of hosts.yml",
        )
    elif host.is_in(FLINK) and answer.python != (3, 11):
        yield Problem(
            host.name,
            "python3",
            f"is {'.'.join(map(str, answer.python))}, and the depot's packages are for 3.11",
            "bring Debian's own /usr/bin/python3 back",
        )


def clock(host: Host, answer: Answer, max_skew_s: float) -> Iterator[Problem]:
    if abs(answer.ahead_s) > max_skew_s:
        way = "ahead of" if answer.ahead_s > 0 else "behind"
        yield Problem(
            host.name,
            "clock",
            f"is {abs(answer.ahead_s):.0f} s or more {way} the control node's",
            "set the one that is wrong (`timedatectl set-time`); then common_ntp_servers keep it",
        )


def names(inventory: Inventory, host: Host, answer: Answer) -> Iterator[Problem]:
    for name, addresses in answer.names.items():
        if not addresses:
            yield Problem(
                host.name,
                f"name {name}",
                "cannot be resolved here",
                f"give an IP address as ansible_host of {name}, or mend the plant's DNS",
            )
        elif all(map(is_loopback, addresses)) and len(inventory.hosts) > 1:
            yield Problem(
                host.name,
                f"name {name}",
                f"resolves to {', '.join(addresses)}: services would listen where nobody reaches",
                "remove the line from /etc/hosts, or set common_hosts_file: true",
            )


def ports(inventory: Inventory, host: Host, answer: Answer) -> Iterator[Problem]:
    for service in services(inventory, host):
        for port in service.ports:
            listener = answer.listening.get(port.number)
            if listener is None or _is_ours(listener, service):
                continue
            who = f"{listener.process or 'a process'} of user {listener.user}"
            unit = f" ({listener.unit})" if listener.unit else ""
            yield Problem(
                host.name,
                port.variable,
                f"port {port.number} is taken by {who}{unit}",
                f"stop that process, or give {service.name} another port",
            )


def _is_ours(listener: Listener, service: Service) -> bool:
    if listener.unit:
        return listener.unit == f"{service.unit}.service"
    return listener.user == service.user


def _is_served(inventory: Inventory, name: str, port: int, answer: Answer) -> bool:
    """Whether the service that a port is for listened there when its host was asked."""
    listener = answer.listening.get(port)
    return listener is not None and any(
        _is_ours(listener, service)
        for service in services(inventory, inventory.hosts[name])
        if port in (one.number for one in service.ports)
    )


def disks(inventory: Inventory, host: Host, answer: Answer, min_free_mb: int) -> Iterator[Problem]:
    seen = set()
    for path, disk in answer.disks.items():
        if disk.free_mb < min_free_mb and disk.mount not in seen:
            seen.add(disk.mount)
            yield Problem(
                host.name,
                path,
                f"{disk.free_mb} MB are free on {disk.mount}, {min_free_mb} are needed",
                "make room, or lower preflight_min_free_mb where that is enough",
            )
    folders = host.values.get("kafka_log_dirs", []) if "kafka_brokers" in host.groups else []
    records = {disk.mount: disk for path, disk in answer.disks.items() if path in folders}
    room_mb = int(sum(disk.total_mb for disk in records.values()) * DISK_SHARE)
    needed_mb = kept_mb(inventory)
    if records and needed_mb > room_mb:
        yield Problem(
            host.name,
            "kafka_log_dirs",
            f"the declared readings come to {needed_mb} MB on each broker within their retention, "
            f"and {', '.join(records)} can take {room_mb} MB",
            "shorten the retention in plant.yml, correct preflight_readings_per_s, or add disks",
        )


def kept_mb(inventory: Inventory) -> int:
    """MB on each broker once topics are as old as they get; 0 where no rate is declared."""
    brokers = inventory.members("kafka_brokers")
    rates = brokers[0].values.get("preflight_readings_per_s") if brokers else None
    if not isinstance(rates, Mapping) or not rates:
        return 0
    telemetry_days, results_days = inventory.retention_days
    kept = 0.0
    for name, rate in rates.items():
        kind = inventory.machine_types.get(name, MachineType(1))
        reading = READING_BYTES + CHANNEL_BYTES * kind.channels
        kept += float(rate) * reading * telemetry_days * DAY_S
        kept += kind.machines / kind.slide_s * PREDICTION_BYTES * results_days * DAY_S
    replicas = min(len(brokers), 3)
    return int(kept * replicas / len(brokers) / 2**20)


def shared(inventory: Inventory, answers: Mapping[str, Answer]) -> Iterator[Problem]:
    asked = [
        inventory.hosts[name] for name in answers if shared_dir(inventory, inventory.hosts[name])
    ]
    mounted = []
    for host in asked:
        answer, folder = answers[host.name], shared_dir(inventory, host)
        if answer.shared_inode is None:
            what, remedy = f"there is no folder {folder}", "mount the shared storage there"
        elif answer.shared_mount == "/":
            what = f"{folder} lies on the host's own disk: a checkpoint would be lost with the host"
            remedy = "mount storage there that all Flink hosts share, in /etc/fstab"
        else:
            mounted.append(host)
            continue
        yield Problem(host.name, "flink_shared_dir", what, remedy)
    first = answers[mounted[0].name].shared_inode if mounted else None
    others = [host for host in mounted if answers[host.name].shared_inode != first]
    if others:
        yield Problem(
            named([host.name for host in others], inventory),
            "flink_shared_dir",
            f"what is mounted there is not what {mounted[0].name} has",
            "mount the same storage on all Flink hosts",
        )


def reachability(inventory: Inventory, answers: Mapping[str, Answer]) -> Iterator[Problem]:
    """One line for each pair of hosts, with all the ports that do not answer.

    What a host's own firewall of ours still refuses is no problem: the run opens it first. Nor is a
    service that listened a moment ago: it is restarting, since a former run was interrupted there.
    """
    for name, answer in answers.items():
        listeners = {(a, p): other for a, p, other in targets(inventory, inventory.hosts[name])}
        missed: dict[tuple[str, str, str], list[int]] = {}
        for address, port, why in answer.unreached:
            other = listeners.get((address, port), address)
            found = answers.get(other)
            if found and why == CLOSED_BY_FIREWALL and found.firewall:
                continue
            if found and why == REFUSED and _is_served(inventory, other, port, found):
                continue
            missed.setdefault((other, address, why), []).append(port)
        for (other, address, why), numbers in missed.items():
            yield Problem(
                name,
                f"way to {other}",
                f"{address} port {', '.join(map(str, sorted(numbers)))}: {why}",
                "open these ports between the hosts (firewall, switch), or correct the address",
            )


def resources(inventory: Inventory, answers: Mapping[str, Answer]) -> Iterator[Problem]:
    """The arithmetic again, with what the hosts have where the inventory does not declare it."""
    asked = {name: inventory.hosts[name] for name in answers}
    for name, host in asked.items():
        has = answers[name].memory_mb
        if "host_memory_mb" in host.given and (host.memory_mb or 0) > has:
            yield Problem(
                name,
                "host_memory_mb",
                f"is {host.memory_mb}, and the host has {has} MB",
                "correct it, or leave it out",
            )
    yield from memory_suffices(replace(inventory, hosts=asked))
    if set(inventory.groups.get("flink_workers", ())) <= set(answers):
        yield from slots_suffice(inventory)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
