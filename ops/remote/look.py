"""What a host says of itself and, if asked, of the cluster it belongs to.

Standard library only; Kafka is asked through role kafka's own client, whose wheel the role has put
on the host.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

OPT = Path("/opt/plantline")
PKI = Path("/etc/plantline/pki")
FLINK_CONF = Path("/etc/plantline/flink/flink-conf.yaml")
DECLARED = Path("/etc/plantline/jobs/declared.json")
# Units of ours, and those of Debian packages that our roles configure.
UNITS = ("kafka*", "flink-*", "plantline-*", "prometheus*", "grafana*", "chrony*")
UNIT_PROPERTIES = (
    "Id,LoadState,ActiveState,UnitFileState,ConditionResult,ConditionTimestampMonotonic,NRestarts"
)
GROUP_PREFIX = "plantline-"
REST_S = 3.0
METRIC_S, METRIC_POLL_S = 1.0, 0.05
KAFKA_S = 4.0
MEBI = 1024 * 1024


class Disk(TypedDict):
    """A file system: one of the paths on it, and bytes in all and free for users."""

    path: str
    total: int
    free: int


class Unit(TypedDict):
    """A systemd unit. wanted: it should be active; restarts: by systemd, since it was loaded."""

    name: str
    active: str
    wanted: bool
    restarts: int


class Partition(TypedDict):
    """A partition that misses replicas, or has fewer in sync than acks=all needs."""

    name: str
    missing: list[int]
    blocked: bool


class Kafka(TypedDict):
    """Node ids; lags in milliseconds (None: never caught up); records behind, per group."""

    leader: int | None
    voter_lag_ms: dict[str, int | None]
    brokers: list[int]
    partitions: int
    ailing: list[Partition]
    lag: dict[str, int]


class Job(TypedDict):
    """A Flink job. Times in milliseconds; None where there was no checkpoint yet."""

    name: str
    state: str
    since_ms: int
    restarts: int | None
    checkpoint_age_ms: int | None
    checkpoint_ms: int | None
    checkpoint_bytes: int | None
    checkpoints_failed: int


class Flink(TypedDict):
    """The JobManager's answers; declared: names of the jobs that should run."""

    version: str
    task_managers: int
    slots: int
    slots_free: int
    jobs: list[Job]
    declared: list[str]


class Heartbeat(TypedDict):
    """Seconds since the newest prediction of the heartbeat was written; None before the first."""

    age_s: float | None


class Look(TypedDict):
    """The whole answer. Of kafka, flink and heartbeat only what was asked for is there.

    memory in MiB; up_s: seconds since its start; problems: what was asked for and did not answer.
    """

    up_s: float
    load: float
    cores: int
    memory_free: int
    memory: int
    disks: list[Disk]
    units: list[Unit]
    versions: dict[str, str]
    kafka: Kafka | None
    flink: Flink | None
    heartbeat: Heartbeat | None
    problems: list[str]


def main(
    paths: list[str],
    kafka: Mapping[str, Any] | None = None,
    flink: bool = False,
    exporter: str | None = None,
) -> Look:
    """Look.

    paths: whose file systems count, beside /. kafka: bootstrap_servers to ask and, where they want
    a certificate, tls (as kafka_client has it). flink: whether to ask this host's JobManager.
    exporter: URL of the plant exporter's metrics.
    """
    problems: list[str] = []
    meminfo = parse_meminfo(Path("/proc/meminfo").read_text())
    return {
        "up_s": up_s(Path("/proc/uptime").read_text(), Path("/proc/1/stat").read_text()),
        "load": os.getloadavg()[0],
        "cores": os.cpu_count() or 1,
        "memory_free": meminfo["MemAvailable"] // 1024,
        "memory": meminfo["MemTotal"] // 1024,
        "disks": disks(["/", *paths]),
        "units": units(),
        "versions": versions(),
        "kafka": ask_kafka(kafka, problems) if kafka else None,
        "flink": ask_flink(problems) if flink else None,
        "heartbeat": ask_exporter(exporter, problems) if exporter else None,
        "problems": problems,
    }


def up_s(uptime: str, first_process: str) -> float:
    """Seconds since the host began, from /proc/uptime and /proc/1/stat.

    A container shares the machine's uptime; its first process is its own.
    """
    started = int(first_process.rpartition(")")[2].split()[19])
    return float(uptime.split(maxsplit=1)[0]) - started / os.sysconf("SC_CLK_TCK")


def parse_meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo as name -> KiB."""
    return {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+)", text, re.MULTILINE)}


def disks(paths: Iterable[str]) -> list[Disk]:
    """The file systems that hold these paths, each once; a missing folder counts as its parent."""
    found: dict[int, Disk] = {}
    for path in map(Path, paths):
        place = next(folder for folder in (path, *path.parents) if folder.exists())
        usage = shutil.disk_usage(place)
        disk: Disk = {"path": str(place), "total": usage.total, "free": usage.free}
        found.setdefault(place.stat().st_dev, disk)
    return list(found.values())


def units() -> list[Unit]:
    """The units of UNITS that are installed.

    Their files are listed first: `systemctl show` takes a pattern for the units in memory alone,
    and one that somebody stopped may not be there any more.
    """
    names = unit_names(_systemctl("list-unit-files", "--no-legend", *UNITS))
    return parse_units(_systemctl("show", f"--property={UNIT_PROPERTIES}", *names)) if names else []


def _systemctl(*arguments: str) -> str:
    """Its output. No unit that matches is an error to systemctl, and none to us."""
    command = ["systemctl", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def unit_names(text: str) -> list[str]:
    """The units in an answer of `systemctl list-unit-files`; templates are left out."""
    names = [line.split(maxsplit=1)[0] for line in text.splitlines() if line.strip()]
    return [name for name in names if "@." not in name]


def parse_units(text: str) -> list[Unit]:
    """The blocks of `systemctl show`, sorted by name."""
    found: list[Unit] = []
    for block in text.strip().split("\n\n"):
        about = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        name = about.get("Id", "")
        if not name.endswith((".service", ".timer")) or about["LoadState"] != "loaded":
            continue
        # A unit whose condition does not hold (chrony in a container) rests by right. "no" is also
        # what systemd says before it has asked.
        rests = about["ConditionResult"] == "no" and about["ConditionTimestampMonotonic"] != "0"
        wanted = about["UnitFileState"] == "enabled" and not rests
        found.append(
            {
                "name": name,
                "active": about["ActiveState"],
                "wanted": wanted,
                "restarts": int(about.get("NRestarts") or 0),
            }
        )
    return sorted(found, key=lambda unit: unit["name"])


def versions() -> dict[str, str]:
    """What is installed, product -> version."""
    found = {
        "Debian": _text(Path("/etc/debian_version")).strip(),
        "Linux": platform.release(),
        "Java": "".join(re.findall(r'^JAVA_VERSION="(.*)"', _text(OPT / "java/release"), re.M)),
        "Kafka": _named(OPT / "kafka/libs", r"kafka_[\d.]+-([\d.]+)\.jar"),
        "Flink": _named(OPT / "flink/lib", r"flink-dist-([\d.]+)\.jar"),
    }
    return {product: version for product, version in found.items() if version}


def _named(folder: Path, pattern: str) -> str:
    """The version in the name of the first file that matches; empty if there is none."""
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    matches = (re.fullmatch(pattern, name) for name in names)
    return next((match[1] for match in matches if match), "")


def ask_kafka(kafka: Mapping[str, Any], problems: list[str]) -> Kafka | None:
    """The cluster's state, as the leader of its quorum tells it."""
    sys.path += [str(wheel) for wheel in sorted((OPT / "lib/kafka-admin").glob("*.whl"))]
    from plugins.module_utils.kafka_client import (  # noqa: PLC0415 - only where Kafka is asked
        NotAnsweringError,
        admin,
        read_cluster,
        tls_of,
    )

    servers, tls = kafka["bootstrap_servers"], tls_of(kafka["tls"])
    try:
        cluster = read_cluster(servers, tls)
        with admin(servers, KAFKA_S, tls) as client:
            lag = lags(client)
    except NotAnsweringError as error:
        problems.append(str(error))
        return None
    return {
        "leader": cluster.leader,
        "voter_lag_ms": {str(voter): lag for voter, lag in cluster.voter_lag_ms.items()},
        "brokers": sorted(cluster.brokers),
        "partitions": len(cluster.partitions),
        "ailing": [
            {
                "name": str(partition),
                "missing": sorted(partition.missing),
                "blocked": len(partition.isr) < partition.min_insync,
            }
            for partition in cluster.partitions
            if partition.missing or len(partition.isr) < partition.min_insync
        ],
        "lag": lag,
    }


def lags(client: Any) -> dict[str, int]:  # noqa: ANN401 - a KafkaAdminClient of the host
    """Records that each of the jobs' groups has not committed yet."""
    from kafka.admin import OffsetSpec  # noqa: PLC0415 - comes with kafka_client

    groups = [group["group_id"] for group in client.list_groups()]
    groups = [group for group in groups if group.startswith(GROUP_PREFIX)]
    if not groups:
        return {}
    committed = client.list_group_offsets(groups)
    wanted = {partition: OffsetSpec.LATEST for own in committed.values() for partition in own}
    ends = client.list_partition_offsets(wanted) if wanted else {}
    return {
        group: sum(max(ends[at].offset - offset.offset, 0) for at, offset in own.items())
        for group, own in committed.items()
    }


def ask_flink(problems: list[str]) -> Flink | None:
    """What this host's JobManager knows."""
    rest = flink_rest()
    try:
        overview = get(f"{rest}/overview")
        jobs = [
            describe_job(
                job,
                of_job(f"{rest}/jobs/{job['jid']}/checkpoints"),
                metric(f"{rest}/jobs/{job['jid']}/metrics?get=numRestarts"),
                time.time(),
            )
            for job in newest(get(f"{rest}/jobs/overview")["jobs"])
        ]
    except (OSError, ValueError) as error:
        problems.append(f"the JobManager does not answer: {error}")
        return None
    return {
        "version": overview["flink-version"],
        "task_managers": overview["taskmanagers"],
        "slots": overview["slots-total"],
        "slots_free": overview["slots-available"],
        "jobs": sorted(jobs, key=lambda job: job["name"]),
        "declared": declared(_text(DECLARED)),
    }


def flink_rest() -> str:
    """Where this host's JobManager answers."""
    found = re.search(r"^rest\.port: *(\d+)", _text(FLINK_CONF), re.MULTILINE)
    return f"https://localhost:{found[1] if found else 8081}"


def of_job(url: str) -> Any:  # noqa: ANN401 - JSON
    """An answer about one job; empty while that job is only just being initialised (HTTP 500)."""
    try:
        return get(url)
    except urllib.error.HTTPError:
        return {}


def metric(url: str) -> int | None:
    """The value of one metric.

    Flink fetches metrics only after somebody asked for them: the first answer is empty.
    """
    deadline = time.monotonic() + METRIC_S
    while not (answer := of_job(url)) and time.monotonic() < deadline:
        time.sleep(METRIC_POLL_S)
    return int(answer[0]["value"]) if answer else None


def newest(jobs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of the jobs of one name those that run, or else the one that was started last."""
    ended = {"CANCELED", "FAILED", "FINISHED", "SUSPENDED"}
    ordered = sorted(jobs, key=lambda job: job["start-time"])
    running = [job for job in ordered if job["state"] not in ended]
    last = {job["name"]: job for job in ordered}
    names = {job["name"] for job in running}
    return running + [job for name, job in last.items() if name not in names]


def describe_job(
    job: Mapping[str, Any],
    checkpoints: Mapping[str, Any],
    restarts: int | None,
    now_s: float,
) -> Job:
    """A job from the answers of Flink's REST interface; `now_s` is the host's own clock."""
    completed = (checkpoints.get("latest") or {}).get("completed") or {}
    acknowledged = completed.get("latest_ack_timestamp")
    return {
        "name": job["name"],
        "state": job["state"],
        "since_ms": job["duration"],
        "restarts": restarts,
        "checkpoint_age_ms": acknowledged and max(int(now_s * 1000) - acknowledged, 0),
        "checkpoint_ms": completed.get("end_to_end_duration"),
        "checkpoint_bytes": completed.get("state_size"),
        "checkpoints_failed": (checkpoints.get("counts") or {}).get("failed", 0),
    }


def declared(text: str) -> list[str]:
    """The names of the jobs that should run, from role flink_jobs' declaration."""
    jobs = json.loads(text)["jobs"] if text else []
    return [job["name"] for job in jobs if job.get("state", "running") == "running"]


def ask_exporter(url: str, problems: list[str]) -> Heartbeat | None:
    """What the plant exporter knows of the heartbeat."""
    try:
        with ask(url) as answer:
            at = parse_heartbeat(answer.read().decode())
    except OSError as error:
        problems.append(f"the plant exporter does not answer: {error}")
        return None
    return {"age_s": None if at is None else max(time.time() - at, 0.0)}


def parse_heartbeat(metrics: str) -> float | None:
    """The heartbeat's time in a page of metrics, in epoch seconds; None before the first one."""
    found = re.search(r"^plantline_heartbeat_timestamp_seconds(?:\{.*\})? (\S+)", metrics, re.M)
    return float(found[1]) or None if found else None


def ask(url: str) -> http.client.HTTPResponse:
    """What this host answers to whoever has the certificate of its Flink."""
    context = None
    if url.startswith("https:"):
        context = ssl.create_default_context(cafile=PKI / "ca.pem")
        context.load_cert_chain(PKI / "flink" / "bundle.pem")
    answer: http.client.HTTPResponse = urllib.request.urlopen(  # noqa: S310 - our own host
        url, timeout=REST_S, context=context
    )
    return answer


def get(url: str) -> Any:  # noqa: ANN401 - JSON
    """An answer of a REST interface."""
    with ask(url) as answer:
        return json.loads(answer.read())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
