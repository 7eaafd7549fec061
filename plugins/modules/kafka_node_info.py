"""Reads what a Kafka host has on its disks and what its Kafka process was started with."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: kafka_node_info
short_description: Reads the state of Kafka on this host
description: Reads only files, sockets and systemd; asks nothing of Kafka itself.
options:
  log_dirs:
    description: Log directories; the first one holds the metadata log.
    type: list
    elements: path
    required: true
  cluster_id_file:
    description: File that keeps the cluster id.
    type: path
    required: true
  started_with:
    description:
      - >-
        File in which the unit recorded the SHA-256 of everything the process was started with,
        as sha256sum writes it.
      - It goes when the process ends.
    type: path
    required: true
  settings:
    description: The settings that Kafka is started with.
    type: path
    default: /etc/plantline/kafka/server.properties
  pending:
    description: Whether the files are about to change, which in check mode cannot be seen in them.
    type: bool
    default: false
  library_dir:
    description: Folder of kafka-python's wheel.
    type: path
    required: true
  unit:
    description: Name of the systemd unit.
    type: str
    default: kafka.service
author: Plantline
"""

EXAMPLES = r"""
- name: Read the state of Kafka
  kafka_node_info:
    log_dirs: [/var/lib/kafka/data]
    cluster_id_file: /etc/plantline/kafka/cluster-id
    started_with: /run/kafka/started-with
    library_dir: /opt/plantline/lib/kafka-admin
"""

RETURN = r"""
formatted:
  description: Whether every log directory is formatted.
  type: bool
  returned: always
cluster_ids:
  description: Cluster ids in the log directories.
  type: list
  elements: str
  returned: always
node_ids:
  description: Node ids in the log directories.
  type: list
  elements: int
  returned: always
kept_cluster_id:
  description: The cluster id kept in the configuration.
  type: str
  returned: always
has_metadata_log:
  description: Whether the metadata log is there.
  type: bool
  returned: always
installed:
  description: Whether systemd knows the unit.
  type: bool
  returned: always
needs_reload:
  description: Whether systemd has an older version of the unit loaded, or could not load it.
  type: bool
  returned: always
changed_since_start:
  description: Files that differ from what the running process was started with; empty if none runs.
  type: list
  elements: path
  returned: always
running:
  description: Whether a process runs.
  type: bool
  returned: always
listeners:
  description: >-
    In the settings on the disk, by name the protocol of each listener, and its port where this
    node has it. A running process that has to be restarted may have others.
  type: dict
  returned: always
between_nodes:
  description: Those of them by which brokers call brokers and all call the controllers.
  type: list
  elements: str
  returned: always
listening:
  description: TCP ports of this host on which any process listens.
  type: list
  elements: int
  returned: always
connections:
  description: >-
    Who is connected to I(listeners): listener, protocol, address, and the count of connections.
  type: list
  elements: dict
  returned: always
stale:
  description: Whether a process runs that has to be restarted, for its files or for a lost disk.
  type: bool
  returned: always
python_path:
  description: What has to be on PYTHONPATH to import kafka-python; empty if it is not there.
  type: str
  returned: always
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "log_dirs": {"type": "list", "elements": "path", "required": True},
            "cluster_id_file": {"type": "path", "required": True},
            "started_with": {"type": "path", "required": True},
            "settings": {"type": "path", "default": "/etc/plantline/kafka/server.properties"},
            "pending": {"type": "bool", "default": False},
            "library_dir": {"type": "path", "required": True},
            "unit": {"type": "str", "default": "kafka.service"},
        },
        supports_check_mode=True,
    )
    log_dirs = [Path(log_dir) for log_dir in module.params["log_dirs"]]
    metas = [_properties(log_dir / "meta.properties") for log_dir in log_dirs]
    unit = _unit_state(module, module.params["unit"])
    started_with = Path(module.params["started_with"])
    differing = _differing(started_with)
    settings = _properties(Path(module.params["settings"]))
    listeners = _listeners(settings)
    sockets = [*_sockets(Path("/proc/net/tcp")), *_sockets(Path("/proc/net/tcp6"))]
    module.exit_json(
        changed=False,
        formatted=all(metas),
        cluster_ids=sorted({meta["cluster.id"] for meta in metas if "cluster.id" in meta}),
        node_ids=sorted({int(meta["node.id"]) for meta in metas if "node.id" in meta}),
        kept_cluster_id=_text(Path(module.params["cluster_id_file"])).strip() or None,
        has_metadata_log=(log_dirs[0] / "__cluster_metadata-0").is_dir(),
        installed=unit["LoadState"] != "not-found",
        needs_reload=unit["NeedDaemonReload"] == "yes"
        or unit["LoadState"] not in ("loaded", "not-found"),
        changed_since_start=differing,
        running=started_with.exists(),
        listeners=listeners,
        between_nodes=_between_nodes(settings),
        listening=sorted({port for state, port, _ in sockets if state == LISTEN}),
        connections=_connections(listeners, sockets),
        stale=started_with.exists()
        and (bool(differing) or module.params["pending"] or not all(metas)),
        python_path=_python_path(Path(module.params["library_dir"])),
    )


def _python_path(library: Path) -> str:
    """Where the role unpacked kafka-python; its wheel where it did not yet."""
    unpacked = library / "unpacked"
    if unpacked.is_dir():
        return str(unpacked)
    return ":".join(map(str, sorted(library.glob("*.whl"))))


def _listeners(settings: dict[str, str]) -> dict[str, dict[str, Any]]:
    """By name, protocol and port; no port where the node does not have the listener itself."""
    ports = dict(
        re.findall(r"([^,:/]+)://[^,]*:(\d+)", settings.get("listeners", "")),
    )
    protocols = settings.get("listener.security.protocol.map", "")
    return {
        name: {"protocol": protocol, "port": int(ports[name]) if name in ports else None}
        for name, protocol in (pair.split(":") for pair in protocols.split(",") if pair)
    }


def _between_nodes(settings: dict[str, str]) -> list[str]:
    """The names of the listeners that nodes with these settings call each other at."""
    controllers = settings.get("controller.listener.names", "").split(",")
    names = (settings.get("inter.broker.listener.name", ""), controllers[0])
    return [name for name in names if name]


Socket = tuple[str, int, str]
# States in /proc/net/tcp.
ESTABLISHED, LISTEN = "01", "0A"


def _sockets(table: Path) -> Iterator[Socket]:
    """State, own port and the other's address of each socket of a table in /proc/net."""
    for line in _text(table).splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        yield state, int(local.rpartition(":")[2], 16), _address(remote.rpartition(":")[0])


def _address(digits: str) -> str:
    """An address as the kernel prints it: words of four bytes, the last byte first."""
    words = (bytes.fromhex(digits[place : place + 8]) for place in range(0, len(digits), 8))
    packed = b"".join(word[::-1] for word in words)
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _connections(
    listeners: dict[str, dict[str, Any]], sockets: list[Socket]
) -> list[dict[str, Any]]:
    names = {about["port"]: name for name, about in listeners.items() if about["port"]}
    counted = Counter(
        (names[port], address)
        for state, port, address in sockets
        if state == ESTABLISHED and port in names
    )
    return [
        {
            "listener": name,
            "protocol": listeners[name]["protocol"],
            "address": address,
            "count": count,
        }
        for (name, address), count in sorted(counted.items())
    ]


def _unit_state(module: AnsibleModule, unit: str) -> dict[str, str]:
    _, output, _ = module.run_command(
        ["systemctl", "show", unit, "--property=LoadState,NeedDaemonReload"], check_rc=True
    )
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def _properties(path: Path) -> dict[str, str]:
    """A Java properties file as Kafka writes meta.properties; empty if there is none."""
    lines = (line.strip() for line in _text(path).splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def _differing(checksums: Path) -> list[str]:
    """Files whose SHA-256 is not the recorded one; unreadable ones differ."""
    return [
        match["path"]
        for match in re.finditer(
            r"^(?P<sum>[0-9a-f]{64})  (?P<path>.+)$", _text(checksums), re.MULTILINE
        )
        if _sha256(Path(match["path"])) != match["sum"]
    ]


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    main()
