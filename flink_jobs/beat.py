"""What the reserved machine `_heartbeat` measures: a wave that is normal in every window."""

from __future__ import annotations

import math

from flink_jobs import contracts

CHANNEL = "beat"

# As long as a window: whatever ten seconds are cut from it, they are like all others.
_WAVE_MS = 10_000


def beat(ts: int) -> float:
    """The value of the channel at a time (epoch ms), from -1 to 1."""
    return math.sin(2 * math.pi * (ts % _WAVE_MS) / _WAVE_MS)


def reading(ts: int) -> contracts.Reading:
    """The reading of that time."""
    return contracts.Reading(contracts.HEARTBEAT, ts, {CHANNEL: beat(ts)})
