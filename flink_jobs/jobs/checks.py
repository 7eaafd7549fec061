"""The checks of a machine type as its stream takes them, as text.

flink_java/plantline/Check.java reads it and says what it means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def checks_text(channels: Sequence[Mapping[str, Any]]) -> str:
    """All checks of the channels of a job's configuration; empty where none has any.

    A limit's kind is its severity. Channels without checks are left out: `checked_channels` names
    those whose values belong to the text, in its order.
    """
    return "; ".join(
        f"{channel['name']}: {', '.join(checks)}"
        for channel in channels
        if (checks := _of(channel))
    )


def checked_channels(channels: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the channels that have checks."""
    return [channel["name"] for channel in channels if _of(channel)]


def _of(channel: Mapping[str, Any]) -> list[str]:
    checks = [
        f"{limit['severity']} {_bound(limit['low'])} {_bound(limit['high'])} {limit['hysteresis']}"
        for limit in channel["limits"]
    ]
    if channel["max_rate_per_s"] is not None:
        checks.append(f"rate - {channel['max_rate_per_s']} 0")
    if channel["stuck_after_s"] is not None:
        checks.append(f"stuck {channel['stuck_after_s']}")
    return checks


def _bound(value: float | None) -> str:
    return "-" if value is None else str(value)
