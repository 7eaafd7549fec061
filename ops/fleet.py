"""Runs a script of ops.remote on many hosts at once, over one pyinfra connection each."""

from __future__ import annotations

import base64
import json
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gevent
from pyinfra.api.command import StringCommand
from pyinfra.api.config import Config
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host as Connection
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State, StateStage

from ops.plant import ROOT, Host, Plant, PlantError, ssh_config

# A host that is off must not keep the others' answers waiting.
CONNECT_S = 4
# Sent along with the scripts, in this order, under the names that they are imported by.
_MODULES = {
    "ansible.module_utils.kafka_roller": ROOT / "plugins/module_utils/kafka_roller.py",
    "plugins.module_utils.kafka_client": ROOT / "plugins/module_utils/kafka_client.py",
    **{
        f"ops.remote.{script}": ROOT / f"ops/remote/{script}.py"
        for script in ("redact", "look", "gather", "measure")
    },
}
# An answer comes in lines of bounded length: readers of SSH channels choke on one of megabytes.
_LOADER = """
import base64, json, sys, types, zlib
def module(name):
    parent, _, own = name.rpartition(".")
    if parent and parent not in sys.modules:
        module(parent).__path__ = []
    sys.modules[name] = types.ModuleType(name)
    return sys.modules[name]
for name, text in modules.items():
    exec(compile(text, name, "exec"), module(name).__dict__)
answer = zlib.compress(json.dumps(sys.modules[script].main(**questions)).encode())
print(base64.encodebytes(answer).decode())
"""


class NoAnswerError(Exception):
    """A host did not answer; the message says why."""


@dataclass(frozen=True)
class Fleet:
    """The hosts that can be reached, and why the others cannot."""

    connections: Mapping[str, Connection]
    sudo: Mapping[str, Mapping[str, Any]]
    unreachable: Mapping[str, str]

    def first(self, hosts: Sequence[str]) -> str | None:
        """The first of these hosts that is reached."""
        return next((host for host in hosts if host in self.connections), None)

    def ask(
        self, script: str, questions: Mapping[str, Mapping[str, object]], timeout_s: int
    ) -> dict[str, Any]:
        """Run ops.remote.<script> on all hosts named, at the same time.

        questions: the keyword arguments of its `main`, per host. Returns what each `main` returned,
        or a NoAnswerError in its place.
        """
        asked = {
            host: gevent.spawn(self._ask_one, host, _program(script, arguments), timeout_s)
            for host, arguments in questions.items()
        }
        gevent.joinall(list(asked.values()))
        return {host: greenlet.value for host, greenlet in asked.items()}

    def _ask_one(self, host: str, program: str, timeout_s: int) -> Any:  # noqa: ANN401 - JSON
        try:
            done, output = self.connections[host].run_shell_command(
                StringCommand("python3", "-"),
                _stdin=program,
                _timeout=timeout_s,
                **self.sudo[host],
            )
        except TimeoutError:
            return NoAnswerError(f"no answer within {timeout_s} s")
        except (OSError, EOFError, PyinfraError) as error:
            return NoAnswerError(f"the connection broke: {error}")
        if not done:
            return NoAnswerError((output.stderr_lines or ["the script ended without a word"])[-1])
        return json.loads(zlib.decompress(base64.b64decode(output.stdout)))


def _program(script: str, arguments: Mapping[str, object]) -> str:
    """The text that Python runs on the host; it prints compressed JSON."""
    given = {
        "modules": {name: file.read_text("utf-8") for name, file in _MODULES.items()},
        "script": f"ops.remote.{script}",
        "questions": dict(arguments),
    }
    return "".join(f"{name} = {value!r}\n" for name, value in given.items()) + _LOADER


@contextmanager
def connected(plant: Plant) -> Iterator[Fleet]:
    """The plant's hosts, connected; raises PlantError if none can be reached."""
    # Who cannot be reached is said once, by us.
    for name in ("pyinfra", "paramiko"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    hosts, groups = pyinfra_inventory(plant)
    inventory = Inventory((hosts, {}), **{name: (group, {}) for name, group in groups.items()})
    state = State(inventory, Config(CONNECT_TIMEOUT=CONNECT_S))
    state.set_stage(StateStage.Connect)
    attempts = {
        host.name: gevent.spawn(_connect, inventory.get_host(_pyinfra_name(host)))
        for host in plant.hosts
    }
    gevent.joinall(list(attempts.values()))
    failures = {name: attempt.value for name, attempt in attempts.items() if attempt.value}
    if len(failures) == len(plant.hosts):
        name, why = next(iter(failures.items()))
        raise PlantError(f"no host of plant {plant.name} can be reached; {name}: {why}")
    reached = [host for host in plant.hosts if host.name not in failures]
    connections = {host.name: inventory.get_host(_pyinfra_name(host)) for host in reached}
    for connection in connections.values():
        state.activate_host(connection)
    try:
        yield Fleet(connections, {host.name: _sudo(host) for host in reached}, failures)
    finally:
        for connection in connections.values():
            connection.disconnect()


def pyinfra_inventory(
    plant: Plant,
) -> tuple[list[tuple[str, dict[str, str]]], dict[str, list[str]]]:
    """The plant's hosts with their data, and its groups, in pyinfra's own form.

    How they are reached is written to out/ssh/<inventory>.conf, which `ssh -F` can read as well.
    """
    config = ROOT / "out" / "ssh" / f"{plant.folder.name}.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(ssh_config(plant.hosts))
    hosts = [
        (
            _pyinfra_name(host),
            {
                "ssh_config_file": str(config),
                "ssh_strict_host_key_checking": host.ssh_options["StrictHostKeyChecking"],
            },
        )
        for host in plant.hosts
    ]
    names = {host.name: _pyinfra_name(host) for host in plant.hosts}
    groups = {
        group: [names[member] for member in members] for group, members in plant.groups.items()
    }
    return hosts, groups


def _pyinfra_name(host: Host) -> str:
    """pyinfra calls this machine `@local`, whatever its name in the plant."""
    return "@local" if host.local else host.name


def _connect(host: Connection) -> str | None:
    """Why the host cannot be connected to; None if it is."""
    try:
        host.connect(raise_exceptions=True)
    except PyinfraError as error:
        return str(error)
    return None


def _sudo(host: Host) -> dict[str, Any]:
    return {"_sudo": True, "_sudo_password": host.become_password} if host.become else {}
