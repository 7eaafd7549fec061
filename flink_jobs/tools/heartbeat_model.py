"""Make the heartbeat's model, flink_jobs/heartbeat.onnx, in the training environment.

    .venv-train/bin/python -m flink_jobs.tools.heartbeat_model

It is committed, since every plant has the same heartbeat; the same code gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flink_jobs import beat
from flink_jobs.plant import HEARTBEAT
from flink_jobs.tools.train import Recording, train

FILE = Path(beat.__file__).with_name("heartbeat.onnx")

_SEED = 1
_SECONDS = 600


def model() -> bytes:
    """The anomaly model of machine type `_heartbeat`, from ten minutes of its readings."""
    ts = np.arange(_SECONDS, dtype=np.int64) * 1000
    values = np.array([[beat.beat(int(time))] for time in ts])
    return train([Recording(HEARTBEAT.name, ts, values)], HEARTBEAT, _SEED)


if __name__ == "__main__":
    FILE.write_bytes(model())
