"""Sends the heartbeat: one reading a second of the reserved machine `_heartbeat`.

    python -m flink_jobs.heartbeat --kafka /etc/plantline/heartbeat/kafka.json

It goes the way of every reading, by a topic and a job of its own, and comes back as predictions:
their age says whether the plant is watched (docs/metrics.md). It has a process of its own, so that
nothing that fails beside it stops it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer

from flink_jobs import contracts
from flink_jobs.beat import reading

_EVERY_S = 1.0
# What cannot be delivered by then is late anyway.
_DELIVER_WITHIN_MS = 10_000


class Reports:
    """Tells when deliveries begin to fail, and when they succeed again; not each of them."""

    def __init__(self) -> None:
        self._failing = False

    def __call__(self, error: KafkaError | None, _: Message) -> None:
        if error is not None and not self._failing:
            print(f"readings are not delivered: {error.str()}", file=sys.stderr, flush=True)
        elif error is None and self._failing:
            print("readings are delivered again", file=sys.stderr, flush=True)
        self._failing = error is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kafka", type=Path, required=True, help="JSON object of client settings")
    config = json.loads(parser.parse_args().kafka.read_text("utf-8"))
    producer = Producer(
        {**config, **contracts.PRODUCER_DEFAULTS, "message.timeout.ms": _DELIVER_WITHIN_MS}
    )
    topic = contracts.telemetry_topic(contracts.HEARTBEAT)
    reports = Reports()
    while True:
        due = time.monotonic() + _EVERY_S
        ts = time.time_ns() // 1_000_000
        value = contracts.encode_reading(reading(ts))
        producer.produce(topic, value, contracts.HEARTBEAT.encode(), on_delivery=reports)
        while (remaining := due - time.monotonic()) > 0:
            producer.poll(remaining)


if __name__ == "__main__":
    main()
