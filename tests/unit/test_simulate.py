"""Simulated machines behave like real ones, tell the truth about faults, and repeat exactly."""

import csv

import numpy as np
import orjson
import pytest

from flink_jobs.contracts import parse_reading
from flink_jobs.plant import Channel, MachineType
from flink_jobs.tools import datasets, simulate
from flink_jobs.tools.simulate import CHANNELS, FAULTS, Fault, Fleet

FLOW = CHANNELS.index("volume_flow")
CURRENT = CHANNELS.index("current")
PRESSURE = CHANNELS.index("pressure")
TEMPERATURE = CHANNELS.index("temperature")
VIBRATION = CHANNELS.index("accelerometer1_rms")

FAN = MachineType(
    "fan",
    (Channel("speed", "1/min", 0.0, 3000.0), Channel("torque", "Nm", -5.0, 45.0)),
    window_s=20,
    slide_s=10,
    commissioning_readings=200,
)
FAN_PLANT = """\
plant:
  name: fans
  machine_types:
    fan:
      window_s: 20
      slide_s: 10
      channels:
        speed: {unit: 1/min, valid: [0, 3000]}
        torque: {unit: Nm, valid: [-5, 45]}
  machines: []
"""


def values(fleet, steps):
    return fleet.run(steps).values


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    def run(seed):
        return [value for *_, value in simulate.items(Fleet(5, seed=seed), "t", 4_000)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_readings_do_not_depend_on_chunks_or_on_other_machines(monkeypatch):
    whole = list(simulate.items(Fleet(3), "t", 3_000))
    monkeypatch.setattr(simulate, "_CHUNK", 100)
    assert list(simulate.items(Fleet(3), "t", 3_000)) == whole
    first = [item for item in whole if item[2] == b"pump-001"]
    assert list(simulate.items(Fleet(1), "t", 1_000)) == first


def test_exactly_as_many_readings_as_wanted_by_time_and_by_contract():
    items = list(simulate.items(Fleet(7, start_ms=10_000), "telemetry.pump", 1_003))
    assert len(items) == 1_003
    times = [ts for ts, *_ in items]
    assert times == sorted(times)
    assert times[0] >= 10_000
    seen = {}
    for ts, topic, key, value in items:
        reading = parse_reading(value, CHANNELS)
        assert (reading.ts, reading.machine_id.encode(), topic) == (ts, key, "telemetry.pump")
        assert reading.unknown_fields == 0
        assert None not in reading.values.values()
        assert reading.seq == seen.get(key, -1) + 1
        seen[key] = reading.seq
    assert {len(items) // 7, len(items) // 7 + 1} == {last + 1 for last in seen.values()}


def test_healthy_pumps_have_no_fault_and_stay_where_they_are():
    fleet = Fleet(20, faults="none")
    run = fleet.run(3_000)
    assert fleet.truth == []
    assert np.all(run.fault == -1)
    early, late = run.values[:400].mean(axis=0), run.values[2_000:].mean(axis=0)
    assert np.all(np.abs(late - early) < 0.15 * np.abs(early) + 0.05)


def test_channels_are_of_the_size_of_the_test_bench():
    mean = values(Fleet(50, faults="none"), 500).mean(axis=(0, 1))
    bench = np.array([0.12, 0.16, 1.7, 0.1, 81.0, 27.0, 230.0, 79.0])
    assert np.all(mean < 10 * bench)
    assert np.all(mean > bench / 10)


def test_values_are_quantised_as_sensors_do():
    pressure = values(Fleet(2), 400)[..., PRESSURE]
    assert np.allclose(pressure / 0.05, np.rint(pressure / 0.05))
    assert len(np.unique(pressure)) < 40


@pytest.mark.parametrize(
    ("kind", "up", "down"),
    [
        ("closing_valve", [PRESSURE, VIBRATION], [FLOW, CURRENT]),
        ("cavitation", [VIBRATION], [FLOW]),
        ("overheating", [TEMPERATURE], []),
        ("wear", [VIBRATION, CURRENT, TEMPERATURE], []),
    ],
)
def test_each_fault_shows_where_it_does_on_a_real_pump(kind, up, down):
    def run(faulty):
        fleet = Fleet(1, faults="none")
        if faulty:
            fault = Fault(
                "pump-001", kind, *(fleet._start_ms + s * 1000 for s in (500, 800, 9999)), 1.0
            )
            fleet._next[0] = fault
        return values(fleet, 2_000)[1_500:, 0]

    faulty, healthy = run(True), run(False)
    change = (faulty.mean(axis=0) - healthy.mean(axis=0)) / healthy.std(axis=0)
    assert all(change[channel] > 0.5 for channel in up), change
    assert all(change[channel] < -0.5 for channel in down), change


def test_the_truth_names_every_labelled_reading_and_commissioning_is_healthy():
    fleet = Fleet(40, seed=5)
    run = fleet.run(4_000)
    assert np.all(run.fault[:500] == -1)
    assert {fault.fault for fault in fleet.truth} == set(FAULTS)
    assert 10 <= len({fault.machine_id for fault in fleet.truth}) <= 35
    labelled = np.full(run.ts.shape, -1)
    for fault in fleet.truth:
        machine = fleet.ids.index(fault.machine_id)
        inside = (run.ts[:, machine] >= fault.begin) & (run.ts[:, machine] < fault.end)
        labelled[inside, machine] = FAULTS.index(fault.fault)
        assert fault.begin < fault.full < fault.end
    assert np.array_equal(labelled, run.fault)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_files_can_be_read_back_as_a_data_set(tmp_path, suffix):
    out, truth = tmp_path / f"run{suffix}", tmp_path / "truth.jsonl"
    arguments = ["--machines", "3", "--readings", "6000", "--seed", "4"]
    assert simulate.main([*arguments, "--out", str(out), "--truth", str(truth)]) == 0
    series = datasets.load(out)
    fleet = Fleet(3, seed=4)
    run = fleet.run(2_000)
    assert [one.machine_id for one in series] == fleet.ids
    for machine, one in enumerate(series):
        assert one.channels == CHANNELS
        assert np.array_equal(one.ts, run.ts[:, machine])
        assert np.array_equal(one.values, run.values[:, machine])
        if suffix == ".csv":
            assert np.array_equal(one.truth, run.fault[:, machine] >= 0)
    assert [orjson.loads(line)["machine_id"] for line in truth.read_bytes().splitlines()] == [
        fault.machine_id for fault in fleet.truth
    ]


def test_a_type_with_other_channels_stays_within_their_valid_ranges():
    fleet = Fleet(30, FAN, seed=2)
    run = fleet.run(3_000)
    assert fleet.ids[0] == "fan-001"
    assert fleet.channels == ("speed", "torque")
    for place, channel in enumerate(FAN.channels):
        own = run.values[..., place]
        assert np.all((own > channel.valid_min) & (own < channel.valid_max))
        assert np.all(own.std(axis=0) > 0)
    assert len(np.unique(run.values[:100].mean(axis=0), axis=0)) == 30
    assert np.all(run.fault[: FAN.commissioning_readings] == -1)


def test_a_fault_of_another_type_moves_the_channel_that_it_names():
    fleet = Fleet(30, FAN, seed=2)
    run = fleet.run(3_000)
    assert {fault.fault for fault in fleet.truth} == {"speed_shift", "torque_shift"}
    early = slice(0, FAN.commissioning_readings)
    for fault in fleet.truth:
        machine = fleet.ids.index(fault.machine_id)
        values = run.values[:, machine]
        grown = (run.ts[:, machine] >= fault.full) & (run.ts[:, machine] < fault.end)
        if grown.sum() < 50:
            continue
        moved = np.abs(values[grown].mean(axis=0) - values[early].mean(axis=0))
        spread = values[early].std(axis=0)
        named = fleet.faults.index(fault.fault)
        assert moved[named] > 5 * spread[named]
        assert np.all(np.delete(moved, named) < 3 * np.delete(spread, named))


def test_files_of_another_type_are_read_back_as_that_type(tmp_path):
    plant, out = tmp_path / "plant.yml", tmp_path / "fans.csv"
    plant.write_text(FAN_PLANT)
    arguments = ["--plant", str(plant), "--type", "fan", "--machines", "2", "--readings", "100"]
    truth = ["--truth", str(tmp_path / "truth.jsonl")]
    assert simulate.main([*arguments, *truth, "--out", str(out)]) == 0
    assert [(one.machine_id, one.machine_type) for one in datasets.load(out)] == [
        ("fan-001", "fan"),
        ("fan-002", "fan"),
    ]


def test_a_type_that_the_plant_does_not_have_is_refused(tmp_path, capsys):
    plant = tmp_path / "plant.yml"
    plant.write_text(FAN_PLANT)
    assert simulate.main(["--plant", str(plant), "--out", "x.csv", "--readings", "1"]) == 1
    assert f"{plant} has no machine type 'pump'; use fan" in capsys.readouterr().err


def test_the_truth_can_be_csv(tmp_path):
    fleet = Fleet(10)
    fleet.run(3_000)
    simulate.write_truth(tmp_path / "truth.csv", fleet, fleet.now)
    with (tmp_path / "truth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["fault"] for row in rows] == [fault.fault for fault in fleet.truth]
    assert len(rows) > 0


def test_a_file_needs_a_number_of_readings(tmp_path, capsys):
    with pytest.raises(SystemExit):
        simulate.main(["--out", str(tmp_path / "x.csv")])
    assert "--readings" in capsys.readouterr().err
