"""The anomaly job's SQL (anomaly.sql.j2) for one machine type, as text: needs no Flink."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from flink_jobs import contracts
from flink_jobs.commissioning import REFERENCE_LAYOUT
from flink_jobs.jobs.checks import checked_channels, checks_text

# To be raised when a change of the template alters what Flink's operators keep in state.
STATE_LAYOUT = 3

# What a broker ends sooner, after an outage of its own too, is lost: Flink has it in no checkpoint.
TRANSACTION_TIMEOUT_MS = 604_800_000

# How many channels a prediction names as the main causes of its score.
TOP_CHANNELS = 3


@dataclass(frozen=True)
class Emitted:
    """What a job emitted before it lost its state, so that it is not emitted again.

    window_end: windows up to this one, epoch milliseconds. offsets: by partition of the telemetry
    topic, the first record of which no dead letter has been made. Without either: nothing.
    """

    window_end: int = 0
    offsets: Mapping[int, int] = field(default_factory=dict)


def statements(
    config: Mapping[str, Any], model: str, model_version: str, emitted: Emitted | None = None
) -> list[str]:
    """The statements in order: tables and views first, then the inserts.

    `config` is the job's configuration (docs/reference/job-config.md). Where there is no state, the
    job reads its topic from the beginning if `emitted` is given, else from the group's offsets.
    Raises KeyError for a missing entry and jinja2.UndefinedError for a name the template has and we
    do not.
    """
    channels = channel_names(config)
    environment = Environment(
        loader=PackageLoader("flink_jobs.jobs", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  (SQL, not HTML; the filters below quote)
    )
    environment.filters.update(text=_text, name=_name, interval=_interval)
    text = environment.get_template("anomaly.sql.j2").render(
        {
            **config,
            "kafka_properties": config["kafka"],
            "channels": channels,
            "checks": checks_text(config["channels"]),
            "checked": checked_channels(config["channels"]),
            "units": {c["name"]: c["unit"] for c in config["channels"]},
            "ranges": {c["name"]: (c["valid_min"], c["valid_max"]) for c in config["channels"]},
            "score_columns": score_columns(config),
            "ranks": _ranks(config),
            "model": model,
            "model_version": model_version,
            "clock": contracts.CLOCK,
            "machines": contracts.MACHINES,
            "max_ts": contracts.MAX_TS,
            "max_id_length": contracts.MAX_ID_LENGTH,
            "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS,
            "emitted": emitted or Emitted(),
            "startup_mode": "group-offsets" if emitted is None else "earliest-offset",
            "max_raw_bytes": contracts.MAX_RAW_BYTES,
        }
    )
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in lines.split(";\n") if statement.strip(" ;\n")]


def score_columns(config: Mapping[str, Any]) -> list[str]:
    """Fields of the row that the SQL function `score` returns, in order."""
    ranked = [column for rank in _ranks(config) for column in (f"channel{rank}", f"share{rank}")]
    return ["score", "threshold", "line", "area", *ranked]


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


def _interval(seconds: float) -> str:
    """An interval literal; SECOND alone is limited to two digits."""
    millis = round(seconds * 1000)
    minutes, rest = divmod(millis, 60_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
    return f"INTERVAL '{days} {clock}' DAY TO SECOND(3)"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(column: str) -> str:
    return "`" + column.replace("`", "``") + "`"
