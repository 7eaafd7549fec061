"""The anomaly job's SQL (anomaly.sql.j2) for one machine type, as text: needs no Flink."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from flink_jobs import contracts
from flink_jobs.commissioning import REFERENCE_LAYOUT
from flink_jobs.jobs.checks import checked_channels, checks_text

# To be raised when a change of the template, or of the operators in Java, alters their state.
STATE_LAYOUT = 6

# What a broker ends sooner, after an outage of its own too, is lost: Flink has it in no checkpoint.
TRANSACTION_TIMEOUT_MS = 604_800_000

# How many channels a prediction names as the main causes of its score.
TOP_CHANNELS = 3

_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Emitted:
    """What a job emitted before it lost its state, so that it is not emitted again.

    window_end: windows up to this one, epoch milliseconds. offsets: by partition of the telemetry
    topic, the first record of which no dead letter has been made. Without either: nothing.
    """

    window_end: int = 0
    offsets: Mapping[int, int] = field(default_factory=dict)


def statements(
    config: Mapping[str, Any],
    model: str,
    model_version: str,
    threshold: float,
    emitted: Emitted | None = None,
) -> tuple[list[str], list[str]]:
    """The statements in order: tables, views and functions; and the inserts.

    `config` is the job's configuration (docs/reference/job-config.md). Raises KeyError for a
    missing entry and jinja2.UndefinedError for a name the template has and we do not.
    """
    environment = Environment(
        loader=PackageLoader("flink_jobs.jobs", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  (SQL, not HTML; the filters below quote)
    )
    environment.filters.update(text=_text, double=_double)
    text = environment.get_template("anomaly.sql.j2").render(
        {
            **config,
            "kafka_properties": config["kafka"],
            "channels": channel_names(config),
            "checked": checked_channels(config["channels"]),
            "units": {c["name"]: c["unit"] for c in config["channels"]},
            "score_columns": score_columns(config),
            "ranks": _ranks(config),
            "model": model,
            "model_version": model_version,
            "threshold": threshold,
            "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS,
            "emitted": emitted or Emitted(),
            "max_raw_bytes": contracts.MAX_RAW_BYTES,
        }
    )
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    found = [statement.strip(" ;\n") for statement in lines.split(";\n")]
    definitions = [statement for statement in found if statement.startswith("CREATE ")]
    return definitions, [statement for statement in found if statement.startswith("INSERT ")]


def stream_settings(config: Mapping[str, Any], emitted: Emitted | None = None) -> str:
    """What flink_java/plantline/Settings.java reads, as JSON.

    Where there is no state, the job reads its topic from the beginning if `emitted` is given, else
    from the group's offsets.
    """
    checked = checked_channels(config["channels"])
    silent_after_s = config["silent_after_s"]
    return json.dumps(
        {
            "topic": config["telemetry_topic"],
            "group": config["job_name"],
            "fromBeginning": emitted is not None,
            "kafka": config["kafka"],
            "machineType": config["machine_type"],
            "registry": contracts.MACHINES if config["unknown_machines"] == "reject" else None,
            "channels": [
                {
                    "name": channel["name"],
                    "low": channel["valid_min"],
                    "high": channel["valid_max"],
                    "isChecked": channel["name"] in checked,
                }
                for channel in config["channels"]
            ],
            "checks": checks_text(config["channels"]),
            "maxTs": contracts.MAX_TS,
            "maxIdLength": contracts.MAX_ID_LENGTH,
            "maxRawBytes": contracts.MAX_RAW_BYTES,
            "disorder": round(1000 * config["max_disorder_s"]),
            "ahead": round(1000 * config["max_clock_ahead_s"]),
            "window": round(1000 * config["window_s"]),
            "slide": round(1000 * config["slide_s"]),
            "commissioning": config["commissioning_readings"],
            "silentAfter": None if silent_after_s is None else round(1000 * silent_after_s),
            "forgetAfter": _DAY_MS * config["forget_after_days"],
        }
    )


def references_query() -> str:
    """What makes the machines' references (Stream.commission)."""
    return "SELECT machine_id, reference(packed) FROM first_readings"


def score_columns(config: Mapping[str, Any]) -> list[str]:
    """Fields of the row that the SQL function `score` returns, in order."""
    return ["score", *(f"{what}{rank}" for rank in _ranks(config) for what in ("cause", "share"))]


def state_version(config: Mapping[str, Any]) -> str:
    """A digest of all that shapes the job's state: jobs of equal digest can share a savepoint."""
    shape = (
        STATE_LAYOUT,
        REFERENCE_LAYOUT,
        channel_names(config),
        config["window_s"],
        config["slide_s"],
        config["commissioning_readings"],
        # Lanes of their own, each with operators that a job without it does not have.
        bool(checked_channels(config["channels"])),
        config["silent_after_s"] is not None,
    )
    return hashlib.sha256(repr(shape).encode()).hexdigest()[:16]


def channel_names(config: Mapping[str, Any]) -> list[str]:
    """The machine type's channels in the order of the plant model."""
    return [channel["name"] for channel in config["channels"]]


def _ranks(config: Mapping[str, Any]) -> list[int]:
    return list(range(1, min(TOP_CHANNELS, len(config["channels"])) + 1))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _double(value: float) -> str:
    """A literal of exactly this DOUBLE."""
    return f"{value:.17e}"
