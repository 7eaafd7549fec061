r"""Make the anomaly model of a machine type from recorded normal data.

    .venv-train/bin/python -m flink_jobs.tools.train --type pump --plant plant.yml \
        --data DIR_OR_FILE… --out FILE

Normal are all readings of a machine that no label calls anything else; of another machine only the
first ones, those that commissioning takes: what is labelled is for judging models, not for making
them.
Learnt is what one machine's reference cannot know: how far windows of this machine type stray from
the reference later on, and how much a channel scatters at least (docs/model.md). The same data and
seed give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from flink_jobs import scoring
from flink_jobs.cleaning import Rules
from flink_jobs.commissioning import FIELDS, REFERENCE_LAYOUT
from flink_jobs.features import STATISTICS, Features, feature_names
from flink_jobs.model import METADATA_PROPERTY, Detector, Metadata, version
from flink_jobs.plant import MachineType, PlantError, load_plant
from flink_jobs.tools import datasets
from flink_jobs.windows import cut, distinct

KIND = "anomaly"

_OPSET = 17
_IR_VERSION = 9  # what onnxruntime 1.19, the jobs' runtime, surely reads

# The plant's experience counts a third of the machine's own reference.
_FLEET_WEIGHT = 1 / 4
# A channel's scale is at least this part of what is usual in the fleet: a quantised channel may
# happen to stand still while a machine is commissioned.
_FLEET_SCALE = 0.25
# Fewer readings than this part of a full commissioning teach nothing.
_MIN_PART = 0.5

# The control limit: one window in a thousand of machines that only ever scatter about their mean.
_FALSE_ALERTS = 1e-3
_NULL_MACHINES = 200
_NULL_WINDOWS = 200


class TrainingError(ValueError):
    """The data cannot train a model for this machine type."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Normal readings of one machine: ts int64 (n,) epoch ms sorted, values float64 (n, C)."""

    machine_id: str
    ts: NDArray[np.int64]
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fleet:
    """What the machines have in common, each (C,).

    mean_stray and std_stray: how far a window's mean and standard deviation stray from the
    reference during later normal operation, in scales of the channel (root mean square of each
    machine, geometric mean over the machines). scale: the usual scale, in the channel's unit.
    weight: how much of the expected stray is taken from the fleet. NaN and weight 0 for a channel
    that was never recorded.
    """

    mean_stray: NDArray[np.float64]
    std_stray: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]


def train(recordings: Sequence[Recording], machine_type: MachineType, seed: int) -> bytes:
    """The model file. Raises TrainingError if no recording is long enough."""
    fleet = learn(recordings, machine_type)
    interval_ms = float(np.median(np.concatenate([np.diff(r.ts) for r in recordings])))
    draft = build(fleet, machine_type, recordings, seed, threshold=0.0)
    limit = control_limit(Detector(draft), fleet, machine_type, max(interval_ms, 1.0), seed)
    return build(fleet, machine_type, recordings, seed, threshold=limit)


def learn(recordings: Sequence[Recording], machine_type: MachineType) -> Fleet:
    """Commission each machine on a part of its readings and watch it during another part."""
    strays, scales = [], []
    for recording in recordings:
        seen = [_watch(*parts, machine_type) for parts in _splits(recording, machine_type)]
        if seen:
            strays.append(_mean_of_known(np.array([stray for stray, _ in seen])))
            scales.append(_mean_of_known(np.array([scale for _, scale in seen])))
    if not strays:
        needed = round(_MIN_PART * machine_type.commissioning_readings)
        raise TrainingError(f"no machine has {needed} normal readings of {machine_type.name}")
    machines = np.isfinite(scales).sum(axis=0)
    # Geometric mean: one odd machine must not speak for all.
    tiny = np.finfo(np.float64).tiny
    stray = np.sqrt(np.exp(_mean_of_known(np.log(np.maximum(strays, tiny)))))
    mean_stray, std_stray = np.split(stray, 2)
    # From one machine alone nothing is known of how machines differ.
    weight = _FLEET_WEIGHT * (1 - 1 / np.maximum(machines, 1))
    weight[~np.isfinite(mean_stray) | ~np.isfinite(std_stray)] = 0.0
    return Fleet(mean_stray, std_stray, _median(scales), weight)


def control_limit(
    detector: Detector, fleet: Fleet, machine_type: MachineType, interval_ms: float, seed: int
) -> float:
    """The score that one window in a thousand of simulated stationary machines exceeds.

    They scatter independently about a constant, with the fleet's scales and rate of readings, and
    go through the same cleaning, features, commissioning and model. So the limit allows for the
    number of channels and for all that a short reference does not know.
    """
    random = np.random.default_rng(seed)
    readings = machine_type.commissioning_readings
    later = max(1, round(_NULL_WINDOWS * machine_type.slide_s * 1000 / interval_ms))
    ts = np.round(np.arange(readings + later) * interval_ms).astype(np.int64)
    scale = np.where(fleet.scale > 0, fleet.scale, np.nan)
    scores = []
    for _ in range(_NULL_MACHINES):
        values = random.standard_normal((len(ts), len(scale))) * scale
        machine = Recording("", ts, values)
        before, after = _rows(machine, 0, readings), _rows(machine, readings, len(ts))
        normal, windows = _commissioned(before, after, machine_type)
        scores.append(detector.score(windows, np.tile(normal, (len(windows), 1))).score)
    found = np.concatenate(scores)
    if not np.isfinite(found).any():
        raise TrainingError("no channel of the recordings ever changes")
    return float(np.nanquantile(found, 1 - _FALSE_ALERTS))


def build(
    fleet: Fleet,
    machine_type: MachineType,
    recordings: Sequence[Recording],
    seed: int,
    threshold: float,
) -> bytes:
    """The ONNX model with its metadata."""
    channels = machine_type.channel_names
    metadata = Metadata(
        name=f"{machine_type.name}-{KIND}",
        machine_type=machine_type.name,
        kind=KIND,
        channels=channels,
        features=feature_names(channels),
        reference_layout=REFERENCE_LAYOUT,
        threshold=threshold,
        window_s=machine_type.window_s,
        slide_s=machine_type.slide_s,
        commissioning_readings=machine_type.commissioning_readings,
        data_fingerprint=fingerprint(recordings),
        seed=seed,
    )
    model = helper.make_model(
        _graph(fleet, len(channels)),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="plantline",
    )
    helper.set_model_props(model, {METADATA_PROPERTY: metadata.to_json()})
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def fingerprint(recordings: Iterable[Recording]) -> str:
    """SHA-256 of all readings, whatever the order of the machines."""
    digests = []
    for recording in recordings:
        digest = hashlib.sha256(recording.machine_id.encode())
        digest.update(recording.ts.astype("<i8").tobytes())
        digest.update(recording.values.astype("<f8").tobytes())
        digests.append(digest.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def recordings_of(series: Iterable[datasets.Series], machine_type: MachineType) -> list[Recording]:
    """The normal readings of this machine type; a channel that a source lacks is all NaN.

    Duplicates are left out, as in the stream.
    """
    recordings = []
    for one in series:
        if one.machine_type != machine_type.name:
            continue
        labelled = one.truth is not None and bool(one.truth.any())
        rows = machine_type.commissioning_readings if labelled else len(one.ts)
        values = np.full((len(one.ts), len(machine_type.channels)), np.nan)
        for place, name in enumerate(machine_type.channel_names):
            if name in one.channels:
                values[:, place] = one.values[:, one.channels.index(name)]
        ts, values = distinct(one.ts, values)
        recordings.append(Recording(one.machine_id, ts[:rows], values[:rows]))
    return recordings


def _splits(
    recording: Recording, machine_type: MachineType
) -> Iterator[tuple[Recording, Recording]]:
    """Pairs (commissioned on, watched during) of parts of a recording.

    The watched part follows the reference and is up to twice as long. A recording with no room for
    that is halved, and each half serves as the reference of the other (the later one with time
    running backwards, which stationary scatter and drift do not notice).
    """
    total, full = len(recording.ts), machine_type.commissioning_readings
    if total >= full + full // 2:
        for first in range(0, total - full - full // 2 + 1, full):
            middle, last = first + full, first + 3 * full
            yield _rows(recording, first, middle), _rows(recording, middle, last)
    elif total >= _MIN_PART * full:
        half = total // 2
        yield _rows(recording, 0, half), _rows(recording, half, total)
        back = Recording(recording.machine_id, -recording.ts[::-1], recording.values[::-1])
        yield _rows(back, 0, total - half), _rows(back, total - half, total)


def _watch(
    before: Recording, after: Recording, machine_type: MachineType
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean squares (2 C,) of the strays in scales, and the scales (C,)."""
    normal, windows = _commissioned(before, after, machine_type)
    location, scale, _, std_location, _, _ = np.split(normal, len(FIELDS))
    mean, std, _ = np.split(windows, len(STATISTICS), axis=1)
    scale = np.where(scale > 0, scale, np.nan)
    strays = np.concatenate([(mean - location) / scale, (std - std_location) / scale], axis=1)
    return _mean_of_known(strays**2), scale


def _mean_of_known(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean (m,) over the rows (k, m) that are not NaN; NaN where there is none."""
    known = np.isfinite(rows)
    count = known.sum(axis=0)
    total: NDArray[np.float64] = np.where(known, rows, 0.0).sum(axis=0)
    return total / np.where(count > 0, count, np.nan)


def _commissioned(
    before: Recording, after: Recording, machine_type: MachineType
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The reference (6 C,) from one part, and the features (B, 3 C) of the other's windows.

    By the functions that the job calls, cleaning included.
    """
    channels, lengths = machine_type.channel_names, (machine_type.window_s, machine_type.slide_s)
    rules = [Rules.of(vars(channel)) for channel in machine_type.channels]
    features = Features(feature_names(channels), channels, machine_type.name)
    normal = scoring.clean_reference(before.ts, before.values, rules, *lengths)
    _, windows = cut(after.ts, after.values, *lengths)
    references = np.tile(normal, (len(windows.starts), 1))
    return normal, scoring.cleaned_features(features, rules, windows, references)[0]


def _rows(recording: Recording, first: int, last: int) -> Recording:
    return Recording(recording.machine_id, recording.ts[first:last], recording.values[first:last])


def _median(rows: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Median over the rows that are not NaN; NaN where there is none."""
    table = np.array(rows)
    median = np.full(table.shape[1], np.nan)
    some = np.isfinite(table).any(axis=0)
    median[some] = np.nanmedian(table[:, some], axis=0)
    return median


class _Nodes:
    """Writes down an ONNX graph as expressions; every value is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: str, **attributes: int | list[int]) -> str:
        output = f"{operator.lower()}_{len(self.nodes)}"
        node = helper.make_node(operator, inputs, [output])
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(node)
        return output

    def split(self, value: str, parts: int) -> list[str]:
        """Equal parts along the second axis."""
        outputs = [f"{value}_{part}" for part in range(parts)]
        self.nodes.append(helper.make_node("Split", [value], outputs, axis=1))
        return outputs

    def constant(self, value: NDArray[np.float64] | NDArray[np.int64] | float) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _graph(fleet: Fleet, channels: int) -> onnx.GraphProto:
    """Strays of a window in units of what was to be expected; the score is the largest of them.

    A stray that cannot be judged (channel missing, reference missing) is NaN and counts as none.
    """
    g = _Nodes()
    mean, std, count = g.split("features", len(STATISTICS))
    location, scale, mean_stray, std_location, std_stray, usual = g.split("references", len(FIELDS))

    zero, one, two = g.constant(0.0), g.constant(1.0), g.constant(2.0)
    nothing, last_axis = g.constant(np.nan), g.constant(np.array([1]))
    floor = g.constant(np.nan_to_num(_FLEET_SCALE * fleet.scale))
    own_weight = g.constant(1 - fleet.weight)

    floored = g("Where", g("Greater", scale, floor), scale, floor)
    scale = g("Where", g("Greater", floored, zero), floored, nothing)
    # Means of n independent readings differ by at least 1/n of the variance; windows with fewer
    # readings than usual by more than the reference says.
    least = g("Reciprocal", g("Max", usual, one))
    lack = g("Relu", g("Sub", g("Reciprocal", g("Max", count, one)), least))

    def squared(value: str, centre: str, stray: str, fleet_stray: str, halved: bool) -> str:
        """How far a feature lies from its reference, squared, in expected squared strays."""
        share = g("Div", stray, scale)
        own = g("Max", g("Mul", share, share), g("Div", least, two) if halved else least)
        expected = g("Add", g("Mul", own, own_weight), fleet_stray)
        expected = g("Add", expected, g("Div", lack, two) if halved else lack)
        away = g("Div", g("Sub", value, centre), scale)
        result = g("Div", g("Mul", away, away), expected)
        return g("Where", g("IsNaN", result), zero, result)

    def fleet_part(stray: NDArray[np.float64]) -> str:
        return g.constant(np.nan_to_num(fleet.weight * stray**2))

    of_mean = squared(mean, location, mean_stray, fleet_part(fleet.mean_stray), halved=False)
    of_std = squared(std, std_location, std_stray, fleet_part(fleet.std_stray), halved=True)
    worst = g("Max", of_mean, of_std)

    # A window is scored if at least one channel has both a value and a reference.
    judged = g("Not", g("IsNaN", g("Div", g("Sub", mean, location), scale)))
    any_judged = g("ReduceMax", g("Cast", judged, to=TensorProto.DOUBLE), axes=[1], keepdims=1)
    scored = g("Greater", any_judged, zero)
    top = g("Sqrt", g("ReduceMax", worst, axes=[1], keepdims=1))
    score = g("Squeeze", g("Where", scored, top, nothing), last_axis)

    total = g("ReduceSum", worst, last_axis, keepdims=1)
    shares = g("Div", worst, g("Where", g("Greater", total, zero), total, one))

    g.nodes.append(helper.make_node("Identity", [score], ["score"]))
    g.nodes.append(helper.make_node("Identity", [shares], ["shares"]))

    def tensor(name: str, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape)

    return helper.make_graph(
        g.nodes,
        "anomaly",
        [
            tensor("features", "windows", len(STATISTICS) * channels),
            tensor("references", "windows", len(FIELDS) * channels),
        ],
        [tensor("score", "windows"), tensor("shares", "windows", channels)],
        g.constants,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the model file; 1 and one clear line if that is not possible."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--type", required=True, help="machine type of the plant model")
    parser.add_argument("--plant", type=Path, required=True, help="plant.yml")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files or folders")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        plant = load_plant(given.plant)
        if given.type not in plant.machine_types:
            raise TrainingError(f"{given.plant}: no machine type {given.type!r}")
        machine_type = plant.machine_types[given.type]
        declared = {machine.machine_id: machine.machine_type for machine in plant.machines}
        series = [
            replace(one, machine_type=declared.get(one.machine_id, one.machine_type))
            for path in given.data
            for one in datasets.load(path)
        ]
        recordings = recordings_of(series, machine_type)
        if not recordings:
            raise TrainingError(f"no machine of type {given.type!r} in the data")
        content = train(recordings, machine_type, given.seed)
    except (PlantError, datasets.DatasetError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 1
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_bytes(content)
    print(
        f"{given.out}: version {version(content)}, {len(recordings)} machines,"
        f" {sum(len(r.ts) for r in recordings):,} readings,"
        f" threshold {Detector(content).threshold:.2f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
