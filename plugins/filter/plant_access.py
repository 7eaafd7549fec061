"""Who the programs of a plant are in Kafka, and what each may do there, as Ansible filters.

Each program is a user of its own and gets what it asks of Kafka, no more: without a rule Kafka
refuses. Reading and writing include to describe. Consumer groups and the users of jobs have the
name of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

from flink_jobs import contracts
from flink_jobs import plant as model

MB = 1_000_000

Rule = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """A program's user, its rules in the form of module `kafka_acls`, and the limits of its quota.

    The jobs have no quota: one that catches up after an outage shall take what the brokers have.
    """

    user: str
    rules: tuple[Rule, ...]
    limits: Mapping[str, int] = field(default_factory=dict)


def plant_users(file: str, models: Collection[str]) -> list[str]:
    """Names of the users, for each of which a password is needed.

    models: machine types with a job, beside those that the plant model names.
    """
    return [program.user for program in _programs(file, models)]


def plant_acls(file: str, models: Collection[str]) -> list[Rule]:
    """The rules to declare, in the form of module `kafka_acls`."""
    return [
        {"principal": f"User:{program.user}", **rule}
        for program in _programs(file, models)
        for rule in program.rules
    ]


def plant_quotas(file: str, models: Collection[str]) -> list[dict[str, Any]]:
    """The quotas to declare, in the form of module `kafka_quotas`."""
    return [
        {"user": program.user, **program.limits}
        for program in _programs(file, models)
        if program.limits
    ]


def kafka_credentials(users: Collection[str], passwords: Mapping[str, str]) -> list[dict[str, str]]:
    """Users with their passwords, in the form of module `kafka_users`."""
    if missing := sorted(set(users) - set(passwords)):
        raise AnsibleFilterError(
            f"Kafka's users {', '.join(missing)} have no password: vault_kafka_passwords does not "
            "name them; `make secrets` adds what is missing"
        )
    return [{"name": user, "password": passwords[user]} for user in users]


def _programs(file: str, models: Collection[str]) -> Iterator[Program]:
    try:
        plant = model.load_plant(Path(file))
    except model.PlantError as error:
        raise AnsibleFilterError(f"the plant model has faults:\n{error}") from error
    scored = [
        kind.name
        for kind in plant.all_types.values()
        if "anomaly" in kind.models or kind.name in {*models, contracts.HEARTBEAT}
    ]
    for kind in scored:
        yield _anomaly_job(kind, plant.unknown_machines == "reject")
    yield _clock(scored)
    yield _registry()
    yield _exporter(plant, scored)
    if plant.heartbeat:
        yield _heartbeat()


def _anomaly_job(kind: str, rejects_unknown: bool) -> Program:
    job = f"plantline-anomaly-{kind}"
    # Without a group: each process reads the topic from its beginning.
    registry = (_may("read", "topic", contracts.MACHINES),) if rejects_unknown else ()
    return Program(
        job,
        (
            _may("read", "topic", contracts.telemetry_topic(kind)),
            _may("read", "group", job),
            *registry,
            _may("write", "topic", contracts.PREDICTIONS),
            _may("write", "topic", contracts.ALERTS),
            _may("write", "topic", contracts.DLQ),
            # Without its state it looks there for what it has emitted (flink_jobs/resume.py).
            _may("read", "topic", contracts.PREDICTIONS),
            _may("read", "topic", contracts.DLQ),
            # Flink puts a dash and numbers behind the name; another job's cannot begin like that.
            # The right to see them comes with it, for a job that ends what it has left open.
            _may("write", "transactional_id", f"{job}-", pattern="prefixed"),
        ),
    )


def _clock(scored: Collection[str]) -> Program:
    """Looks at the ends of the topics that are scored, and writes `_clock` where nothing comes."""
    user = "plantline-clock"
    topics = [contracts.telemetry_topic(kind) for kind in scored]
    return Program(
        user,
        (
            *(_may("read", "topic", topic) for topic in topics),
            *(_may("write", "topic", topic) for topic in topics),
            # It joins no group, but librdkafka asks for the coordinator of the one it names.
            _may("describe", "group", user),
        ),
        {"producer_byte_rate": MB},
    )


def _registry() -> Program:
    """Compares the declared machines with those of the topic, and adds what is missing."""
    return Program(
        "plantline-registry",
        (
            _may("read", "topic", contracts.MACHINES),
            _may("write", "topic", contracts.MACHINES),
            _may("describe", "group", "plantline-tools"),
        ),
    )


def _exporter(plant: model.Plant, scored: Collection[str]) -> Program:
    """Reads results and samples of telemetry, and how far the jobs are behind."""
    user = "plantline-exporter"
    telemetry = [contracts.telemetry_topic(name) for name in plant.machine_types]
    results = [contracts.PREDICTIONS, contracts.ALERTS, contracts.DLQ]
    # The lag of a group is seen in the ends of its topic, whose readings are not looked at.
    ends = [contracts.telemetry_topic(kind) for kind in scored if kind not in plant.machine_types]
    return Program(
        user,
        (
            *(_may("read", "topic", topic) for topic in [*results, *telemetry]),
            *(_may("describe", "topic", topic) for topic in ends),
            *(_may("describe", "group", f"plantline-anomaly-{kind}") for kind in scored),
            _may("describe", "group", user),
        ),
        # It begins with thousands of records of each partition, and must not take from the jobs.
        {"consumer_byte_rate": 32 * MB},
    )


def _heartbeat() -> Program:
    return Program(
        "plantline-heartbeat",
        (_may("write", "topic", contracts.telemetry_topic(contracts.HEARTBEAT)),),
        # One reading a second is a few hundred bytes.
        {"producer_byte_rate": MB // 10},
    )


def _may(operation: str, resource: str, name: str, pattern: str = "literal") -> Rule:
    return {"operations": [operation], "resource": resource, "name": name, "pattern": pattern}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "plant_users": plant_users,
            "plant_acls": plant_acls,
            "plant_quotas": plant_quotas,
            "kafka_credentials": kafka_credentials,
        }
