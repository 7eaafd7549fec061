"""Reads what a host has: system, clock, memory, disks, names, listeners, the shared mount."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: preflight_host
short_description: Reads what a host has, for preflight
description:
  - Reads only; it needs root, because the owner of a listener is nobody else's business.
  - What is wrong with the answer is decided by action M(preflight).
options:
  ports:
    description: Ports of which to tell who listens on them.
    type: list
    elements: int
    required: true
  names:
    description: Host names to resolve.
    type: list
    elements: str
    required: true
  paths:
    description: Folders of which to tell the file system; they need not exist yet.
    type: list
    elements: path
    required: true
  shared_dir:
    description: Folder on the storage that hosts share; empty if there is none.
    type: str
    default: ""
author: Plantline
"""

EXAMPLES = r"""
- name: Ask the host
  preflight_host:
    ports: [9092]
    names: [node2]
    paths: [/var/lib/kafka/data]
    shared_dir: /srv/plantline
"""

RETURN = r"""
time:
  description: The host's clock, in seconds since the epoch.
  type: float
  returned: always
system:
  description: Name and version of the operating system, as in /etc/os-release.
  type: str
  returned: always
systemd:
  description: Whether systemd runs the host.
  type: bool
  returned: always
python:
  description: Major and minor version of the host's Python.
  type: list
  elements: int
  returned: always
memory_mb:
  description: Memory of the host.
  type: int
  returned: always
cpus:
  description: Processors of the host.
  type: int
  returned: always
disks:
  description: By path, the mount it is on, and that file system's size and free space in MB.
  type: dict
  returned: always
names:
  description: By name, its addresses; none if it cannot be resolved.
  type: dict
  returned: always
listening:
  description: >-
    By port that is taken, the user whose process listens on it, and the process and its systemd
    unit where they may be looked at.
  type: dict
  returned: always
shared_mount:
  description: Mount point that the shared folder is on.
  type: str
  returned: always
shared_inode:
  description: Number of the shared folder in its file system; none if it is not there.
  type: int
  returned: always
firewall:
  description: Whether the firewall of role firewall is loaded.
  type: bool
  returned: always
"""

FIREWALL = Path("/run/plantline-firewall/loaded")
LISTEN = "0A"  # a state in /proc/net/tcp


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "paths": {"type": "list", "elements": "path", "required": True},
            "shared_dir": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    if os.geteuid() != 0:
        module.fail_json(msg="the login is not root, and does not become root")
    shared = Path(module.params["shared_dir"]) if module.params["shared_dir"] else None
    release = _settings(Path("/etc/os-release").read_text(encoding="utf-8"))
    module.exit_json(
        changed=False,
        time=time.time(),
        system=f"{release.get('ID', 'unknown')} {release.get('VERSION_ID', '')}".strip(),
        systemd=Path("/run/systemd/system").is_dir(),
        python=list(sys.version_info[:2]),
        memory_mb=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        cpus=os.cpu_count() or 1,
        disks={path: _disk(Path(path)) for path in module.params["paths"]},
        names={name: _addresses(name) for name in module.params["names"]},
        listening=_listening(set(module.params["ports"])),
        shared_mount=str(_mount(shared)) if shared else "",
        shared_inode=shared.stat().st_ino if shared and shared.is_dir() else None,
        firewall=FIREWALL.exists(),
    )


def _settings(text: str) -> dict[str, str]:
    """A file of lines KEY=value, quotes removed."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key: value.strip("\"'") for key, _, value in pairs}


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _mount(path: Path) -> Path:
    place = _existing(path).resolve()
    return next(folder for folder in (place, *place.parents) if folder.is_mount())


def _disk(path: Path) -> dict[str, Any]:
    usage = shutil.disk_usage(_existing(path))
    return {
        "mount": str(_mount(path)),
        "total_mb": usage.total // 2**20,
        "free_mb": usage.free // 2**20,
    }


def _addresses(name: str) -> list[str]:
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)})
    except OSError:
        return []


def _listening(ports: set[int]) -> dict[str, dict[str, str]]:
    """Who listens on those of the ports that are taken; keys are text, as JSON's are."""
    sockets = [
        found
        for table in ("tcp", "tcp6")
        for found in _sockets(Path("/proc/net", table))
        if found[0] in ports
    ]
    owners = _owners({inode for _, inode, _ in sockets})
    return {
        str(port): {"user": _user(uid), **owners.get(inode, {"process": "", "unit": ""})}
        for port, inode, uid in sockets
    }


def _sockets(table: Path) -> Iterator[tuple[int, str, int]]:
    """Port, inode and user id of every listening socket of a table in /proc/net."""
    if not table.exists():
        return
    for line in table.read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == LISTEN:
            yield int(fields[1].rpartition(":")[2], 16), fields[9], int(fields[7])


def _owners(inodes: set[str]) -> dict[str, dict[str, str]]:
    """Process and unit by socket, as far as we may look: in a container not into all processes."""
    found = {}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        # Processes and their files come and go, and some are not for us.
        with contextlib.suppress(OSError):
            inode = str(link.readlink())[len("socket:[") : -1]
            if inode in inodes:
                process = link.parents[1]
                found[inode] = {"process": _name(process), "unit": _unit(process)}
    return found


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _name(process: Path) -> str:
    return (process / "comm").read_text(encoding="utf-8", errors="replace").strip()


def _unit(process: Path) -> str:
    """The innermost systemd unit in whose control group the process is."""
    groups = (process / "cgroup").read_text(encoding="utf-8")
    units = re.findall(r"[/]([^/\n]+\.(?:service|scope))", groups)
    return units[-1] if units else ""


if __name__ == "__main__":
    main()
