"""Reads what a Kafka host has on its disks and what its Kafka process was started with."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: kafka_node_info
short_description: Reads the state of Kafka on this host
description: Reads only files and systemd; the answer is the same whether Kafka runs or not.
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
