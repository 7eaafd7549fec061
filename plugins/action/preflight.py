"""Reads the inventory on the control node and judges it, or what hosts answered; contacts no host.

    preflight:                       # judges the inventory; returns `questions` by host
    preflight: {answers: {…}, …}     # judges what preflight_host and preflight_connect returned

A role's variables are evaluated as the role would, for every host at once: its defaults, what the
inventory gives, its vars. Facts that nobody has asked for yet are stood in for; what the inventory
does not declare of memory and processors is judged when the hosts have answered. Secrets are not
read: it only matters whether they are given.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar

from flink_jobs import plant as model

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
# Ansible finds our module_utils only where it packs a module for a host.
sys.path.append(str(ROOT))

from plugins.filter.plant import MODEL_FILE  # noqa: E402 - found by the path above
from plugins.module_utils import preflight_hosts, preflight_inventory  # noqa: E402 - found by the path above
from plugins.module_utils.preflight import (  # noqa: E402 - found by the path above
    ROLE_GROUPS,
    Host,
    Inventory,
    Job,
    MachineType,
    report,
)

# Variables of Ansible and of the playbooks that preflight reads beside the roles' own.
OTHERS = (
    *("ansible_host", "ansible_port", "ansible_connection", "host_memory_mb"),
    *("plant_models", "plant_jobs_parallelism", "artifact_depot_dir"),
)
# What a role makes of its variables and its environment asks for.
MADE = {"flink": ("__flink_config",)}
# Facts of a host that was not asked. Its memory and processors are guesses: what follows from them
# is unknown, unless it is one of MADE, of which only ports are read then.
STAND_IN_FACTS = {
    "architecture": "x86_64",
    "virtualization_role": "host",
    "virtualization_type": "kvm",
}
GUESSED_FACTS = {"memtotal_mb": 16384, "processor_vcpus": 2}


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible has no types
    _VALID_ARGS = frozenset({"answers", "connections", "max_clock_skew_s", "min_free_mb"})
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        reader = Reader(self._loader, task_vars or {})
        if "answers" not in arguments:
            inventory = reader.inventory({})
            found = preflight_inventory.problems(inventory)
            passed = f"inventory and variables are sound ({len(inventory.hosts)} hosts)"
            if not found:
                typed, _ = preflight_inventory.typed_values(inventory)
                result["questions"] = {
                    host.name: preflight_hosts.questions(typed, host)
                    for host in typed.hosts.values()
                }
        else:
            ways = arguments["connections"]
            asked = arguments["answers"]
            answers = {name: answer(told, ways[name]) for name, told in asked.items()}
            typed, _ = preflight_inventory.typed_values(reader.inventory(answers))
            limits = float(arguments["max_clock_skew_s"]), int(arguments["min_free_mb"])
            found = preflight_hosts.problems(typed, answers, *limits)
            passed = f"the hosts are ready ({len(answers)})"
        if not found:
            self._display.display(f"preflight: {passed}")
        result["msg"] = report(found) if found else passed
        return result | {"changed": False, "failed": bool(found)}


class Reader:
    """Evaluates an inventory's variables with the defaults and vars of the project's roles."""

    def __init__(self, loader: DataLoader, task_vars: Mapping[str, Any]) -> None:
        self._loader = loader
        self._hostvars = task_vars["hostvars"]
        self._groups: dict[str, list[str]] = task_vars["groups"]
        self._roles = sorted(path.parents[1].name for path in ROOT.glob("roles/*/meta/main.yml"))
        self._files: dict[str, dict[str, Any]] = {}
        self._raw = {name: dict(self._hostvars.raw_get(name)) for name in self._groups["all"]}

    def inventory(self, answers: Mapping[str, preflight_hosts.Answer]) -> Inventory:
        """The inventory, with the memory and processors of the hosts that answered."""
        specs = {
            role: {
                entry: about.get("options") or {}
                for entry, about in self._file(f"roles/{role}/meta/argument_specs.yml")[
                    "argument_specs"
                ].items()
            }
            for role in self._roles
        }
        self._options = {
            role: tuple(
                name for name, about in specs[role].get("main", {}).items() if "no_log" not in about
            )
            for role in self._roles
        }
        hosts = {name: self._host(name, answers.get(name)) for name in self._raw}
        first = next(iter(self._raw), None)
        folder = self._raw[first].get("inventory_dir") if first else None
        return Inventory(
            hosts=hosts,
            groups={group: tuple(names) for group, names in self._groups.items()},
            specs=specs,
            unresolved=frozenset(
                address
                for host in hosts.values()
                for address in (host.address, host.data_address)
                if not resolves(address)
            ),
            **depot(self._first(hosts, "artifact_depot_dir", str(ROOT / "depot"))),
            **plant(folder, self._first(hosts, "plant_models", {})),
        )

    def _host(self, name: str, told: preflight_hosts.Answer | None) -> Host:
        raw = self._raw[name]
        groups = frozenset(raw.get("group_names", ()))
        facts: dict[str, Any] = {}
        if told is not None and not told.failure:
            facts = {"memtotal_mb": told.memory_mb, "processor_vcpus": told.cpus}
        values: dict[str, Any] = {}
        broken: dict[str, str] = {}
        for role, wanted in self._wanted(groups):
            known = Templar(self._loader, self._variables(name, role, facts))
            guessed = Templar(self._loader, self._variables(name, role, GUESSED_FACTS | facts))
            for variable in known.available_variables.keys() & set(wanted):
                raw_value = known.available_variables[variable]
                try:
                    values[variable] = known.template(raw_value)
                except AnsibleError:
                    try:
                        guess = guessed.template(raw_value)
                    except AnsibleError as error:
                        broken[variable] = str(error).partition("\n")[0]
                    else:
                        if role is not None and variable in MADE.get(role, ()):
                            values[variable] = guess
        if facts and "host_memory_mb" not in raw:
            values["host_memory_mb"] = facts["memtotal_mb"]
        given = frozenset(variable for variable in raw if not variable.startswith("__"))
        return Host(name, groups, given, values, broken)

    def _wanted(self, groups: frozenset[str]) -> list[tuple[str | None, tuple[str, ...]]]:
        """Variables to evaluate, by the role in whose company they are."""
        wanted: list[tuple[str | None, tuple[str, ...]]] = [(None, OTHERS)]
        for role in self._roles:
            of_groups = ROLE_GROUPS.get(role)
            if of_groups is not None and (not of_groups or of_groups & groups):
                wanted.append((role, self._options[role] + MADE.get(role, ())))
        return wanted

    def _variables(self, host: str, role: str | None, facts: dict[str, Any]) -> dict[str, Any]:
        variables = self._raw[host] | {
            "hostvars": self._raw,
            "ansible_facts": STAND_IN_FACTS | facts,
        }
        if role is None:
            return variables
        return (
            self._file(f"roles/{role}/defaults/main.yml")
            | variables
            | self._file(f"roles/{role}/vars/main.yml")
            | {"role_path": str(ROOT / "roles" / role)}
        )

    def _file(self, path: str) -> dict[str, Any]:
        """A YAML file of the project; {} where there is none."""
        if path not in self._files:
            file = ROOT / path
            read = self._loader.load_from_file
            loaded = read(str(file), trusted_as_template=True) if file.exists() else None
            self._files[path] = loaded or {}
        return self._files[path]

    @staticmethod
    def _first(hosts: Mapping[str, Host], variable: str, default: T) -> T:
        """The variable's value on the first host where it is of the default's type."""
        given = (host.values.get(variable) for host in hosts.values())
        return next((value for value in given if isinstance(value, type(default))), default)


def depot(folder: str) -> dict[str, Any]:
    """What the depot holds: versions by artifact, and the artifacts whose file is not there."""
    try:
        held = json.loads(Path(folder, "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    except (OSError, ValueError, KeyError):
        held = {}
    missing = {name for name, about in held.items() if not Path(folder, about["file"]).is_file()}
    return {
        "depot": {name: str(about["version"]) for name, about in held.items()},
        "depot_missing": frozenset(missing),
    }


def plant(folder: str | None, models: Mapping[str, Any]) -> dict[str, Any]:
    """What the plant model and the models at hand say; paths start at the project's root."""
    file = Path(folder or ".") / "group_vars" / "all" / "plant.yml"
    told = str(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file)
    try:
        loaded = model.load_plant(file)
    except model.PlantError as error:
        return {"plant_file": told, "plant_problems": tuple(error.problems)}
    roles = loaded.topic_roles
    scored = [name for name, kind in loaded.machine_types.items() if "anomaly" in kind.models]
    files = {name: MODEL_FILE.format(type=name) for name in scored} | dict(models)
    return {
        "plant_file": told,
        "jobs": [
            Job(kind, str(path), (ROOT / str(path)).is_file()) for kind, path in files.items()
        ],
        "heartbeat": loaded.heartbeat,
        "retention_days": (roles["telemetry"].retention_days, roles["results"].retention_days),
        "machine_types": {
            name: MachineType(
                kind.partitions,
                len(kind.channels),
                sum(machine.machine_type == name for machine in loaded.machines),
                kind.slide_s,
            )
            for name, kind in loaded.machine_types.items()
        },
    }


def resolves(address: str) -> bool:
    """Whether the control node knows the address; one in figures needs no asking."""
    try:
        socket.getaddrinfo(address, None)
    except OSError:
        return False
    return True


def answer(told: Mapping[str, Any], ways: Mapping[str, Any]) -> preflight_hosts.Answer:
    """What a host said, from its results of preflight_host and preflight_connect."""
    for result, last in ((told, "system"), (ways, "unreached")):
        if last not in result:
            reason = str(result.get("module_stderr") or result.get("msg") or "no answer")
            reason = " ".join(reason.removeprefix("Task failed: ").split()).rstrip(":.")
            return preflight_hosts.Answer(failure=reason)
    # The host read its clock between the two times; only what lies outside them is its fault.
    ahead = max(told["time"] - told["answered_at"], 0) + min(told["time"] - told["asked_at"], 0)
    return preflight_hosts.Answer(
        ahead_s=ahead,
        system=told["system"],
        systemd=told["systemd"],
        python=(told["python"][0], told["python"][1]),
        memory_mb=told["memory_mb"],
        cpus=told["cpus"],
        disks={path: preflight_hosts.Disk(**disk) for path, disk in told["disks"].items()},
        names=told["names"],
        listening={
            int(port): preflight_hosts.Listener(**who) for port, who in told["listening"].items()
        },
        shared_mount=told["shared_mount"],
        shared_inode=told["shared_inode"],
        firewall=told["firewall"],
        unreached=[(one["address"], one["port"], one["reason"]) for one in ways["unreached"]],
    )
