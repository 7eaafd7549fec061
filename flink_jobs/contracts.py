"""The records that cross topics: names, shapes, one strict decoder. See docs/contracts.md.

Times are epoch milliseconds UTC, window ends are exclusive, a higher score is always worse.
Decoders raise `ContractError` with a short fixed reason (it becomes the header `dlq.reason`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Final

import orjson

PREDICTIONS: Final = "predictions"
ALERTS: Final = "alerts"
DLQ: Final = "dlq"
MACHINES: Final = "machines"
MODELS: Final = "models"
MODEL_ACTIVATIONS: Final = "model_activations"
EVENTS: Final = "events"
MAINTENANCE: Final = "maintenance"
FAILURES: Final = "failures"

MODEL_MAX_BYTES: Final = 16 * 1024 * 1024
# A dead letter is the largest record that a broker takes by default, and its headers.
DLQ_MAX_BYTES: Final = 2 * 1024 * 1024

# So much of a record becomes a dead letter at most. Brokers limit what is compressed, so a larger
# one comes only of what is nearly nothing, such as zeros.
MAX_RAW_BYTES: Final = 16 * 1024 * 1024

# The machine whose readings only move event time: never scored, stored or counted.
CLOCK: Final = "_clock"

# The machine, only one of a type of the same name, whose readings show that the whole path works.
HEARTBEAT: Final = "_heartbeat"

# Begins the names of machines and machine types that are the plant's own, such as these two.
_RESERVED: Final = "_"

# What a reading holds beside its channels; no channel may have one of these names.
READING_FIELDS: Final = frozenset({"machine_id", "ts", "seq"})

# Every producer partitions as the Java client does, so one machine stays on one partition
# whoever writes. librdkafka's own default differs.
PRODUCER_DEFAULTS: Final[Mapping[str, Any]] = {
    "partitioner": "murmur2_random",
    "enable.idempotence": True,
    "acks": "all",
    # With more in flight, librdkafka may begin a new epoch when a leader moves, and what it sends
    # again then is a new record to the brokers (librdkafka's issue 4953).
    "max.in.flight.requests.per.connection": 1,
}

# The last millisecond of the year 9999: beyond it neither Flink's nor Python's calendar goes.
MAX_TS: Final = 253_402_300_799_999
MAX_ID_LENGTH: Final = 249


class ContractError(ValueError):
    """A record that breaks its contract. `reason` is a fixed code, `detail` is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Reading:
    """One machine at one time. Channels that were null or absent are None."""

    machine_id: str
    ts: int
    values: dict[str, float | None]
    seq: int | None = None
    unknown_fields: int = 0


@dataclass(frozen=True, slots=True)
class ChannelShare:
    """How much of a score is due to one channel, 0 to 1."""

    channel: str
    share: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """One scored window. `score` and `threshold` are null while a machine is commissioned."""

    machine_id: str
    machine_type: str
    window_start: int
    window_end: int
    kind: str
    model: str
    model_version: str
    revision: int
    score: float | None
    threshold: float | None
    is_alert: bool
    rul: float | None
    rul_unit: str | None
    horizon_s: int | None
    readings: int
    top_channels: tuple[ChannelShare, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """A condition that began (`raised`) or ended (`cleared`); the pair shares its alert_id."""

    alert_id: str
    state: str
    machine_id: str
    machine_type: str
    ts: int
    rule: str
    severity: str
    channel: str | None
    model: str | None
    model_version: str | None
    window_end: int | None
    value: float | None
    threshold: float | None
    message: str
    line: str | None
    area: str | None


def is_reserved(name: str) -> bool:
    """Whether a machine or machine type is one of the plant's own: nobody's to watch or count."""
    return name.startswith(_RESERVED)


def telemetry_topic(machine_type: str) -> str:
    """The topic of one machine type's readings."""
    return f"telemetry.{machine_type}"


def encode_reading(reading: Reading) -> bytes:
    """A reading as JSON: identity first, then the channels flat, None as null."""
    record: dict[str, Any] = {"machine_id": reading.machine_id, "ts": reading.ts}
    if reading.seq is not None:
        record["seq"] = reading.seq
    return orjson.dumps(record | reading.values)


def parse_reading(
    raw: bytes,
    channels: Collection[str],
    valid: Mapping[str, tuple[float, float]] = MappingProxyType({}),
) -> Reading:
    """The one decoder of readings: strict, so that nothing odd reaches a model.

    `channels` are those of the machine type; other fields are counted, not read. `valid` gives the
    lowest and highest value that a channel's sensor can show. Raises ContractError, the first that
    applies of not_json, not_an_object, bad_machine_id, bad_ts, bad_seq, bad_value, out_of_range.

    The jobs have the same in Java (flink_java/plantline/Decoder.java); tests hold the two together.
    """
    record = _object(raw)
    machine_id = record.get("machine_id")
    if not isinstance(machine_id, str) or not 0 < len(machine_id) <= MAX_ID_LENGTH:
        raise ContractError("bad_machine_id", f"machine_id is {_shown(machine_id)}")
    ts = record.get("ts")
    # bool is an int in Python, but true is not a time.
    if type(ts) is not int or not 0 <= ts <= MAX_TS:
        raise ContractError("bad_ts", f"ts is {_shown(ts)}, not epoch milliseconds")
    seq = record.get("seq")
    if seq is not None and type(seq) is not int:
        raise ContractError("bad_seq", f"seq is {_shown(seq)}, not an integer")
    values: dict[str, float | None] = {}
    present = 0
    for channel in channels:
        value = record.get(channel)
        present += channel in record
        if value is None:
            values[channel] = None
        elif type(value) in (int, float) and math.isfinite(value):
            values[channel] = float(value)
        else:
            raise ContractError("bad_value", f"{channel} is {_shown(value)}, not a number")
    for channel, (low, high) in valid.items():
        known = values.get(channel)
        if known is not None and not low <= known <= high:
            raise ContractError("out_of_range", f"{channel} is {known}, not in [{low}, {high}]")
    unknown = len(record) - present - sum(name in record for name in READING_FIELDS)
    return Reading(machine_id, ts, values, seq, unknown)


def encode_prediction(prediction: Prediction) -> bytes:
    """A prediction as JSON."""
    return orjson.dumps(prediction)


def parse_prediction(raw: bytes) -> Prediction:
    """A prediction from JSON; fields this version does not know are ignored.

    Raises ContractError (not_json, not_an_object, bad_record).
    """
    record = _object(raw)
    try:
        shares = tuple(ChannelShare(s["channel"], s["share"]) for s in record["top_channels"])
        return Prediction(**(_known(Prediction, record) | {"top_channels": shares}))
    except (KeyError, TypeError) as error:
        raise ContractError("bad_record", f"not a prediction: {error}") from error


def encode_alert(alert: Alert) -> bytes:
    """An alert as JSON."""
    return orjson.dumps(alert)


def parse_alert(raw: bytes) -> Alert:
    """An alert from JSON; fields this version does not know are ignored.

    Raises ContractError (not_json, not_an_object, bad_record).
    """
    record = _object(raw)
    try:
        return Alert(**_known(Alert, record))
    except TypeError as error:
        raise ContractError("bad_record", f"not an alert: {error}") from error


def alert_id(machine_id: str, rule: str, subject: str, raised_at: int) -> str:
    """The id of an alert: the same condition found again gets the same id.

    `subject` is what the rule is about, such as the model (docs/contracts.md tells of each), and
    `raised_at` the ts of the alert as it was raised. The `cleared` record carries the same id.
    """
    # Plain text: the jobs compute the same in SQL.
    identity = f"{machine_id}/{rule}/{subject}/{raised_at}"
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def registration(
    machine_id: str,
    machine_type: str,
    *,
    valid_from: int,
    line: str | None = None,
    area: str | None = None,
    installed: str | None = None,
) -> dict[str, Any]:
    """A record of topic `machines`: the machine is known from `valid_from` on."""
    return {
        "machine_id": machine_id,
        "machine_type": machine_type,
        "line": line,
        "area": area,
        "installed": installed,
        "valid_from": valid_from,
    }


def _object(raw: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ContractError("not_json", str(error)) from error
    if not isinstance(record, dict):
        raise ContractError("not_an_object", f"the record is {_shown(record)}")
    return record


def _known(shape: type[Prediction | Alert], record: dict[str, Any]) -> dict[str, Any]:
    return {field.name: record[field.name] for field in fields(shape) if field.name in record}


def _shown(value: object) -> str:
    text = "missing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004  (fits a header)
