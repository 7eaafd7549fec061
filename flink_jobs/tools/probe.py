"""Send one reading through the whole plant and wait for its prediction.

    python -m flink_jobs.tools.probe [--type TYPE] [--within 120]

The reading belongs to the reserved machine `_probe`; it has no reference, so its windows come back
unscored and never alert. It stands right behind the newest reading, and event time goes on from
there at the pace of the wall clock until its first window closes: in a plant at work that is where
event time goes anyway, and in one at rest it leaves room for data that is replayed later.
"""

from __future__ import annotations

import sys
import time

from flink_jobs import contracts
from flink_jobs.plant import MachineType, load_plant
from flink_jobs.tools.cli import parser, positive, run
from flink_jobs.tools.kafka import Config, Publisher, Tail, ToolError, partition_counts, read_config
from flink_jobs.tools.stream import ROOM_MS, clock_reading, event_time

PROBE = "_probe"

_POLL_S = 0.5


def probe(config: Config, kind: MachineType, within_s: float) -> float:
    """Seconds from sending the reading to its first prediction.

    Raises ToolError where none came within `within_s`.
    """
    topic = contracts.telemetry_topic(kind.name)
    partitions = partition_counts(config, [topic])[topic]
    newest = event_time(config, kind)
    ts = 1 + (_now_ms() - ROOM_MS if newest is None else newest)
    due = ts + int((kind.slide_s + kind.max_disorder_s + 1) * 1000)
    begin = time.monotonic()
    with Tail(config, [contracts.PREDICTIONS]) as tail, Publisher(config) as publisher:
        reading = contracts.Reading(PROBE, ts, {kind.channels[0].name: None})
        publisher.send(topic, PROBE.encode(), contracts.encode_reading(reading))
        while time.monotonic() - begin < within_s:
            elapsed_ms = int((time.monotonic() - begin) * 1000)
            clock = clock_reading(min(due, ts + elapsed_ms))
            for partition in range(partitions):
                publisher.send(topic, contracts.CLOCK.encode(), clock, partition)
            publisher.poll()
            for message in tail.read(_POLL_S):
                value = message.value()
                if value is None:
                    continue
                prediction = contracts.parse_prediction(value)
                if (
                    prediction.machine_id == PROBE
                    and prediction.window_start <= ts < prediction.window_end
                ):
                    return time.monotonic() - begin
    raise ToolError(
        f"no prediction for a reading of {PROBE} on {topic} within {within_s:.0f} s; "
        f"is the job plantline-anomaly-{kind.name} running?"
    )


def main() -> int:
    arguments_of = parser("probe", __doc__)
    arguments_of.add_argument("--type", help="machine type (the plant model's first)")
    arguments_of.add_argument("--within", type=positive, default=120.0, help="seconds (120)")
    arguments = arguments_of.parse_args()

    def command() -> int:
        kinds = load_plant(arguments.plant).machine_types
        name = arguments.type or next(iter(kinds))
        if name not in kinds:
            raise ToolError(f"{arguments.plant} has no machine type {name!r}; use {sorted(kinds)}")
        kind = kinds[name]
        took = probe(read_config(arguments.config), kind, arguments.within)
        print(f"a reading of {kind.name} came back as a prediction after {took:.1f} s")
        return 0

    return run(command)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
