"""Training and the running job give the same features: real recordings go both ways.

Training has a recording whole and in order. The job has JSON records in whatever order they come,
some of them twice, then packed windows in batches of many machines.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flink_jobs import commissioning, contracts, scoring
from flink_jobs.cleaning import Rules
from flink_jobs.evaluate import score_offline
from flink_jobs.features import PER_CHANNEL, Features, feature_names
from flink_jobs.model import Detector, Scores
from flink_jobs.plant import Channel, MachineType
from flink_jobs.tools import datasets
from flink_jobs.tools.train import recordings_of, train
from flink_jobs.windows import cut, pack, unpack

DATA = Path(os.environ.get("DATA", Path(__file__).parents[3] / "shared/data"))
RECORDINGS = {
    "pump": "skab/data/valve1",
    "machine": "pdm/shared_m01-10_PdM_telemetry.csv",
    "engine": "cmapss/train_FD001.txt",
    "bearing": "femto/derived",
    "bearing_rig": "ims",
    "ambient": "nab/data/realKnownCause",
}
MACHINES, ROWS, BATCH = 3, 1500, 64
WINDOW, SLIDE, COMMISSIONING = 30, 10, 60  # usual intervals between readings


@pytest.fixture(params=RECORDINGS)
def machines(request):
    """Some real machines, a few of their values lost on the way, and their machine type."""
    place = DATA / RECORDINGS[request.param]
    if not place.exists():
        pytest.skip(f"no {place}; set DATA to the folder of the data sets")
    found = [one for one in datasets.load(place) if one.machine_type == request.param]
    channels = found[0].channels
    random = np.random.default_rng(0)
    series = []
    for one in [one for one in found if one.channels == channels][:MACHINES]:
        values = one.values[:ROWS].copy()
        values[random.random(values.shape) < 0.03] = np.nan
        series.append(replace(one, ts=one.ts[:ROWS], values=values, truth=None, rul=None))
    interval_s = max(1, round(float(np.median(np.diff(series[0].ts))) / 1000))
    kind = MachineType(
        request.param,
        tuple(Channel(name, "", 0, 1) for name in channels),
        window_s=WINDOW * interval_s,
        slide_s=SLIDE * interval_s,
        commissioning_readings=COMMISSIONING,
    )
    return series, kind


def every_feature(kind):
    first, last = kind.channel_names[0], kind.channel_names[-1]
    rate = SLIDE / kind.slide_s
    return (
        *feature_names(kind.channel_names, list(PER_CHANNEL)),
        f"{first}.correlation[{last}]",
        f"{first}.power[{0.1 * rate}:{0.4 * rate}]",
        f"{last}.mode[0:100]",
        f"type[{kind.name}]",
    )


def every_rule(kind):
    rule = Rules(
        stuck_after_s=kind.slide_s, outliers=4, gap="interpolate", gap_max_s=kind.slide_s / 2
    )
    return [rule if place % 2 else replace(rule, gap="hold") for place in range(len(kind.channels))]


def as_trained(series, kind, features, rules):
    """{(machine, window end): features} of all windows from a recording that is at hand whole."""
    found = {}
    for one in recordings_of(series, kind):
        first = slice(0, COMMISSIONING)
        lengths = (kind.window_s, kind.slide_s)
        normal = scoring.clean_reference(one.ts[first], one.values[first], rules, *lengths)
        ends, windows = cut(one.ts, one.values, *lengths, partial=True)
        references = np.tile(normal, (len(ends), 1))
        table, _ = scoring.cleaned_features(features, rules, windows, references)
        found |= {(one.machine_id, end): row for end, row in zip(ends.tolist(), table, strict=True)}
    return found


def as_streamed(series, kind, random):
    """{(machine, window end): packed window}, as SQL makes them of records on their way."""
    records = [record for one in series for record in one.encoded()]
    records += [records[k] for k in random.integers(0, len(records), len(records) // 50)]
    windows = {}
    window_ms, slide_ms = kind.window_s * 1000, kind.slide_s * 1000
    for k in random.permutation(len(records)):
        reading = contracts.parse_reading(records[k], kind.channel_names)
        newest = reading.ts // slide_ms * slide_ms + slide_ms
        row = [np.nan if value is None else value for value in reading.values.values()]
        for end in range(newest, newest + window_ms, slide_ms):
            window = windows.setdefault((reading.machine_id, end), ([], []))
            window[0].append(reading.ts)
            window[1].append(row)
    return {key: pack(np.array(ts), np.array(rows)) for key, (ts, rows) in windows.items()}


class Recorder:
    """Stands where the job has its model, and keeps what that would see."""

    threshold = 1.0

    def __init__(self, features, kind):
        self.features = features
        self.channels = kind.channel_names
        self.seen = []

    def score(self, features, references):
        self.seen += list(features)
        return Scores(np.zeros(len(features)), np.zeros((len(features), len(self.channels))))


def references_of(windows, kind, rules):
    """{machine: packed reference} from the windows that hold every reading once."""
    parts = {}
    for (machine, end), packed in windows.items():
        if end % (kind.window_s * 1000) == 0:
            parts.setdefault(machine, []).append(packed)
    first = [unpack(of_one, len(rules))[0] for of_one in parts.values()]
    found = scoring.machine_references(
        [pack(one.ts, one.values) for one in first],
        *(rules, COMMISSIONING, kind.window_s, kind.slide_s),
    )
    return {machine: commissioning.pack(one) for machine, one in zip(parts, found, strict=True)}


def in_batches(windows, random):
    keys = list(windows)
    mixed = [keys[k] for k in random.permutation(len(keys))]
    for first in range(0, len(mixed), BATCH):
        yield mixed[first : first + BATCH]


def test_training_and_the_job_see_the_same_features(machines):
    series, kind = machines
    names, rules = every_feature(kind), every_rule(kind)
    features = Features(names, kind.channel_names, kind.name)
    trained = as_trained(series, kind, features, rules)

    random = np.random.default_rng(1)
    windows = as_streamed(series, kind, random)
    assert windows.keys() == trained.keys()
    normal = references_of(windows, kind, rules)
    recorder = Recorder(features, kind)
    order = []
    for keys in in_batches(windows, random):
        order += keys
        batch = [windows[key] for key in keys]
        scoring.score_windows(recorder, rules, [normal[key[0]] for key in keys], batch, top=1)

    streamed = np.array(recorder.seen)
    assert streamed[:, [name.endswith(".filled") for name in names]].any()
    expected = np.array([trained[key] for key in order])
    assert np.isfinite(expected).any(axis=0).mean() > 0.9  # few features are never known here
    for place, name in enumerate(names):
        np.testing.assert_allclose(streamed[:, place], expected[:, place], rtol=1e-6, err_msg=name)


def test_a_model_scores_in_the_job_as_it_was_judged(machines):
    series, kind = machines
    rules = every_rule(kind)
    detector = Detector(train(recordings_of(series, kind), kind, seed=0))
    judged = {}
    for one in series:
        ends, scores = score_offline(detector, rules, one.ts, one.values)
        judged |= {
            (one.machine_id, end): score for end, score in zip(ends.tolist(), scores, strict=True)
        }

    random = np.random.default_rng(2)
    windows = as_streamed(series, kind, random)
    normal = references_of(windows, kind, rules)
    compared = 0
    for keys in in_batches(windows, random):
        scored = [key for key in keys if np.isfinite(judged[key])]
        found = scoring.score_windows(
            detector, rules, [normal[key[0]] for key in scored], [windows[k] for k in scored], 1
        )
        expected = [judged[key] for key in scored]
        np.testing.assert_allclose(found.columns["score"], expected, rtol=1e-6)
        compared += len(scored)
    assert compared > 50
