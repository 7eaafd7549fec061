"""Secrets where they should not be: every one of a plant is looked for as it is, and in base64.

Standard library only: tests also send this file to a host, and look there.
"""

from __future__ import annotations

import base64
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

TOPS = ("/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var")  # noqa: S108 - all of them
SAID = {
    "processes and their environments": ("ps", "axwwe"),
    "journal": ("journalctl", "--no-pager"),
    "units": ("systemctl", "show", "*"),
}


def shapes(secret: str) -> list[str]:
    """A secret as it is, and as it looks inside a longer text that is in base64."""
    # Three bytes become four characters, so there are three ways to begin; what belongs to bytes
    # before or behind the secret is left out.
    content = secret.encode()
    inside = (content[start:] for start in range(3))
    return [secret, *(base64.b64encode(part[: len(part) // 3 * 3]).decode() for part in inside)]


def shown(secrets: Iterable[str], text: str) -> bool:
    """Whether a text shows one of them."""
    return any(shape in text for secret in secrets for shape in shapes(secret))


def look(secrets: list[str]) -> tuple[list[str], list[str]]:
    """Where secrets are on this host: open to all, and in files that only their readers open.

    Logs count as open, whoever may read them: they get copied.
    """
    open_to_all = [what for what, command in SAID.items() if shown(secrets, said(command))]
    kept: list[str] = []
    # grep looks for all of them at once, and gets them by standard input.
    patterns = "\n".join(shape for secret in secrets for shape in shapes(secret))
    search = ["grep", "-rlasF", "--null", "--exclude-dir=journal", "-f", "-", *TOPS]
    found = subprocess.run(search, input=patterns, capture_output=True, text=True, check=False)
    for file in map(Path, filter(None, found.stdout.split("\0"))):
        is_log = file.is_relative_to("/var/log")
        # What is gone by now was not kept either: it is told with the rest.
        is_open = not file.exists() or file.stat().st_mode & stat.S_IRWXO
        (open_to_all if is_log or is_open else kept).append(str(file))
    return open_to_all, kept


def said(command: Iterable[str]) -> str:
    """The output of a command."""
    done = subprocess.run(
        list(command), capture_output=True, text=True, check=True, errors="replace"
    )
    return done.stdout
