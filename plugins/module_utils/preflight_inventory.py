"""What can be wrong with an inventory, told before any host is contacted.

Each check is a function of the whole inventory and knows nothing of the others; a check passes
over what another one has to complain of.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from plugins.module_utils.preflight import (
    FLINK,
    FLINK_PORTS,
    KAFKA,
    KAFKA_LISTENERS,
    PLANT_GROUPS,
    ROLE_GROUPS,
    Host,
    Inventory,
    Problem,
    Service,
    merged,
    named,
    services,
    whole,
)

NEEDED_GROUPS = ("kafka_controllers", "kafka_brokers", "flink_masters", "flink_workers")
KNOWN_GROUPS = frozenset({"all", "ungrouped", "kafka", "flink"}) | PLANT_GROUPS

# Variables that playbooks read and no role declares.
PLAYBOOK_VARIABLES = frozenset(
    {"plant", "plant_models", "plant_jobs_parallelism", "host_memory_mb"}
)
# What other collections call a thing, and our name for it.
SUCCESSORS = {
    "kafka_broker_id": "kafka_node_id",
    "kafka_broker_rack": "kafka_rack",
    "kafka_data_dirs": "kafka_log_dirs",
    "kafka_heap_opts": "kafka_heap_mb",
    "kafka_zookeeper_connect": "kafka_controllers, a group",
    "flink_checkpoint_dir": "flink_shared_dir",
    "flink_taskmanager_slots": "flink_slots",
}
# Nodes that do not agree on these do not understand each other.
SAME_EVERYWHERE = {
    "kafka_version": KAFKA,
    "kafka_listeners": KAFKA,
    "kafka_plaintext_listeners": KAFKA,
    "kafka_listener_prefix": KAFKA,
    "kafka_security": KAFKA,
    "flink_version": FLINK,
    "flink_shared_dir": FLINK,
}
# Kafka: static quorums and KRaft as this role sets them up. Flink: from 1.19 on for Python 3.11, up
# to 1.20 because later ones do not read flink-conf.yaml.
VERSIONS = {"kafka_version": ("3.8", "3.9"), "flink_version": ("1.19", "1.20")}
ARTIFACTS = {
    "common": frozenset({"debian-bookworm"}),
    "kafka": frozenset({"kafka", "kafka-admin"}),
    "flink": frozenset({"flink", "flink-connectors", "flink-plantline", "job-runtime"}),
}
# The rest is the system's, and a little page cache's.
MEMORY_SHARE = 0.9
LAST_PORT = 65535

Check = Callable[[Inventory], Iterator[Problem]]


def problems(inventory: Inventory) -> list[Problem | str]:
    """Everything that is wrong, in the order in which an engineer mends it."""
    typed, mistyped = typed_values(inventory)
    found = [problem for check in FIRST for problem in check(typed)]
    found += mistyped
    found += [problem for check in SECOND for problem in check(typed)]
    return [*merged(found, inventory), *inventory.plant_problems]


# Groups


def groups_have_hosts(inventory: Inventory) -> Iterator[Problem]:
    for group in NEEDED_GROUPS:
        if not inventory.groups.get(group):
            yield Problem(
                f"group {group}", "hosts", "is missing or has no host", "name one in hosts.yml"
            )


def controllers_are_odd(inventory: Inventory) -> Iterator[Problem]:
    controllers = inventory.groups.get("kafka_controllers", ())
    if controllers and len(controllers) % 2 == 0:
        yield Problem(
            "group kafka_controllers",
            "hosts",
            f"{len(controllers)} controllers survive no more losses than {len(controllers) - 1}",
            "use an odd number: 1, 3 or 5",
        )


def parents_have_all_children(inventory: Inventory) -> Iterator[Problem]:
    """Plays and users of the operating system go by the groups `kafka` and `flink`."""
    for parent, children in (("kafka", KAFKA), ("flink", FLINK)):
        for child in sorted(children):
            absent = set(inventory.groups.get(child, ())) - set(inventory.groups.get(parent, ()))
            if absent:
                yield Problem(
                    f"group {parent}",
                    "children",
                    f"lacks {', '.join(sorted(absent))} of {child}",
                    f"make {child} a child of {parent}",
                )


def groups_are_known(inventory: Inventory) -> Iterator[Problem]:
    """A plant may have groups of its own, but not one that looks like a slip of the pen."""
    for group in sorted(set(inventory.groups) - KNOWN_GROUPS):
        meant = difflib.get_close_matches(group, sorted(KNOWN_GROUPS), 1, cutoff=0.88)
        if meant:
            yield Problem(
                f"group {group}", "name", "no playbook knows it", f"did you mean {meant[0]}?"
            )


def members_are_hosts(inventory: Inventory) -> Iterator[Problem]:
    """A name in a group makes a host of it, also a misspelt one."""
    known = [host.name for host in inventory.hosts.values() if "ansible_host" in host.given]
    for host in inventory.hosts.values():
        if not host.is_in(PLANT_GROUPS):
            yield Problem(
                host.name,
                "groups",
                "is in no group of the plant, so it would run nothing",
                f"put it into one of {', '.join(sorted(PLANT_GROUPS))}, or remove it",
            )
        if "ansible_host" not in host.given and host.address in inventory.unresolved:
            meant = difflib.get_close_matches(host.name, known, 1, cutoff=0.7)
            hint = f"did you mean {meant[0]}? Else give" if meant else "give"
            yield Problem(
                host.name,
                "ansible_host",
                "not given, and the control node cannot resolve the host's name",
                f"{hint} its address beside the host in hosts.yml",
            )


# Names and addresses


def names_can_be_used(inventory: Inventory) -> Iterator[Problem]:
    for host in inventory.hosts.values():
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?", host.name):
            yield Problem(
                host.name,
                "host name",
                "Flink and Kafka take letters, digits, dots and hyphens only",
                "rename the host in hosts.yml",
            )


def addresses_can_be_used(inventory: Inventory) -> Iterator[Problem]:
    for host in inventory.hosts.values():
        for variable in ("ansible_host", "kafka_address"):
            if variable not in host.given or variable not in host.values:
                continue
            address = str(host.values[variable])
            if address in inventory.unresolved:
                yield Problem(
                    host.name,
                    variable,
                    f"the control node cannot resolve {address!r}",
                    "correct it, or give an IP address",
                )
            elif is_loopback(address) and (len(inventory.hosts) > 1 or variable != "ansible_host"):
                yield Problem(
                    host.name,
                    variable,
                    f"{address} leads every host to itself",
                    "give the address at which the other hosts reach it",
                )


def addresses_differ(inventory: Inventory) -> Iterator[Problem]:
    logins: dict[object, list[Host]] = defaultdict(list)
    brokers: dict[object, list[Host]] = defaultdict(list)
    for host in inventory.hosts.values():
        logins[host.address, host.number("ansible_port") or 22].append(host)
        if host.is_in(KAFKA):
            brokers[host.data_address].append(host)
    twice = [hosts for hosts in logins.values() if len(hosts) > 1]
    for hosts in twice:
        yield Problem(
            named([host.name for host in hosts], inventory),
            "ansible_host",
            f"all have {hosts[0].address}",
            "give each host its own address",
        )
    for hosts in brokers.values():
        if len(hosts) > 1 and hosts not in twice:
            yield Problem(
                named([host.name for host in hosts], inventory),
                "kafka_address",
                f"all are reached at {hosts[0].data_address}",
                "give each host its own address",
            )


def networks_can_be_used(inventory: Inventory) -> Iterator[Problem]:
    for host in inventory.hosts.values():
        for variable, network in _networks(host):
            if not is_network(network):
                what = f"{network!r} is no network and no address"
                yield Problem(host.name, variable, what, "write one such as 192.0.2.0/24")


def _networks(host: Host) -> Iterator[tuple[str, str]]:
    """What the host's firewall variables name, each with its variable."""
    for variable in ("firewall_operators", "firewall_clients", "firewall_addresses"):
        given = host.values.get(variable)
        yield from ((variable, str(one)) for one in (given if isinstance(given, list) else []))
    more = host.values.get("firewall_additional")
    for entry in more if isinstance(more, list) else []:
        yield from (("firewall_additional", str(one)) for one in entry.get("from") or [])


def is_network(text: str) -> bool:
    """Whether the text is an IP network or address."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


# Variables


def typed_values(inventory: Inventory) -> tuple[Inventory, list[Problem]]:
    """The inventory with values converted as the roles will, and those that cannot be taken away.

    What the roles' argument_specs say of types, choices and required values would otherwise be
    told role by role, in the middle of a run.
    """
    found = []
    hosts = {}
    for host in inventory.hosts.values():
        values = dict(host.values)
        for variable, about in _options_of(host, inventory):
            if variable in host.broken and variable in host.given:
                what = f"cannot be evaluated: {host.broken[variable]}"
                found.append(Problem(host.name, variable, what, "correct it"))
            elif variable in values and variable in host.given:
                kind = {key: value for key, value in about.items() if key != "default"}
                checked = ArgumentSpecValidator({variable: kind}).validate(
                    {variable: values.pop(variable)}
                )
                if not checked.error_messages:
                    values[variable] = checked.validated_parameters[variable]
                for message in checked.error_messages:
                    found.append(Problem(host.name, variable, _plain(message), _meaning(about)))
            elif about.get("required") and variable not in host.given:
                what = "is required and not given"
                found.append(Problem(host.name, variable, what, _meaning(about)))
        hosts[host.name] = replace(host, values=values)
    return replace(inventory, hosts=hosts), found


def _options_of(host: Host, inventory: Inventory) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for role, groups in ROLE_GROUPS.items():
        entries = inventory.specs.get(role, {})
        if not groups or host.is_in(groups):
            yield from entries.get("main", {}).items()


def _plain(message: str) -> str:
    """ArgumentSpecValidator's message in our words where its own name Python."""
    match = re.search(r"is of type (\w+) and we were unable to convert to (\w+)", message)
    words = {"str": "text", "int": "a whole number", "bool": "true or false", "dict": "a mapping"}
    if match is None:
        return message
    is_, wanted = (words.get(kind, f"a {kind}") for kind in match.groups())
    return f"is {is_}, not {wanted}"


def _meaning(about: Mapping[str, Any]) -> str:
    text = about.get("description", "")
    text = " ".join((text if isinstance(text, str) else text[0]).split())
    return "it is: " + text.partition(". ")[0].rstrip(".")


def variables_are_known(inventory: Inventory) -> Iterator[Problem]:
    """A misspelt variable does nothing, silently."""
    known = PLAYBOOK_VARIABLES | {
        option
        for entries in inventory.specs.values()
        for options in entries.values()
        for option in options
    }
    prefixes = ("plant_", "host_", *(f"{role}_" for role in inventory.specs))
    what = "no role has a variable of this name"
    for host in inventory.hosts.values():
        for variable in sorted(host.given - known):
            near = difflib.get_close_matches(variable, sorted(known), 1, cutoff=0.7)
            if variable in SUCCESSORS:
                remedy = f"use {SUCCESSORS[variable]}"
                yield Problem(host.name, variable, "is not used here", remedy)
            elif difflib.get_close_matches(variable, near, 1, cutoff=0.9):
                yield Problem(host.name, variable, what, f"did you mean {near[0]}?")
            elif variable.startswith(prefixes):
                remedy = f"did you mean {near[0]}?" if near else "see docs/reference, or rename it"
                yield Problem(host.name, variable, what, remedy)


def values_agree(inventory: Inventory) -> Iterator[Problem]:
    for variable, groups in SAME_EVERYWHERE.items():
        hosts = [host for host in inventory.members(*sorted(groups)) if variable in host.values]
        different = [host for host in hosts if host.values[variable] != hosts[0].values[variable]]
        if different:
            yield Problem(
                named([host.name for host in different], inventory),
                variable,
                f"differs from {hosts[0].name}'s",
                "set it once, in group_vars",
            )


# Kafka


def node_ids_differ(inventory: Inventory) -> Iterator[Problem]:
    by_id: dict[int, list[Host]] = defaultdict(list)
    for host in inventory.members(*sorted(KAFKA)):
        number = host.number("kafka_node_id")
        if number is not None:
            by_id[number].append(host)
    for number, hosts in by_id.items():
        if len(hosts) > 1:
            yield Problem(
                named([host.name for host in hosts], inventory),
                "kafka_node_id",
                f"all have {number}",
                "give each Kafka host its own, and never change that of a host that has run",
            )


def listeners_are_complete(inventory: Inventory) -> Iterator[Problem]:
    for host in inventory.members(*sorted(KAFKA)):
        for variable in KAFKA_LISTENERS:
            listeners = host.values.get(variable)
            of_before = variable == "kafka_plaintext_listeners"
            if not isinstance(listeners, Mapping) or (of_before and not listeners):
                continue
            needed = {"CLIENT", "BROKER", "CONTROLLER"}
            if host.values.get("kafka_security") and not of_before:
                needed |= {"OPERATOR"}
            for name in sorted(needed - set(listeners)):
                remedy = (
                    f"give all of them in {variable}: the whole variable is replaced, not merged"
                )
                yield Problem(host.name, variable, f"{name} is missing", remedy)
            for name, about in listeners.items():
                for key in ("port", "protocol"):
                    if not isinstance(about, Mapping) or about.get(key) is None:
                        remedy = "give port and protocol"
                        yield Problem(host.name, f"{variable}.{name}", f"has no {key}", remedy)


def old_and_new_listeners_can_be_told_apart(inventory: Inventory) -> Iterator[Problem]:
    """A plant that moves in from plaintext has both, on ports and under names of their own.

    That ports differ is what `ports_do_not_clash` sees to.
    """
    for host in inventory.members(*sorted(KAFKA)):
        prefix = str(host.values.get("kafka_listener_prefix", ""))
        if not re.fullmatch("[A-Z0-9_]*", prefix):
            what = f"{prefix!r} cannot begin the name of a listener"
            yield Problem(host.name, "kafka_listener_prefix", what, "write one such as TLS_")
        plaintext = host.values.get("kafka_plaintext_listeners")
        if not isinstance(plaintext, Mapping) or not plaintext:
            continue
        if not host.values.get("kafka_security"):
            what = "is given, and kafka_security is false: there is nothing to move in to"
            remedy = "take kafka_security: false out of the inventory"
            yield Problem(host.name, "kafka_plaintext_listeners", what, remedy)
        elif not prefix:
            what = "is empty, and Kafka would know the old and the new listeners by the same names"
            remedy = "give one such as TLS_, and keep it afterwards"
            yield Problem(host.name, "kafka_listener_prefix", what, remedy)
        for name, about in plaintext.items():
            protocol = about.get("protocol") if isinstance(about, Mapping) else None
            if protocol not in (None, "PLAINTEXT"):
                subject = f"kafka_plaintext_listeners.{name}"
                remedy = "name here only what ends when the plant has moved in"
                yield Problem(host.name, subject, f"is {protocol}, not PLAINTEXT", remedy)


def racks_are_everywhere_or_nowhere(inventory: Inventory) -> Iterator[Problem]:
    brokers = inventory.members("kafka_brokers")
    without = [host for host in brokers if not host.values.get("kafka_rack")]
    if without and len(without) < len(brokers):
        yield Problem(
            named([host.name for host in without], inventory),
            "kafka_rack",
            "is not given, while other brokers have one: Kafka spreads no replicas then",
            "give it to every broker, or to none",
        )


def replicas_have_brokers(inventory: Inventory) -> Iterator[Problem]:
    brokers = inventory.members("kafka_brokers")
    if not brokers or not isinstance(settings := brokers[0].values.get("kafka_config"), Mapping):
        return
    wanted = {
        "default.replication.factor": "min.insync.replicas",
        "offsets.topic.replication.factor": None,
        "transaction.state.log.replication.factor": "transaction.state.log.min.isr",
    }
    for factor, in_sync in wanted.items():
        replicas = whole(settings.get(factor, min(len(brokers), 3)))
        if replicas is not None and replicas > len(brokers):
            yield Problem(
                "group kafka_brokers",
                f"kafka_config: {factor}",
                f"{replicas} replicas need as many brokers, and there are {len(brokers)}",
                "lower it, or add brokers",
            )
        needed = whole(settings.get(in_sync)) if in_sync else None
        if replicas is not None and needed is not None and needed > replicas:
            yield Problem(
                "group kafka_brokers",
                f"kafka_config: {in_sync}",
                f"{needed} replicas in sync can never be reached with {replicas}",
                f"lower it, best to one less than {factor}",
            )


# Flink


def folders_are_apart(inventory: Inventory) -> Iterator[Problem]:
    for host in inventory.hosts.values():
        log_dirs = host.values.get("kafka_log_dirs") if host.is_in(KAFKA) else None
        log_dirs = log_dirs if isinstance(log_dirs, list) else []
        shared = [host.values["flink_shared_dir"]] if "flink_shared_dir" in host.values else []
        for variable, folders in (("kafka_log_dirs", log_dirs), ("flink_shared_dir", shared)):
            for folder in map(str, folders):
                if not folder.startswith("/") or PurePosixPath(folder) == PurePosixPath("/"):
                    remedy = "give a folder's absolute path"
                    yield Problem(host.name, variable, f"{folder!r} cannot be used", remedy)
        if len(set(map(str, log_dirs))) < len(log_dirs):
            remedy = "name each disk's folder once"
            yield Problem(host.name, "kafka_log_dirs", "names a folder twice", remedy)
        for log_dir in map(PurePosixPath, map(str, log_dirs)):
            for other in map(PurePosixPath, map(str, shared)):
                if log_dir.is_relative_to(other) or other.is_relative_to(log_dir):
                    yield Problem(
                        host.name,
                        "flink_shared_dir",
                        f"{other} and Kafka's {log_dir} lie in each other",
                        "keep Kafka's records on the host's own disks, beside the shared mount",
                    )


def ports_of_flink_are_fixed(inventory: Inventory) -> Iterator[Problem]:
    for host in inventory.members(*sorted(FLINK)):
        settings = host.values.get("__flink_config")
        if not isinstance(settings, Mapping) or not host.values.get("firewall_enabled", True):
            continue
        for key in (key for keys in FLINK_PORTS.values() for key in keys):
            if key in settings and not whole(settings[key]):
                yield Problem(
                    host.name,
                    f"flink_config: {key}",
                    f"{settings[key]} leaves the choice to Flink, and the firewall must know it",
                    "give one port",
                )


def slots_suffice(inventory: Inventory) -> Iterator[Problem]:
    workers = inventory.members("flink_workers")
    slots = [host.number("flink_slots") for host in workers]
    known = [number for number in slots if number is not None]
    if not inventory.jobs or len(known) < len(workers) or not workers:
        return
    needed = len(inventory.jobs) * parallelism(inventory) + inventory.heartbeat
    if needed > sum(known):
        yield Problem(
            "group flink_workers",
            "flink_slots",
            f"the jobs take {needed} slots, and the workers offer {sum(known)}",
            "lower plant_jobs_parallelism, raise flink_slots, or add workers",
        )


def models_are_there(inventory: Inventory) -> Iterator[Problem]:
    for job in inventory.jobs:
        if job.machine_type not in inventory.machine_types:
            known = sorted(inventory.machine_types)
            near = difflib.get_close_matches(job.machine_type, known, 1)
            yield Problem(
                "plant_models",
                job.machine_type,
                f"{inventory.plant_file} has no such machine type",
                f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}",
            )
        elif not job.model_exists:
            yield Problem(
                "plant_models",
                job.machine_type,
                f"there is no file {job.model_file} on the control node",
                f"make it: .venv-train/bin/python -m flink_jobs.tools.train "
                f"--type {job.machine_type} --plant {inventory.plant_file} --data FILE "
                f"--out {job.model_file}",
            )
    readers = parallelism(inventory)
    for kind in sorted({job.machine_type for job in inventory.jobs} & set(inventory.machine_types)):
        partitions = inventory.machine_types[kind].partitions
        if partitions < readers:
            yield Problem(
                "plant_jobs_parallelism",
                kind,
                f"{readers} readers are more than the {partitions} partitions: "
                "one without a partition holds all windows back",
                f"lower it, or raise the type's partitions in {inventory.plant_file}",
            )


def parallelism(inventory: Inventory) -> int:
    """Task slots of each job, as playbooks/jobs.yml takes them."""
    given = [host.number("plant_jobs_parallelism") for host in inventory.members(*sorted(FLINK))]
    return next((number for number in given if number is not None), 2)


# What a host holds


def ports_do_not_clash(inventory: Inventory) -> Iterator[Problem]:
    for host in inventory.hosts.values():
        taken: dict[int, list[tuple[str, str]]] = defaultdict(list)
        taken[host.number("ansible_port") or 22].append(("ansible_port", "ssh"))
        for service in services(inventory, host):
            for port in service.ports:
                taken[port.number].append((port.variable, service.name))
                if not 0 < port.number <= LAST_PORT:
                    remedy = f"use a number from 1 to {LAST_PORT}"
                    yield Problem(host.name, port.variable, f"{port.number} is no port", remedy)
        for number, users in sorted(taken.items()):
            if len(users) > 1:
                told = ", ".join(f"{variable} ({name})" for variable, name in users)
                yield Problem(
                    host.name,
                    users[-1][0],
                    f"port {number} is taken more than once: {told}",
                    "give each a port of its own",
                )


def memory_suffices(inventory: Inventory) -> Iterator[Problem]:
    for host in inventory.hosts.values():
        if host.memory_mb is None:
            continue
        running = services(inventory, host)
        parts = {
            f"{what} ({service.name})": size
            for service in running
            for what, size in service.memory.items()
        }
        needed, room = sum(parts.values()), int(host.memory_mb * MEMORY_SHARE)
        if needed > room:
            yield Problem(
                host.name,
                _largest(running),
                f"the processes take {needed} MB of {host.memory_mb} MB, of which {room} MB can be "
                f"given away: " + ", ".join(f"{size} {what}" for what, size in parts.items()),
                "lower the largest, correct host_memory_mb, or move a service to another host",
            )


def _largest(running: list[Service]) -> str:
    sizes = {what: size for service in running for what, size in service.memory.items()}
    return max(sizes, key=lambda what: sizes[what])


# Versions


def versions_go_together(inventory: Inventory) -> Iterator[Problem]:
    for variable, series in VERSIONS.items():
        hosts = inventory.members(*sorted(SAME_EVERYWHERE[variable]))
        version = next((h.values[variable] for h in hosts if variable in h.values), None)
        if version is None:
            continue
        artifact = variable.removesuffix("_version")
        held = inventory.depot.get(artifact)
        if ".".join(str(version).split(".")[:2]) not in series:
            yield Problem(
                "group_vars",
                variable,
                f"{version} is not supported",
                f"use one of {', '.join(f'{one}.x' for one in series)}",
            )
        if held is not None and held != str(version):
            yield Problem(
                "group_vars",
                variable,
                f"is {version}, and the depot holds {artifact} {held}",
                f"use {held}, or change depot.yml and run `make depot`",
            )
    flink = inventory.depot.get("flink", "")
    series_of_flink = ".".join(flink.split(".")[:2])
    runtime = inventory.depot.get("job-runtime", flink)
    connectors = inventory.depot.get("flink-connectors", f"-{series_of_flink}")
    if runtime != flink:
        yield Problem(
            "depot.yml",
            "job-runtime",
            f"is {runtime}, and Flink is {flink}: their Python sides do not match",
            "give both the same version and run `make depot`",
        )
    if connectors.rpartition("-")[2] != series_of_flink:
        yield Problem(
            "depot.yml",
            "flink-connectors",
            f"{connectors} is not made for Flink {flink}",
            f"use a version that ends with -{series_of_flink} and run `make depot`",
        )


def grafana_has_a_password(inventory: Inventory) -> Iterator[Problem]:
    """Required only where there is a Grafana to install, which argument_specs cannot say."""
    for host in inventory.members("monitoring"):
        if "grafana" in inventory.depot and "grafana_admin_password" not in host.given:
            yield Problem(
                host.name,
                "grafana_admin_password",
                "is not given, and the depot has Grafana",
                "put one into the inventory's secrets, encrypted by ansible-vault",
            )


def kafka_users_have_passwords(inventory: Inventory) -> Iterator[Problem]:
    """Whose they are is told by the run, which may read them."""
    for host in inventory.members(*sorted(KAFKA)):
        if host.values.get("kafka_security") and "vault_kafka_passwords" not in host.given:
            yield Problem(
                host.name,
                "vault_kafka_passwords",
                "is not given, and Kafka asks its clients for passwords",
                "`make secrets` makes them, encrypted by ansible-vault",
            )


def depot_is_filled(inventory: Inventory) -> Iterator[Problem]:
    if not inventory.depot:
        yield Problem("depot", "manifest.json", "the depot is empty", "run `make depot`")
        return
    present = {"common"} | {role for role in ("kafka", "flink") if inventory.groups.get(role)}
    needed = frozenset[str]().union(*(ARTIFACTS[role] for role in present))
    for artifact in sorted(needed - set(inventory.depot)):
        yield Problem("depot", artifact, "is not in the depot", "run `make depot`")
    for artifact in sorted(needed & inventory.depot_missing):
        yield Problem("depot", artifact, "its file is gone from the depot", "run `make depot`")


def is_loopback(address: str) -> bool:
    """Whether the text is an address that leads a host to itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address == "localhost"
    return parsed.is_loopback or parsed.is_unspecified


FIRST: tuple[Check, ...] = (
    groups_have_hosts,
    controllers_are_odd,
    parents_have_all_children,
    groups_are_known,
    members_are_hosts,
    names_can_be_used,
    addresses_can_be_used,
    addresses_differ,
    networks_can_be_used,
    variables_are_known,
)
SECOND: tuple[Check, ...] = (
    values_agree,
    node_ids_differ,
    listeners_are_complete,
    old_and_new_listeners_can_be_told_apart,
    racks_are_everywhere_or_nowhere,
    replicas_have_brokers,
    folders_are_apart,
    ports_of_flink_are_fixed,
    slots_suffice,
    models_are_there,
    ports_do_not_clash,
    memory_suffices,
    versions_go_together,
    depot_is_filled,
    kafka_users_have_passwords,
    grafana_has_a_password,
)
