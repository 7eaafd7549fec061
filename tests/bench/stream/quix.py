"""The anomaly job in Quix Streams, as its documentation would have it written.

    .venv-bench/bin/python -m tests.bench.stream.quix SETTINGS.json

Tumbling windows that collect their readings and close by partition, since `closing_strategy="key"`
would keep the last window of every machine; a stateful function for references; exactly once.
The framework hands over one window after the other, so each is a call of the model.
"""

# The package is in .venv-bench, and the linters are not.
# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from quixstreams import Application, State
from quixstreams.dataframe.windows.aggregations import Collect
from quixstreams.kafka.configuration import ConnectionConfig
from quixstreams.models.serializers import Deserializer
from quixstreams.models.serializers.exceptions import IgnoreMessage

from flink_jobs import contracts
from flink_jobs.commissioning import reference
from flink_jobs.features import windows_features
from flink_jobs.model import Detector
from tests.bench.stream.loop import TOP_CHANNELS

ONE_WINDOW = np.zeros(1, dtype=np.intp)


class Reading(Deserializer):  # type: ignore[misc]  # the package's types are not installed here
    """The contract's strict decoder; what it refuses is passed over and counted."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__()
        self._channels = [channel["name"] for channel in job["channels"]]
        self._valid = {c["name"]: (c["valid_min"], c["valid_max"]) for c in job["channels"]}
        self._ahead_ms = round(1000 * job["max_clock_ahead_s"])
        self.refused = 0

    def __call__(self, value: bytes, ctx: object) -> dict[str, Any]:
        """{"ts", "values"}; None stands for a missing value."""
        try:
            reading = contracts.parse_reading(value, self._channels, self._valid)
        except contracts.ContractError as error:
            self.refused += 1
            raise IgnoreMessage from error
        if reading.ts > time.time() * 1000 + self._ahead_ms:
            self.refused += 1
            raise IgnoreMessage
        return {"ts": reading.ts, "values": list(reading.values.values())}


class Score:
    """A closed window as a prediction, by the contract of topic `predictions`."""

    def __init__(self, job: dict[str, Any], detector: Detector) -> None:
        self._job = job
        self._detector = detector

    def __call__(
        self, window: dict[str, Any], key: bytes, _timestamp: int, _headers: object, state: State
    ) -> dict[str, Any]:
        readings = sorted(window["readings"], key=lambda reading: reading["ts"])
        normal = state.get("reference")
        if normal is None:
            normal = self._commission(readings, state)
        prediction = {
            "machine_id": key.decode(),
            "machine_type": self._job["machine_type"],
            "window_start": window["start"],
            "window_end": window["end"],
            "kind": "anomaly",
            "model": self._detector.name,
            "model_version": self._detector.version,
            "revision": 0,
            "score": None,
            "threshold": None,
            "is_alert": False,
            "rul": None,
            "rul_unit": None,
            "horizon_s": None,
            "readings": len(readings),
            "top_channels": [],
        }
        if normal is None:
            return prediction
        values = np.array([reading["values"] for reading in readings], dtype=np.float64)
        features = windows_features(values, ONE_WINDOW)
        scores = self._detector.score(features, np.array([normal]))
        score, shares = float(scores.score[0]), scores.shares[0]
        if not np.isfinite(score):
            return prediction
        top = np.argsort(-shares, kind="stable")[:TOP_CHANNELS]
        return prediction | {
            "score": score,
            "threshold": self._detector.threshold,
            "is_alert": score > self._detector.threshold,
            "top_channels": [
                {"channel": self._detector.channels[place], "share": float(shares[place])}
                for place in top
            ],
        }

    def _commission(self, readings: list[dict[str, Any]], state: State) -> list[float] | None:
        first = [*state.get("first", []), *readings]
        wanted = self._job["commissioning_readings"]
        if len(first) < wanted:
            state.set("first", first)
            return None
        ts = np.array([reading["ts"] for reading in first[:wanted]], dtype=np.int64)
        values = np.array([reading["values"] for reading in first[:wanted]], dtype=np.float64)
        window_s = float(self._job["window_s"])
        normal: list[float] = reference(ts, values, window_s, window_s).tolist()
        state.set("reference", normal)
        state.delete("first")
        return normal


def main() -> int:
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    job = settings["job"]
    app = Application(
        broker_address=ConnectionConfig.from_librdkafka_dict(settings["kafka"], ignore_extras=True),
        consumer_group=settings["group"],
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=settings["commit_s"],
        state_dir=settings["state_dir"],
        # As the loop has it: by default it pauses for a second when its queue is full.
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
        producer_extra_config={"compression.type": "lz4", "linger.ms": 5},
        loglevel="WARNING",
    )
    telemetry = app.topic(
        job["telemetry_topic"],
        value_deserializer=Reading(job),
        timestamp_extractor=lambda value, *_: value["ts"],
    )
    output = app.topic(settings["output"], value_serializer="json")
    windows = (
        app.dataframe(telemetry)
        .tumbling_window(
            timedelta(seconds=job["window_s"]),
            grace_ms=timedelta(seconds=job["max_disorder_s"]),
            name="windows",
        )
        .agg(readings=Collect())
        .final(closing_strategy="partition")
    )
    clock = contracts.CLOCK.encode()
    machines = windows.filter(lambda _value, key, *_: key != clock, metadata=True)
    scored = machines.apply(Score(job, Detector.load(Path(settings["model_file"]))),
                            stateful=True, metadata=True)  # fmt: skip
    scored.to_topic(output)
    app.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
