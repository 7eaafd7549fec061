"""The heartbeat: a reading like any other, whose windows are always normal."""

from pathlib import Path

import numpy as np
import pytest

from flink_jobs import beat, contracts
from flink_jobs.commissioning import reference
from flink_jobs.features import window_features
from flink_jobs.model import Detector
from flink_jobs.plant import HEARTBEAT

FILE = Path(beat.__file__).with_name("heartbeat.onnx")
START = 1_700_000_000_000


@pytest.fixture(scope="module")
def detector():
    return Detector.load(FILE)


def readings(ts):
    values = np.array([[beat.beat(int(time))] for time in ts])
    return np.asarray(ts, dtype=np.int64), values


def test_its_readings_are_those_of_its_machine_type():
    raw = contracts.encode_reading(beat.reading(START))
    found = contracts.parse_reading(raw, HEARTBEAT.channel_names)
    assert found == beat.reading(START)
    assert found.machine_id == contracts.HEARTBEAT == HEARTBEAT.name
    assert found.unknown_fields == 0
    [channel] = HEARTBEAT.channels
    assert channel.valid_min < -1 <= found.values[channel.name] <= 1 < channel.valid_max


def test_its_model_is_one_for_its_machine_type(detector):
    metadata = detector.metadata
    assert metadata.machine_type == HEARTBEAT.name
    assert metadata.channels == HEARTBEAT.channel_names
    assert (metadata.window_s, metadata.slide_s) == (HEARTBEAT.window_s, HEARTBEAT.slide_s)
    assert metadata.commissioning_readings == HEARTBEAT.commissioning_readings


@pytest.mark.parametrize("seed", range(20))
def test_no_window_is_unlike_the_others_however_many_readings_are_missing(detector, seed):
    random = np.random.default_rng(seed)
    first = START + int(random.integers(0, 10_000))
    jitter = np.sort(random.integers(0, 200, HEARTBEAT.commissioning_readings))
    normal = reference(
        *readings(first + np.arange(HEARTBEAT.commissioning_readings) * 1000 + jitter),
        HEARTBEAT.window_s,
        HEARTBEAT.slide_s,
    )
    for _ in range(20):
        came = np.sort(random.choice(HEARTBEAT.window_s, random.integers(1, 11), replace=False))
        begin = first + int(random.integers(0, 10**9))
        window = window_features(*readings(begin + came * 1000))
        [score] = detector.score(window[None], normal[None]).score
        assert score < detector.threshold
