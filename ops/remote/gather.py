"""What somebody far away needs to see of a host to help, without its secrets."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ops.remote.look import OPT, flink_rest, get, units
from ops.remote.redact import redact

COMMAND_S = 10
JOURNAL_LINES = 2000
LOG_BYTES = 512 * 1024
LOGS_PER_FOLDER = 8
KAFKA_S = 10.0

COMMANDS = {
    "df": "df -hT",
    "inodes": "df -i",
    "mounts": "mount",
    "memory": "free -m",
    "addresses": "ip address",
    "routes": "ip route",
    "listening": "ss -tlnp",
    "firewall": "nft list ruleset",
    "processes": "ps axo pid,ppid,user,etime,%cpu,rss,args --sort=-rss",
    "units": "systemctl list-units --all --no-pager",
    "failed": "systemctl list-units --state=failed --no-pager",
    "clock": "timedatectl",
    "chrony": "chronyc -n tracking",
    "kernel": "uname -a",
    "kernel-log": "dmesg --ctime",
    "packages": "dpkg-query --show",
}
CONFIG_FOLDERS = (
    *("/etc/plantline", "/etc/prometheus", "/etc/grafana", "/etc/chrony", "/etc/sysctl.d"),
    *("/etc/security/limits.d", "/etc/ssh/sshd_config.d", "/etc/systemd/system", "/etc/default"),
)
CONFIG_FILES = ("/etc/hosts", "/etc/debian_version", "/etc/fstab", "/etc/resolv.conf")
# Keys, key stores and what is no text.
LEFT_OUT = {".key", ".pem", ".jks", ".p12", ".pfx", ".keystore", ".truststore", ".onnx", ".gz"}
LOG_FOLDERS = ("/var/log/kafka", "/var/log/flink", "/var/log/grafana", "/var/log/plantline")


def main(
    known: list[str], kafka: Mapping[str, Any] | None = None, flink: bool = False
) -> dict[str, str]:
    """Texts by the names of the files that they become.

    known: secrets by value. kafka: bootstrap_servers to ask, and tls, as `look` takes them. flink:
    whether to ask this host's JobManager.
    """
    texts = dict(system())
    texts |= dict(journals())
    texts |= dict(configs())
    texts |= dict(logs())
    if kafka:
        texts["kafka.json"] = as_json(kafka_answers(kafka))
    if flink:
        texts["flink.json"] = as_json(flink_answers())
    return {name: redact(text, known) for name, text in texts.items()}


def system() -> Iterator[tuple[str, str]]:
    """What the system's own tools say."""
    for name, command in COMMANDS.items():
        yield f"system/{name}.txt", output(command.split())


def journals() -> Iterator[tuple[str, str]]:
    """The end of the journal of each of our units."""
    for unit in units():
        command = ["journalctl", "--no-pager", "--output=short-iso", f"--lines={JOURNAL_LINES}"]
        yield f"journal/{unit['name']}.txt", output([*command, f"--unit={unit['name']}"])


def configs() -> Iterator[tuple[str, str]]:
    """Settings; links and keys are left out."""
    files = [Path(file) for file in CONFIG_FILES]
    for folder in CONFIG_FOLDERS:
        files += sorted(Path(folder).rglob("*"))
    for file in files:
        if file.is_file() and not file.is_symlink() and file.suffix not in LEFT_OUT:
            yield str(file).lstrip("/"), tail(file)


def logs() -> Iterator[tuple[str, str]]:
    """The end of the newest log files of each folder."""
    for folder in LOG_FOLDERS:
        files = [file for file in Path(folder).rglob("*") if file.is_file()]
        newest = sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)
        for file in newest[:LOGS_PER_FOLDER]:
            if file.suffix not in LEFT_OUT:
                yield str(file).lstrip("/"), tail(file)


def kafka_answers(kafka: Mapping[str, Any]) -> object:
    """The quorum and every partition, and the settings of topics that are not the default."""
    sys.path += [str(wheel) for wheel in sorted((OPT / "lib/kafka-admin").glob("*.whl"))]
    from plugins.module_utils.kafka_client import (  # noqa: PLC0415 - only where Kafka is asked
        NotAnsweringError,
        admin,
        read_cluster,
        tls_of,
    )

    servers, tls = kafka["bootstrap_servers"], tls_of(kafka["tls"])
    try:
        cluster = dataclasses.asdict(read_cluster(servers, tls))
        with admin(servers, KAFKA_S, tls) as client:
            return {
                "cluster": cluster,
                "topics": client.describe_topics(),
                "groups": client.list_groups(),
            }
    except NotAnsweringError as error:
        return {"error": str(error)}


def flink_answers() -> dict[str, object]:
    """Answers of the JobManager by the paths that were asked."""
    rest = flink_rest()
    answers: dict[str, object] = {}

    def ask(path: str) -> object:
        try:
            answers[path] = get(rest + path)
        except (OSError, ValueError) as error:
            answers[path] = {"error": str(error)}
        return answers[path]

    for path in ("/overview", "/config", "/jobmanager/config", "/taskmanagers"):
        ask(path)
    overview = ask("/jobs/overview")
    jobs = overview.get("jobs", []) if isinstance(overview, dict) else []
    for job in jobs:
        for part in ("", "/config", "/checkpoints", "/exceptions"):
            ask(f"/jobs/{job['jid']}{part}")
    return answers


def output(command: Iterable[str]) -> str:
    """What a command prints, or why it does not."""
    try:
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=COMMAND_S, check=False,
            errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{error}\n"
    return done.stdout + done.stderr


def tail(file: Path) -> str:
    """The last LOG_BYTES of a file, from the beginning of a line on."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(max(0, size - LOG_BYTES))
            if size > LOG_BYTES:
                opened.readline()
            return opened.read().decode("utf-8", "replace")
    except OSError as error:
        return f"{error}\n"


def as_json(answers: object) -> str:
    """One value a line, as redaction reads it."""
    return json.dumps(answers, indent=1, default=sorted)
