"""What the playbooks need of the plant model, as Ansible filters over the path of plant.yml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

from flink_jobs import plant as model
from flink_jobs.jobs import anomaly_sql

ROOT = Path(__file__).resolve().parents[2]
MODELS = "/opt/plantline/models"
MACHINES = "/etc/plantline/machines.json"
# Written by roles pki and flink_jobs. A job's settings are shown by Flink; its password stays in a
# file of this folder, which Kafka's client reads itself.
CA = "/etc/plantline/pki/ca.pem"
LOGINS = "/etc/plantline/flink/kafka"
HEARTBEAT_MODEL = ROOT / "flink_jobs" / "heartbeat.onnx"
# Where a model lies unless plant_models says otherwise.
MODEL_FILE = "out/models/{type}-anomaly.onnx"


def plant_topics(file: str) -> list[dict[str, Any]]:
    """The topics to declare, in the form of module `kafka_topics`."""
    return [asdict(topic) for topic in model.topics(_load(file))]


def plant_machines(file: str) -> list[dict[str, Any]]:
    """The declared machines: content of machines.json on the Flink nodes."""
    return model.registrations(_load(file))


def plant_jobs(
    file: str,
    bootstrap_servers: str,
    models: dict[str, str],
    parallelism: int,
    security: bool = False,
) -> list[dict[str, Any]]:
    """One job `anomaly` for each machine type with a model.

    A type has one if the plant model says `models: [anomaly]`, or if `models` (type -> path) names
    its file. Relative paths start at the project's root. The heartbeat's job has a model of ours.
    With `security` each job is a user of Kafka's by its own name.
    """
    plant = _load(file)
    unknown = sorted(set(models) - set(plant.machine_types))
    if unknown:
        raise AnsibleFilterError(
            f"plant_models names the machine types {unknown}, which {file} does not have; "
            f"use {sorted(plant.machine_types)}"
        )
    scored = [kind.name for kind in plant.machine_types.values() if "anomaly" in kind.models]
    models = {name: MODEL_FILE.format(type=name) for name in scored} | models
    # A reader without a partition has no event time and holds all windows back.
    narrow = [kind for kind in models if plant.machine_types[kind].partitions < parallelism]
    if narrow:
        raise AnsibleFilterError(
            f"plant_jobs_parallelism is {parallelism}, but machine types {narrow} have fewer "
            f"partitions; lower it or give them more partitions in {file}"
        )
    jobs = [
        _anomaly(plant, kind, ROOT / models[kind]) | {"parallelism": parallelism}
        for kind in sorted(models)
    ]
    if plant.heartbeat:
        heartbeat = _anomaly(plant, model.HEARTBEAT.name, HEARTBEAT_MODEL)
        jobs.append(heartbeat | {"parallelism": model.HEARTBEAT.partitions})
    for job in jobs:
        job["config"]["kafka"] = _kafka(bootstrap_servers, job["name"] if security else None)
    return jobs


def plant_channels(file: str) -> dict[str, list[str]]:
    """The channels of each machine type, the heartbeat's included."""
    return {name: list(kind.channel_names) for name, kind in _load(file).all_types.items()}


def plant_groups(file: str, models: dict[str, str]) -> dict[str, str]:
    """The consumer groups of the jobs that `plant_jobs` declares, each with the topic it reads."""
    return {
        job["name"]: job["config"]["telemetry_topic"] for job in plant_jobs(file, "", models, 1)
    }


def _kafka(bootstrap_servers: str, user: str | None) -> dict[str, str]:
    """Settings of Kafka's Java client, in plaintext if there is no user."""
    settings = {"bootstrap.servers": bootstrap_servers}
    if user is None:
        return settings
    return settings | {
        "security.protocol": "SASL_SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": CA,
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": f"${{file:{LOGINS}/{user}.properties:sasl.jaas.config}}",
        "config.providers": "file",
        "config.providers.file.class": (
            "org.apache.kafka.common.config.provider.FileConfigProvider"
        ),
        "config.providers.file.param.allowed.paths": LOGINS,
    }


def _anomaly(plant: model.Plant, kind: str, model_file: Path) -> dict[str, Any]:
    if not model_file.is_file():
        raise AnsibleFilterError(
            f"the model of machine type {kind!r} is not there: {model_file}; make it with "
            f".venv-train/bin/python -m flink_jobs.tools.train --type {kind} … --out {model_file}"
        )
    name = f"plantline-anomaly-{kind}"
    config = model.job_config(plant, kind) | {
        "job_name": name,
        "model_file": f"{MODELS}/{model_file.name}",
        "machines_file": MACHINES,
        "severity": "warning",
    }
    return {
        "name": name,
        "module": "flink_jobs.jobs.anomaly",
        "config": config,
        "files": [str(model_file)],
        "state_version": anomaly_sql.state_version(config),
    }


def _load(file: str) -> model.Plant:
    try:
        return model.load_plant(Path(file))
    except model.PlantError as error:
        raise AnsibleFilterError(f"the plant model has faults:\n{error}") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "plant_topics": plant_topics,
            "plant_machines": plant_machines,
            "plant_jobs": plant_jobs,
            "plant_channels": plant_channels,
            "plant_groups": plant_groups,
        }
