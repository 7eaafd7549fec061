import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flink_jobs.cleaning import Rules
from flink_jobs.evaluate import Counts, count, row_verdicts, score_offline, t2q_verdicts
from flink_jobs.model import Detector
from flink_jobs.plant import Channel, MachineType
from flink_jobs.tools import datasets
from flink_jobs.tools.train import (
    Recording,
    TrainingError,
    fingerprint,
    learn,
    main,
    recordings_of,
    train,
)

ROOT = Path(__file__).parents[2]
PLANT = ROOT / "inventories/demo/group_vars/all/plant.yml"
SKAB = Path(os.environ.get("DATA", ROOT.parent / "shared/data")) / "skab/data"

TYPE = MachineType(
    name="pump",
    channels=tuple(Channel(name, "", 0, 1) for name in ("flow", "heat")),
    window_s=30,
    slide_s=10,
)

AS_THEY_ARE = [Rules()] * 2


def recording(seed, rows=1200, wander=0.0):
    """A steady flow, and a heat that wanders by `wander` a reading beside its noise."""
    random = np.random.default_rng(seed)
    heat = 70 + random.normal(0, 0.1, rows) + np.cumsum(random.normal(0, wander, rows))
    values = np.column_stack([random.normal(32, 0.5, rows), heat])
    return Recording(f"pump-{seed}", np.arange(rows, dtype=np.int64) * 1000, values)


def fleet_of(machines, **kwargs):
    return [recording(seed, **kwargs) for seed in range(machines)]


def alert_share(detector, one):
    _, scores = score_offline(detector, AS_THEY_ARE, one.ts, one.values)
    return (scores[np.isfinite(scores)] > detector.threshold).mean()


def test_same_data_and_seed_give_the_same_bytes():
    machines = fleet_of(3)
    assert train(machines, TYPE, seed=1) == train(machines, TYPE, seed=1)
    assert train(machines, TYPE, seed=1) != train(machines, TYPE, seed=2)


def test_the_fleet_teaches_which_channel_wanders():
    fleet = learn(fleet_of(6, wander=0.02), TYPE)
    assert fleet.mean_stray[1] > 3 * fleet.mean_stray[0]
    assert fleet.scale[0] == pytest.approx(0.5, rel=0.1)


def test_what_the_plant_model_says_about_cleaning_holds_for_training():
    machines = fleet_of(4)
    for one in machines:
        one.values[::70, 0] += 20
    flow, heat = TYPE.channels
    cleaned = replace(TYPE, channels=(replace(flow, outliers=5), heat))
    calm = learn(fleet_of(4), TYPE).std_stray[0]
    assert learn(machines, TYPE).std_stray[0] > 3 * calm
    assert learn(machines, cleaned).std_stray[0] == pytest.approx(calm, rel=0.2)


def test_one_machine_teaches_nothing_about_others():
    assert learn(fleet_of(1), TYPE).weight.tolist() == [0, 0]
    assert 0 < learn(fleet_of(3), TYPE).weight[0] < learn(fleet_of(30), TYPE).weight[0] < 1


def test_threshold_lets_about_one_window_in_a_thousand_of_a_steady_machine_pass():
    detector = Detector(train(fleet_of(6), TYPE, seed=0))
    assert 3 < detector.threshold < 6
    shares = [alert_share(detector, recording(100 + seed, rows=5000)) for seed in range(10)]
    assert np.mean(shares) < 0.005


def test_a_machine_never_seen_is_watched_without_retraining():
    detector = Detector(train(fleet_of(6, wander=0.01), TYPE, seed=0))
    healthy = recording(50, wander=0.01)
    values = healthy.values * [10, 1]  # another size of pump
    assert alert_share(detector, Recording("new", healthy.ts, values)) < 0.02
    values[800:, 0] -= 10
    ends, scores = score_offline(detector, AS_THEY_ARE, healthy.ts, values)
    faulty = ends > healthy.ts[800] + 30_000
    assert (scores[faulty] > detector.threshold).all()


def test_a_short_recording_is_halved():
    fleet = learn(fleet_of(4, rows=400), TYPE)
    assert np.isfinite(fleet.mean_stray).all()
    with pytest.raises(TrainingError, match="200 normal readings"):
        learn(fleet_of(4, rows=199), TYPE)


def test_a_channel_never_recorded_is_not_judged():
    machines = [Recording(r.machine_id, r.ts, r.values * [1, np.nan]) for r in fleet_of(4)]
    detector = Detector(train(machines, TYPE, seed=0))
    assert np.isfinite(detector.threshold)
    assert alert_share(detector, recording(9)) < 0.02


def test_still_machines_cannot_train():
    still = [Recording("m", r.ts, np.zeros_like(r.values)) for r in fleet_of(2)]
    with pytest.raises(TrainingError, match="no channel of the recordings ever changes"):
        train(still, TYPE, seed=0)


def test_fingerprint_knows_the_data_but_not_its_order():
    machines = fleet_of(3)
    assert fingerprint(machines) == fingerprint(machines[::-1])
    assert fingerprint(machines) != fingerprint(machines[:2])


def series(truth=None, channels=("heat", "flow"), machine_type="pump"):
    values = np.arange(2000.0).reshape(1000, 2)
    ts = np.arange(1000, dtype=np.int64)
    return datasets.Series("m", machine_type, channels, ts, values, truth, Path("m.csv"))


def test_only_the_first_readings_of_a_machine_with_faults_are_normal():
    truth = np.zeros(1000, dtype=bool)
    assert len(recordings_of([series(truth.copy())], TYPE)[0].ts) == 1000
    truth[900] = True
    assert len(recordings_of([series(truth)], TYPE)[0].ts) == 400


def test_a_recording_that_holds_readings_twice_is_the_same_recording():
    once = series()
    twice = replace(once, ts=np.repeat(once.ts, 2), values=np.repeat(once.values, 2, axis=0))
    assert fingerprint(recordings_of([twice], TYPE)) == fingerprint(recordings_of([once], TYPE))


def test_channels_are_found_by_name_and_other_machine_types_left_out():
    found = recordings_of(
        [series(), series(channels=("heat", "odd")), series(machine_type="fan")], TYPE
    )
    assert len(found) == 2
    assert found[0].values[0].tolist() == [1, 0]
    assert np.isnan(found[1].values[:, 0]).all()


def test_command_writes_a_model_and_names_what_is_missing(tmp_path, capsys):
    data, out = tmp_path / "normal.csv", tmp_path / "sub/pump.onnx"
    random = np.random.default_rng(0)
    rows = [f"pump-{m},{t * 1000},{random.normal(5, 1):.4f}" for t in range(600) for m in (1, 2)]
    data.write_text("machine_id,ts,pressure\n" + "\n".join(rows), encoding="utf-8")
    command = ["--plant", str(PLANT), "--data", str(data), "--out", str(out)]

    assert main(["--type", "pump", *command]) == 0
    assert Detector.load(out).metadata.machine_type == "pump"
    assert "2 machines" in capsys.readouterr().out
    assert main(["--type", "fan", *command]) == 1
    assert "fan" in capsys.readouterr().err


def test_a_machines_type_is_the_declared_one_whatever_its_name(tmp_path):
    plant, data = tmp_path / "plant.yml", tmp_path / "normal.csv"
    plant.write_text(
        """plant:
  name: fans
  machine_types:
    fan: {window_s: 30, slide_s: 10, channels: {speed: {unit: 1/s, valid: [0, 100]}}}
  machines:
    - {machine_id: k7-exhaust, machine_type: fan}
"""
    )
    random = np.random.default_rng(0)
    rows = [f"k7-exhaust,{t * 1000},{random.normal(5, 1):.4f}" for t in range(600)]
    data.write_text("machine_id,ts,speed\n" + "\n".join(rows), encoding="utf-8")
    out = tmp_path / "fan.onnx"
    command = ["--type", "fan", "--plant", str(plant), "--data", str(data), "--out", str(out)]
    assert main(command) == 0
    assert Detector.load(out).channels == ("speed",)


@pytest.mark.skipif(not SKAB.is_dir(), reason=f"no SKAB data in {SKAB}; set DATA to its folder")
def test_pumps_of_a_real_test_bench_are_judged_better_than_by_t2q():
    machines = [one for one in datasets.load(SKAB) if one.truth is not None]
    pump = MachineType(
        "pump", tuple(Channel(name, "", 0, 1) for name in machines[0].channels), 30, 10
    )
    first = pump.commissioning_readings
    ours, baseline = Counts(), Counts()
    # Each half is judged by the model of the other.
    for judged, known in ((machines[::2], machines[1::2]), (machines[1::2], machines[::2])):
        detector = Detector(train(recordings_of(known, pump), pump, seed=0))
        for one in judged:
            assert one.truth is not None
            ends, scores = score_offline(
                detector, [Rules()] * len(pump.channels), one.ts, one.values
            )
            alerts = np.nan_to_num(scores, nan=0.0) > detector.threshold
            ours += count(row_verdicts(one.ts[first:], ends, alerts), one.truth[first:])
            baseline += count(t2q_verdicts(one.values, first)[first:], one.truth[first:])
    assert ours.f1 > max(0.76, baseline.f1)
    assert ours.far < min(25, baseline.far)
