"""An Ansible inventory as pyinfra can use it: hosts, groups, and how each is reached.

Ansible's own code reads it, so group_vars, host_vars, templates and vaults mean the same here as in
a playbook. pyinfra 3.10 has no connector of its own for Ansible inventories.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.cli import CLI
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[1]

# What pyinfra reads from an SSH configuration; ssh's other options change nothing for us.
_SSH_OPTIONS = {
    option.lower(): option
    for option in (
        *("ConnectTimeout", "IdentityAgent", "IdentityFile", "Port", "ProxyCommand", "ProxyJump"),
        *("ServerAliveInterval", "StrictHostKeyChecking", "User", "UserKnownHostsFile"),
    )
}
_SSH_FLAGS = {"-i": "IdentityFile", "-J": "ProxyJump", "-l": "User", "-p": "Port"}


class PlantError(Exception):
    """The inventory cannot be used; the message names the place and the remedy."""


@dataclass(frozen=True)
class Host:
    """One host: its name, and how it is logged in to.

    ssh_options: as in an ssh_config file. become: whether commands need sudo to run as root.
    """

    name: str
    address: str
    local: bool
    become: bool
    become_password: str | None
    ssh_options: Mapping[str, str]


class Plant:
    """The hosts of an inventory, and what the roles' variables are for each."""

    def __init__(self, folder: Path) -> None:
        """Read `folder`; raises PlantError."""
        self.folder = folder.resolve()
        self._loader = DataLoader()
        self._loader.set_basedir(str(ROOT))
        if not folder.exists():
            raise PlantError(f"{folder} is not there; name an inventory, such as inventories/demo")
        try:
            self._loader.set_vault_secrets(_prepare_ansible())
            inventory = InventoryManager(self._loader, sources=[str(folder)])
            variables = VariableManager(self._loader, inventory)
            self._hostvars: dict[str, dict[str, Any]] = {
                host.name: variables.get_vars(host=host, include_hostvars=False)
                for host in inventory.get_hosts()
            }
        except AnsibleError as error:
            raise PlantError(f"inventory {folder}: {error}") from error
        if not self._hostvars:
            raise PlantError(f"inventory {folder} names no hosts")
        self.groups: dict[str, list[str]] = next(iter(self._hostvars.values()))["groups"]
        self.hosts = [self._host(name) for name in self._hostvars]

    @property
    def name(self) -> str:
        """The plant's name, as its plant model gives it."""
        plant = self._hostvars[self.hosts[0].name].get("plant")
        return str(plant["name"]) if isinstance(plant, dict) and "name" in plant else "plant"

    def group(self, name: str) -> list[str]:
        """The hosts of a group; none if there is no such group."""
        return self.groups.get(name, [])

    def value(self, host: str, name: str, role: str | None = None) -> Any:  # noqa: ANN401 - YAML
        """A variable, or an expression of variables, as a task on `host` would see it.

        With `role`, its defaults and vars count too. None where the variable is not defined;
        facts are not known here, and what needs them cannot be asked for (PlantError).
        """
        own = self._hostvars[host]
        variables = {
            **(self._of_role(role, "defaults") if role else {}),
            **own,
            **(self._of_role(role, "vars") if role else {}),
            "hostvars": self._hostvars,
        }
        expression = trust_as_template("{{ " + name + " | default(none) }}")
        try:
            return Templar(self._loader, variables=variables).template(expression)
        except AnsibleError as error:
            raise PlantError(f"host {host}, variable {name}: {error}") from error

    def secrets(self) -> set[str]:
        """Values of all variables whose names say that they are secret."""
        return {
            secret
            for host, own in self._hostvars.items()
            for name in own
            if _is_secret(name)
            for secret in _texts(self.value(host, name))
        }

    def _of_role(self, role: str, folder: str) -> dict[str, Any]:
        file = ROOT / "roles" / role / folder / "main.yml"
        if not file.is_file():
            return {}
        loaded = self._loader.load_from_file(str(file), trusted_as_template=True)
        return dict(loaded or {})

    def _host(self, name: str) -> Host:
        def own(variable: str) -> str | None:
            value = self.value(name, variable)
            return None if value is None else str(value)

        given = ("ansible_ssh_common_args", "ansible_ssh_extra_args")
        arguments = " ".join(own(variable) or "" for variable in given)
        options = ssh_options(arguments, f"host {name}")
        for variable, option in (
            ("ansible_user", "User"),
            ("ansible_port", "Port"),
            ("ansible_ssh_private_key_file", "IdentityFile"),
        ):
            if (value := own(variable)) is not None:
                options[option] = value
        local = own("ansible_connection") == "local"
        return Host(
            name=name,
            address=own("ansible_host") or name,
            local=local,
            become=not local and options.get("User", "root") != "root",
            become_password=own("ansible_become_password"),
            # As Ansible does by default, an unknown host is refused; nobody is there to be asked.
            ssh_options={"StrictHostKeyChecking": "yes", **options},
        )


@functools.cache
def _prepare_ansible() -> list[tuple[str, Any]]:
    """What Ansible wants done once in a process; returns the secrets of the configured vaults."""
    init_plugin_loader()
    identities = constants.DEFAULT_VAULT_IDENTITY_LIST
    return list(CLI.setup_vault_secrets(DataLoader(), identities, auto_prompt=False))


def ssh_options(arguments: str, where: str) -> dict[str, str]:
    """Command-line arguments of ssh as options of an ssh_config file.

    As with ssh, the first of several counts. `where` begins the message of a PlantError, raised for
    what is no option of that kind.
    """
    options: dict[str, str] = {}
    words = iter(shlex.split(arguments))
    for word in words:
        flag, attached = word[:2], word[2:]
        if flag != "-o" and flag not in _SSH_FLAGS:
            raise PlantError(f"{where}: ssh argument {word!r} cannot be used here; write it as -o")
        value = attached or next(words, "")
        name = _SSH_FLAGS.get(flag)
        if name is None:
            given, _, value = re.sub(r"[\s=]+", "=", value, count=1).partition("=")
            name = _SSH_OPTIONS.get(given.lower())
        if name is not None:
            options.setdefault(name, value.strip())
    return options


def ssh_config(hosts: Sequence[Host]) -> str:
    """An ssh_config file by which the hosts are known under their names in the plant."""
    lines = []
    for host in hosts:
        lines += [f"Host {host.name}", f"  HostName {host.address}"]
        lines += [f"  {name} {value}" for name, value in host.ssh_options.items()]
    return "\n".join(lines) + "\n"


def _is_secret(variable: str) -> bool:
    return any(word in variable.lower() for word in ("passw", "secret", "token", "credential"))


def _texts(value: object) -> Iterator[str]:
    """All strings in a value, however deep."""
    if isinstance(value, str):
        yield str(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _texts(inner)
