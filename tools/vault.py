"""The secrets of a plant: made on first use, rotated one by one, handed over with another password.

    python tools/vault.py make INVENTORY_DIR           # add what is missing, change nothing else
    python tools/vault.py list INVENTORY_DIR           # names, never values
    python tools/vault.py rotate INVENTORY_DIR NAME    # another value for one of them
    python tools/vault.py rekey [INVENTORY_DIR...]     # another vault password

Secrets are in INVENTORY_DIR/group_vars/all/vault.yml, encrypted by ansible-vault's own library with
the password that ansible.cfg or ANSIBLE_VAULT_PASSWORD_FILE names. A file is replaced whole or not
at all; an interrupted `rekey` goes on when it is run again.

Exit codes: 0 done; 1 something has to be done by hand, the message says what.
"""

from __future__ import annotations

import argparse
import copy
import os
import secrets
import string
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import vault_password
import yaml
from ansible import constants
from ansible.cli import CLI
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret, match_encrypt_secret
from ansible.plugins.loader import init_plugin_loader
from ansible.vars.manager import VariableManager

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))

from plugins.filter.plant_access import plant_users  # noqa: E402 - found by the path above

FILE = Path("group_vars", "all", "vault.yml")
# Java's settings and URLs hold these as they stand.
ALPHABET = string.ascii_letters + string.digits
LENGTH = 32
HEADER = (
    "# Made by tools/vault.py. `ansible-vault edit` opens it; comments do not outlive the tool.\n"
)

Values = dict[str, Any]


class VaultError(Exception):
    """Something the user has to do; the message says what."""


def new_secret() -> str:
    """A random password of 190 bits."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def completed(
    present: Mapping[str, Any], users: Collection[str], make: Callable[[], str] = new_secret
) -> Values:
    """The secrets with those that are missing; what is there stays.

    users: names of Kafka's users. Raises VaultError where a value is not what it should be.
    """
    values = copy.deepcopy(dict(present))
    passwords = values.setdefault("vault_kafka_passwords", {})
    if not isinstance(passwords, dict):
        raise VaultError("vault_kafka_passwords must be a list of users with their passwords")
    for user in users:
        passwords.setdefault(user, make())
    for name in ("vault_grafana_admin_password", "vault_metrics_password"):
        values.setdefault(name, make())
    return values


def names(values: Mapping[str, Any]) -> list[str]:
    """The secrets' names, those in a map with a dot between."""
    found = []
    for name, value in sorted(values.items()):
        inner = sorted(value) if isinstance(value, dict) else []
        found += [f"{name}.{one}" for one in inner] if inner else [name]
    return found


def rotated(present: Mapping[str, Any], name: str, make: Callable[[], str] = new_secret) -> Values:
    """The secrets with another value for one of them; raises VaultError for an unknown name."""
    if name not in names(present):
        raise VaultError(f"there is no secret {name}; there are {', '.join(names(present))}")
    values = copy.deepcopy(dict(present))
    outer, _, inner = name.partition(".")
    if inner:
        values[outer][inner] = make()
    else:
        values[outer] = make()
    return values


class Vault:
    """Reads and writes encrypted files with the password Ansible would use."""

    def __init__(self) -> None:
        loader = DataLoader()
        self.secrets = CLI.setup_vault_secrets(
            loader,
            vault_ids=list(constants.DEFAULT_VAULT_IDENTITY_LIST),
            auto_prompt=False,
            initialize_context=False,
        )
        self._library = VaultLib(self.secrets)

    def read(self, file: Path) -> Values:
        """The secrets of a file, {} if there is none; raises VaultError."""
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return {}
        if not vault_password.is_encrypted(file):
            raise VaultError(f"{file} is not encrypted: `ansible-vault encrypt {file}`, then again")
        try:
            values = yaml.safe_load(self._library.decrypt(content))
        except (AnsibleError, yaml.YAMLError) as error:
            raise VaultError(f"{file}: {error}") from error
        if not isinstance(values or {}, dict):
            raise VaultError(f"{file} must hold variables with their values")
        return values or {}

    def write(self, file: Path, values: Values) -> None:
        """Encrypts the secrets into a file."""
        text = HEADER + yaml.safe_dump(values, sort_keys=True)
        vault_id, secret = match_encrypt_secret(self.secrets)
        replace(file, self._library.encrypt(text.encode(), secret, vault_id))


def replace(file: Path, content: bytes) -> None:
    """Puts a file in place, readable for its owner only, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.touch(mode=0o600)
        beside.write_bytes(content)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def kafka_users(inventory: Path) -> list[str]:
    """Users of the programs that the inventory's plant model and variables ask for."""
    init_plugin_loader()
    loader = DataLoader()
    loader.set_vault_secrets(Vault().secrets)
    manager = InventoryManager(loader, sources=[str(inventory)])
    hosts = manager.get_hosts()
    if not hosts:
        raise VaultError(f"{inventory} names no hosts")
    variables = VariableManager(loader, manager).get_vars(host=hosts[0], include_hostvars=False)
    declared = [str(user) for user in variables.get("kafka_users") or []]
    plant = inventory / "group_vars" / "all" / "plant.yml"
    models = variables.get("plant_models") or {}
    derived = plant_users(str(plant), list(models)) if plant.exists() else []
    return list(dict.fromkeys([*derived, *declared]))


def make(options: argparse.Namespace) -> None:
    """Adds what is missing."""
    vault, file = Vault(), options.inventory / FILE
    present = vault.read(file)
    values = completed(present, kafka_users(options.inventory))
    if added := sorted(set(names(values)) - set(names(present))):
        vault.write(file, values)
        print(f"vault: made {', '.join(added)}")
    else:
        print(f"vault: {file} has all that is needed")


def list_names(options: argparse.Namespace) -> None:
    """Prints the names."""
    print(*names(Vault().read(options.inventory / FILE)), sep="\n")


def rotate(options: argparse.Namespace) -> None:
    """Gives one secret another value."""
    vault, file = Vault(), options.inventory / FILE
    vault.write(file, rotated(vault.read(file), options.name))
    print(f"vault: {options.name} has another value; site.yml brings it to the hosts")


def rekey(options: argparse.Namespace) -> None:
    """Another password for all encrypted files."""
    file = password_file()
    files = [ROOT / one for one in vault_password.encrypted_files(ROOT)]
    for folder in options.inventory:
        files += vault_password.encrypted_in(folder)
    change_password(file, sorted(set(files)))
    print(f"vault: {file} has another password, {len(set(files))} files are encrypted with it")


def password_file() -> Path:
    """The file with the vault's password; raises VaultError where it comes from elsewhere."""
    named = Path(str(constants.DEFAULT_VAULT_PASSWORD_FILE or ""))
    if named == Path(vault_password.__file__).resolve():
        vault_password.password(ROOT, interrupted=True)
        return ROOT / vault_password.PASSWORD
    if not named.is_file() or os.access(named, os.X_OK):
        raise VaultError(
            f"the vault's password comes from {named}: change it there, after `ansible-vault rekey`"
        )
    return named


def change_password(file: Path, encrypted: Sequence[Path]) -> None:
    """Encrypts files with a new password, which then takes the place of the one in `file`.

    The new one lies beside it until all files have it. Raises VaultError, before anything is
    changed, for a file that neither opens.
    """
    beside = vault_password.successor(file)
    if not beside.exists():
        replace(beside, (new_secret() + "\n").encode())
    old, new = (VaultSecret(one.read_bytes().strip()) for one in (file, beside))
    library = VaultLib([("default", new), ("default", old)])
    contents: dict[Path, bytes] = {}
    for one in encrypted:
        try:
            contents[one] = library.decrypt(one.read_bytes())
        except AnsibleError as error:
            raise VaultError(f"{one} is encrypted with another password: {error}") from error
    for one, content in contents.items():
        replace(one, library.encrypt(content, new, None))
    beside.replace(file)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="vault.py", description="The secrets of a plant.")
    commands = parser.add_subparsers(required=True, metavar="make|list|rotate|rekey")
    for command, run in (("make", make), ("list", list_names), ("rotate", rotate)):
        one = commands.add_parser(command, help=run.__doc__)
        one.add_argument("inventory", type=Path, metavar="INVENTORY_DIR")
        one.set_defaults(run=run)
        if command == "rotate":
            one.add_argument("name", metavar="NAME")
    again = commands.add_parser("rekey", help=rekey.__doc__)
    again.add_argument("inventory", type=Path, metavar="INVENTORY_DIR", nargs="*")
    again.set_defaults(run=rekey)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code."""
    options = parse(arguments)
    try:
        options.run(options)
    except (VaultError, vault_password.NoPasswordError, AnsibleError) as error:
        print(f"vault: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
