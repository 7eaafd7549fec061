"""One screen: is the plant well, and if not, what is wrong first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops.fleet import Fleet, NoAnswerError
from ops.plant import Plant
from ops.remote.look import Disk, Flink, Heartbeat, Job, Kafka, Look
from ops.text import bytes_text, columns, duration_text, listed
from plugins.module_utils.kafka_roller import MAX_VOTER_LAG_MS

TIMEOUT_S = 15
# A disk fuller than this has little time left: Kafka stops where nothing can be written.
DISK_FULL = 0.85
# Checkpoints are due every few seconds; a minute without one means that they fail.
CHECKPOINT_AGE_MS = 60_000
# The heartbeat's windows are 10 s long and slide by 5 s; three missing ones are no accident.
HEARTBEAT_AGE_S = 30.0


@dataclass(frozen=True)
class View:
    """What is expected of the plant, and what its hosts answered.

    kafka and flink are None where no host could be asked or where none has that task.
    """

    plant: str
    groups: Mapping[str, Sequence[str]]
    node_names: Mapping[int, str]
    looks: Mapping[str, Look]
    silent: Mapping[str, str]
    kafka: Kafka | None
    flink: Flink | None
    heartbeat: Heartbeat | None
    heartbeat_expected: bool


def look(plant: Plant, fleet: Fleet) -> View:
    """Ask every host once; one broker also for Kafka, the first Flink master also for Flink."""
    questions: dict[str, dict[str, object]] = {
        host: {"paths": data_paths(plant, host)} for host in fleet.connections
    }
    broker, kafka = kafka_question(plant, fleet)
    if broker:
        questions[broker]["kafka"] = kafka
    master = fleet.first(plant.group("flink_masters")[:1])
    exporter = exporter_url(plant, master) if master else None
    if master:
        questions[master] |= {"flink": True, "exporter": exporter}
    answers = fleet.ask("look", questions, TIMEOUT_S)
    looks = {host: a for host, a in answers.items() if not isinstance(a, NoAnswerError)}
    failed = {host: str(a) for host, a in answers.items() if isinstance(a, NoAnswerError)}
    at_broker, at_master = looks.get(broker or ""), looks.get(master or "")
    return View(
        plant=plant.name,
        groups=plant.groups,
        node_names=node_names(plant),
        looks=looks,
        silent={**fleet.unreachable, **failed},
        kafka=at_broker["kafka"] if at_broker else None,
        flink=at_master["flink"] if at_master else None,
        heartbeat=at_master["heartbeat"] if at_master else None,
        heartbeat_expected=exporter is not None,
    )


def kafka_question(plant: Plant, fleet: Fleet) -> tuple[str | None, dict[str, Any]]:
    """The broker that is to ask Kafka, and what it needs for that: servers that are reached, TLS.

    A server that is off would be waited for before another is tried.
    """
    brokers = [host for host in plant.group("kafka_brokers") if host in fleet.connections]
    servers = [str(plant.value(host, "__kafka_own_server", "kafka")) for host in brokers]
    if not brokers:
        return None, {}
    tls = plant.value(brokers[0], "__kafka_tls", "kafka")
    return brokers[0], {"bootstrap_servers": ",".join(servers), "tls": tls}


def data_paths(plant: Plant, host: str) -> list[str]:
    """The folders of a host that fill up."""
    paths: list[str] = []
    if host in plant.group("kafka_brokers") + plant.group("kafka_controllers"):
        paths += plant.value(host, "kafka_log_dirs", "kafka")
    if host in plant.group("flink_masters") + plant.group("flink_workers"):
        paths.append(plant.value(host, "flink_shared_dir", "flink"))
    return paths


def exporter_url(plant: Plant, host: str) -> str | None:
    """Where the plant exporter of this host answers; None in a plant without one."""
    port = plant.value(host, "plant_exporter_port", "plant_exporter")
    address = plant.value(host, "plant_exporter_address", "plant_exporter")
    if port is None:
        return None
    everywhere = str(address) in ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound
    return f"https://{'localhost' if everywhere else address}:{port}/metrics"


def node_names(plant: Plant) -> dict[int, str]:
    """Host names by Kafka node id."""
    ids = {host.name: plant.value(host.name, "kafka_node_id") for host in plant.hosts}
    return {int(node): host for host, node in ids.items() if node is not None}


def problems(view: View) -> list[str]:
    """What an operator has to look into, the gravest first; empty if there is nothing."""
    found = [f"{host} does not answer: {why}" for host, why in view.silent.items()]
    for host, seen in view.looks.items():
        found += [f"{host}: {problem}" for problem in seen["problems"]]
    if view.kafka:
        found += kafka_problems(view, view.kafka)
    if view.flink:
        found += flink_problems(view, view.flink)
    if view.heartbeat:
        found += heartbeat_problems(view.heartbeat["age_s"])
    for host, seen in view.looks.items():
        found += host_problems(host, seen)
    return found + version_problems(view.looks)


def kafka_problems(view: View, kafka: Kafka) -> list[str]:
    """What Kafka lacks, compared with the inventory."""
    found = []
    registered = {view.node_names.get(node) for node in kafka["brokers"]}
    absent = [host for host in view.groups.get("kafka_brokers", []) if host not in registered]
    if kafka["leader"] is None:
        found.append("Kafka: the quorum has no leader; no partition can get a new one")
    if absent:
        found.append(f"Kafka: {listed(absent)} not registered as broker")
    behind = [
        view.node_names.get(int(voter), voter)
        for voter, lag in kafka["voter_lag_ms"].items()
        if voter_behind(lag)
    ]
    if kafka["leader"] is not None and behind:
        found.append(f"Kafka: {listed(behind)} does not follow the quorum's leader")
    blocked = [partition["name"] for partition in kafka["ailing"] if partition["blocked"]]
    missing = [partition["name"] for partition in kafka["ailing"] if not partition["blocked"]]
    in_all = f"{kafka['partitions']} partitions"
    if blocked:
        found.append(f"Kafka: writes refused by {len(blocked)} of {in_all} ({listed(blocked)})")
    if missing:
        found.append(f"Kafka: a replica missing in {len(missing)} of {in_all} ({listed(missing)})")
    return found


def voter_behind(lag_ms: int | None) -> bool:
    """Whether a controller no longer follows the leader; half a second is the way it works."""
    return lag_ms is None or lag_ms > MAX_VOTER_LAG_MS


def flink_problems(view: View, flink: Flink) -> list[str]:
    """What Flink lacks, compared with the inventory and the declared jobs."""
    found = []
    workers = len(view.groups.get("flink_workers", []))
    if flink["task_managers"] < workers:
        found.append(f"Flink: {flink['task_managers']} of {workers} TaskManagers are registered")
    jobs = {job["name"]: job for job in flink["jobs"]}
    for name in flink["declared"]:
        job = jobs.get(name)
        if job is None:
            found.append(f"job {name} is declared and not there")
        elif job["state"] != "RUNNING":
            found.append(f"job {name} is {job['state']}")
        elif (age := checkpoint_overdue_ms(job)) is not None:
            found.append(f"job {name}: no checkpoint completed for {duration_text(age / 1000)}")
    found += [
        f"job {job['name']} runs and is not declared"
        for job in flink["jobs"]
        if job["state"] == "RUNNING" and job["name"] not in flink["declared"]
    ]
    return found


def checkpoint_overdue_ms(job: Job) -> int | None:
    """How long a job has gone without a checkpoint, if that is too long; in milliseconds."""
    age = job["since_ms"] if job["checkpoint_age_ms"] is None else job["checkpoint_age_ms"]
    return age if age > CHECKPOINT_AGE_MS else None


def heartbeat_problems(age_s: float | None) -> list[str]:
    """Whether the path from reading to prediction is alive."""
    if age_s is None:
        return ["no heartbeat has come through yet"]
    if age_s > HEARTBEAT_AGE_S:
        return [f"the last heartbeat came through {duration_text(age_s)} ago: nothing is watched"]
    return []


def host_problems(host: str, seen: Look) -> list[str]:
    """Units that are down and disks that fill up."""
    down = [
        f"{host}: {unit['name']} is {unit['active']}"
        for unit in seen["units"]
        if unit["active"] == "failed" or (unit["wanted"] and unit["active"] != "active")
    ]
    full = [
        f"{host}: {disk['path']} is {used(disk):.0%} full, {bytes_text(disk['free'])} are left"
        for disk in seen["disks"]
        if used(disk) > DISK_FULL
    ]
    return down + full


def used(disk: Disk) -> float:
    """The share of a disk that is taken, 0 to 1."""
    return 1 - disk["free"] / disk["total"]


def version_problems(looks: Mapping[str, Look]) -> list[str]:
    """Products of which not all hosts have the same version."""
    found = []
    for product in ("Kafka", "Flink", "Java"):
        hosts: dict[str, list[str]] = {}
        for host, seen in looks.items():
            if product in seen["versions"]:
                hosts.setdefault(seen["versions"][product], []).append(host)
        if len(hosts) > 1:
            differ = "; ".join(f"{version} on {listed(on)}" for version, on in hosts.items())
            found.append(f"{product} differs: {differ}")
    return found


def screen(view: View, now: datetime, seconds: float) -> str:
    """All of it as text."""
    wrong = problems(view)
    lines = [
        f"{view.plant} · {now:%Y-%m-%d %H:%M:%S} · {len(view.looks)} hosts answered, "
        f"{len(view.silent)} did not · {seconds:.1f} s",
        "",
        f"{len(wrong)} found wrong:" if wrong else "Nothing found wrong.",
        *(f"  ! {problem}" for problem in wrong),
        "",
        *kafka_lines(view),
        *flink_lines(view),
        *heartbeat_lines(view),
        "",
        *host_lines(view.looks),
        "",
        version_line(view.looks),
    ]
    return "\n".join(lines)


def kafka_lines(view: View) -> list[str]:
    """The quorum, the brokers, the partitions."""
    kafka = view.kafka
    if kafka is None:
        return ["Kafka      ?"] if view.groups.get("kafka_brokers") else []
    names = view.node_names
    leader = "none" if kafka["leader"] is None else names.get(kafka["leader"], str(kafka["leader"]))
    voters = ", ".join(
        names.get(int(voter), voter) + (" (behind)" if voter_behind(lag) else "")
        for voter, lag in kafka["voter_lag_ms"].items()
    )
    missing = sum(bool(partition["missing"]) for partition in kafka["ailing"])
    blocked = sum(partition["blocked"] for partition in kafka["ailing"])
    brokers = len(view.groups.get("kafka_brokers", []))
    return [
        f"Kafka      leader {leader}; voters {voters}",
        f"           {len(kafka['brokers'])} of {brokers} brokers; "
        f"{kafka['partitions']} partitions, {missing} miss a replica, {blocked} refuse writes",
    ]


def flink_lines(view: View) -> list[str]:
    """The cluster, and a row for each job."""
    flink = view.flink
    if flink is None:
        return ["Flink      ?"] if view.groups.get("flink_masters") else []
    workers = len(view.groups.get("flink_workers", []))
    lags = view.kafka["lag"] if view.kafka else {}
    rows = [["job", "state", "since", "restarts", "checkpoint", "took", "size", "failed", "lag"]]
    for job in flink["jobs"]:
        age, took, size = job["checkpoint_age_ms"], job["checkpoint_ms"], job["checkpoint_bytes"]
        rows.append(
            [
                job["name"],
                job["state"],
                duration_text(job["since_ms"] / 1000),
                _or_dash(job["restarts"]),
                "none" if age is None else f"{duration_text(age / 1000)} ago",
                "-" if took is None else duration_text(took / 1000),
                "-" if size is None else bytes_text(size),
                str(job["checkpoints_failed"]),
                _or_dash(lags.get(job["name"])),
            ]
        )
    return [
        f"Flink      {flink['task_managers']} of {workers} TaskManagers; "
        f"{flink['slots_free']} of {flink['slots']} slots free",
        *("           " + line for line in columns(rows)),
    ]


def heartbeat_lines(view: View) -> list[str]:
    """The age of the newest heartbeat."""
    if not view.heartbeat_expected:
        return ["Heartbeat  the plant has no exporter"]
    age = view.heartbeat["age_s"] if view.heartbeat else None
    return ["Heartbeat  " + ("?" if age is None else f"came through {duration_text(age)} ago")]


def host_lines(looks: Mapping[str, Look]) -> list[str]:
    """A row for each host."""
    rows = [["host", "up", "load", "cores", "memory free", "disks used", "units"]]
    for host, seen in looks.items():
        active = sum(unit["active"] == "active" for unit in seen["units"])
        restarts = [
            f"{unit['name'].removesuffix('.service')} {unit['restarts']}"
            for unit in seen["units"]
            if unit["restarts"]
        ]
        rows.append(
            [
                host,
                duration_text(seen["up_s"]),
                f"{seen['load']:.1f}",
                str(seen["cores"]),
                f"{seen['memory_free'] / 1024:.1f} of {seen['memory'] / 1024:.1f} GiB",
                ", ".join(f"{disk['path']} {used(disk):.0%}" for disk in seen["disks"]),
                f"{active} active" + (f", restarts: {', '.join(restarts)}" if restarts else ""),
            ]
        )
    return columns(rows)


def version_line(looks: Mapping[str, Look]) -> str:
    """Each product with its version, or all its versions where they differ."""
    products: dict[str, set[str]] = {}
    for seen in looks.values():
        for product, version in seen["versions"].items():
            products.setdefault(product, set()).add(version)
    told = (f"{product} {' / '.join(sorted(them))}" for product, them in products.items())
    return " · ".join(told)


def _or_dash(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"
