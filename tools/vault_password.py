#!/usr/bin/env python3
"""Print the vault's password, for Ansible (ansible.cfg names this file as vault_password_file).

The password is in out/vault-password, readable for its owner only, and made when it is first asked
for. Another place is used by naming it in ANSIBLE_VAULT_PASSWORD_FILE, which Ansible prefers.

Exit code 1: there are encrypted files and no password, so a new one would open none of them; or a
change of the password was interrupted, and some files need the new one.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = Path("out", "vault-password")
HEADER = b"$ANSIBLE_VAULT;"


class NoPasswordError(Exception):
    """The password is missing; says what to do."""


def encrypted_files(root: Path) -> list[Path]:
    """Encrypted files of all inventories, relative to the project's root."""
    return [
        path.relative_to(root)
        for plants in ("inventories", "molecule/inventories")
        for plant in sorted(root.joinpath(plants).glob("*"))
        for path in encrypted_in(plant)
    ]


def encrypted_in(plant: Path) -> list[Path]:
    """Encrypted files of one inventory folder."""
    patterns = ("group_vars/**/*", "host_vars/**/*", "pki/*/ca.key")
    found = sorted(path for pattern in patterns for path in plant.glob(pattern))
    return [path for path in found if path.is_file() and is_encrypted(path)]


def successor(file: Path) -> Path:
    """Where the next password lies while files are encrypted with it."""
    return file.with_name(f"{file.name}.new")


def is_encrypted(path: Path) -> bool:
    """Whether ansible-vault encrypted the file."""
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER


def password(root: Path, *, interrupted: bool = False) -> str:
    """The password, made on first use; raises NoPasswordError.

    interrupted: whether it is wanted to go on with an interrupted change.
    """
    file = root / PASSWORD
    if successor(file).exists() and not interrupted:
        raise NoPasswordError(
            "a change of the vault's password was interrupted: `python tools/vault.py rekey` "
            "completes it"
        )
    if not file.exists():
        if locked := encrypted_files(root):
            raise NoPasswordError(
                f"{PASSWORD} is missing, and {locked[0]} is encrypted: bring the file from whoever "
                "ran the plant before (docs/operations/secrets.md), or name another one in "
                "ANSIBLE_VAULT_PASSWORD_FILE"
            )
        file.parent.mkdir(exist_ok=True)
        # Linked into place whole: of two first runs at once, one makes it and both read the same.
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        beside.touch(mode=0o600)
        beside.write_text(secrets.token_urlsafe(32) + "\n", encoding="utf-8")
        try:
            file.hardlink_to(beside)
        except FileExistsError:
            pass
        finally:
            beside.unlink()
    return file.read_text(encoding="utf-8").strip()


def main() -> int:
    """Print it; 1 if it cannot be had."""
    try:
        print(password(ROOT))
    except NoPasswordError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
