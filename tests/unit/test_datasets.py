"""Public files become readings by the mapping; odd files are refused with their place."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from flink_jobs import contracts
from flink_jobs.tools import datasets
from flink_jobs.tools.datasets import DatasetError

SKAB_HEADER = (
    "datetime;Accelerometer1RMS;Accelerometer2RMS;Current;Pressure;Temperature;Thermocouple;"
    "Voltage;Volume Flow RateRMS;anomaly;changepoint"
)


def skab_text(rows: int = 3, start: str = "2020-03-09 10:14:33", header: str = SKAB_HEADER) -> str:
    clock = np.datetime64(start.replace(" ", "T"))
    lines = [header]
    for index in range(rows):
        moment = str(clock + np.timedelta64(index, "s")).replace("T", " ")
        lines.append(f"{moment};0.1;0.2;1.5;0.38;90.5;26.8;238.8;{100 + index};{index % 2}.0;0.0")
    return "\n".join(lines) + "\n"


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_skab_file_is_one_pump_with_eight_channels_and_its_labels(tmp_path):
    put(tmp_path / "skab/data/valve1/3.csv", skab_text())
    (series,) = datasets.load(tmp_path)
    assert (series.machine_id, series.machine_type) == ("skab-valve1-3", "pump")
    assert series.channels == (
        "accelerometer1_rms",
        "accelerometer2_rms",
        "current",
        "pressure",
        "temperature",
        "thermocouple",
        "voltage",
        "volume_flow",
    )
    assert series.ts.tolist() == [1583748873000, 1583748874000, 1583748875000]
    assert series.values[:, 7].tolist() == [100, 101, 102]
    assert series.truth.tolist() == [False, True, False]
    assert orjson.loads(series.encoded()[0]) == {
        "machine_id": "skab-valve1-3",
        "ts": 1583748873000,
        "accelerometer1_rms": 0.1,
        "accelerometer2_rms": 0.2,
        "current": 1.5,
        "pressure": 0.38,
        "temperature": 90.5,
        "thermocouple": 26.8,
        "voltage": 238.8,
        "volume_flow": 100.0,
    }


@pytest.mark.parametrize(
    ("root", "file", "machine_id"),
    [
        ("", "skab/data/valve1/3.csv", "skab-valve1-3"),
        ("skab/data/valve1", "skab/data/valve1/3.csv", "skab-valve1-3"),
        ("skab/data/valve1/3.csv", "skab/data/valve1/3.csv", "skab-valve1-3"),
        ("", "skab/data/other/run 2/Pump É.csv", "skab-other-run-2-Pump-"),
        ("mine", "mine/valve1/3.csv", "skab-valve1-3"),
        ("mine", "mine/3.csv", "skab-mine-3"),
    ],
)
def test_the_machine_is_named_after_folder_and_stem(tmp_path, root, file, machine_id):
    put(tmp_path / file, skab_text())
    assert [one.machine_id for one in datasets.load(tmp_path / root)] == [machine_id]


def test_equal_stems_in_different_folders_are_different_machines(tmp_path):
    for folder in ("a", "b", "a-b/c", "a/b-c"):
        put(tmp_path / "skab/data" / folder / "0.csv", skab_text())
    ids = [one.machine_id for one in datasets.load(tmp_path)]
    assert len(set(ids)) == 4
    assert {"skab-a-0", "skab-b-0"} <= set(ids)


def test_machines_come_in_natural_order(tmp_path):
    for stem in ("10", "9", "1"):
        put(tmp_path / f"valve1/{stem}.csv", skab_text())
    ids = [one.machine_id for one in datasets.load(tmp_path)]
    assert ids == ["skab-valve1-1", "skab-valve1-9", "skab-valve1-10"]


@pytest.mark.parametrize(
    "clock",
    [
        "2020-03-09 10:14:33",
        "2020-03-09T10:14:33Z",
        "2020/03/09 10:14:33",
        "2020-03-09T12:14:33.000+02:00",
        "1583748873",
        "1583748873000",
    ],
)
def test_clocks_of_other_shapes_are_understood(clock):
    assert datasets.parse_time(clock) == 1583748873000


def test_rows_out_of_order_and_missing_values_are_taken(tmp_path):
    lines = skab_text(3).splitlines()
    lines[1:] = [lines[3], "", lines[1].replace("1.5", ""), lines[2].replace("1.5", "nan")]
    put(tmp_path / "x/0.csv", "\n".join(lines))
    (series,) = datasets.load(tmp_path)
    assert np.all(np.diff(series.ts) == 1000)
    assert np.isnan(series.values[:, 2]).tolist() == [True, True, False]
    assert orjson.loads(series.encoded(0, 1)[0])["current"] is None


def test_a_channel_the_file_lacks_is_left_out(tmp_path):
    text = "\n".join(
        ";".join(cell for at, cell in enumerate(line.split(";")) if at != 3)
        for line in skab_text().splitlines()
    )
    put(tmp_path / "x/0.csv", text)
    (series,) = datasets.load(tmp_path)
    assert "current" not in series.channels
    assert b"current" not in series.encoded()[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (";1.5;", ";x1;", r"0\.csv:2: Current is 'x1', not a number"),
        (";1.5;", ";inf;", r"0\.csv:2: Current is 'inf', not a number"),
        ("2020-03-09 10:14:33", "soon", r"0\.csv:2: 'soon' is not a time"),
        (";1.5;", ";", r"0\.csv:2: 10 fields, the header has 11"),
    ],
)
def test_an_odd_row_is_refused_with_its_place(tmp_path, old, new, message):
    put(tmp_path / "x/0.csv", skab_text().replace(old, new, 1))
    with pytest.raises(DatasetError, match=message):
        datasets.load(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no data set recognised"),
        ({"notes.txt": "hello\n", "empty.csv": ""}, "no data set recognised"),
        ({"0.csv": SKAB_HEADER + "\n"}, "a header and no rows"),
        ({"ai4i.csv": "UDI,Product ID,Type,Tool wear [min]\n1,M1,M,0\n"}, "batch scoring only"),
    ],
)
def test_folders_without_readings_are_refused(tmp_path, files, message):
    for name, text in files.items():
        put(tmp_path / name, text)
    with pytest.raises(DatasetError, match=message):
        datasets.load(tmp_path)


def test_load_skab_takes_sub_folders_only_and_files_without_labels_too(tmp_path):
    put(tmp_path / "skab/data/0.csv", skab_text())
    put(tmp_path / "skab/data/valve/a.csv", skab_text())
    plain = "\n".join(";".join(line.split(";")[:9]) for line in skab_text().splitlines())
    put(tmp_path / "skab/data/normal/deep/b.csv", plain)
    found = {one.machine_id: one.truth for one in datasets.load_skab(tmp_path)}
    assert set(found) == {"skab-valve-a", "skab-normal-deep-b"}
    assert found["skab-normal-deep-b"] is None


def test_pdm_machines_bring_their_errors_maintenance_and_failures(tmp_path):
    put(
        tmp_path / "PdM_telemetry.csv",
        "datetime,machineID,volt,rotate,pressure,vibration\n"
        "2015-01-01 07:00:00,1,2,3,4,5\n2015-01-01 06:00:00,1,1,2,3,4\n"
        "2015-01-01 06:00:00,2,9,9,9,9\n",
    )
    put(tmp_path / "errors.csv", "datetime,machineID,errorID\n2015-01-01 06:00:00,1,error1\n")
    put(tmp_path / "maint.csv", "datetime,machineID,comp\n2014-06-01 06:00:00,1,comp2\n")
    put(tmp_path / "failures.csv", "datetime,machineID,failure\n2015-01-01 06:00:00,2,comp4\n")
    put(tmp_path / "machines.csv", "machineID,model,age\n1,model3,18\n")
    one, two = datasets.load(tmp_path)
    assert (one.machine_id, one.machine_type) == ("pdm-1", "machine")
    assert one.channels == ("voltage", "rotation", "pressure", "vibration")
    assert one.values.tolist() == [[1, 2, 3, 4], [2, 3, 4, 5]]
    assert [(r.topic, r.value.get("component"), r.value.get("code")) for r in one.records] == [
        (contracts.MAINTENANCE, "comp2", None),
        (contracts.EVENTS, None, "error1"),
    ]
    assert [record.topic for record in two.records] == [contracts.FAILURES]
    ids = [record.value["event_id"] for record in one.records]
    assert len(set(ids)) == 2


def test_cmapss_units_count_cycles_on_a_synthetic_clock_and_know_their_rul(tmp_path):
    def row(unit: int, cycle: int) -> str:
        return f"{unit} {cycle} " + " ".join(str(k) for k in range(24)) + "  \n"

    put(tmp_path / "train_FD001.txt", row(1, 1) + row(1, 2) + row(2, 1))
    put(tmp_path / "test_FD001.txt", row(1, 1) + row(1, 2))
    put(tmp_path / "RUL_FD001.txt", "112 \n")
    put(tmp_path / "readme.txt", "Data Set: FD001\n")
    found = {one.machine_id: one for one in datasets.load(tmp_path)}
    assert set(found) == {"engine-FD001-1", "engine-FD001-2", "engine-FD001-test-1"}
    train, test = found["engine-FD001-1"], found["engine-FD001-test-1"]
    assert train.synthetic_clock
    assert np.diff(train.ts).tolist() == [3_600_000]
    assert train.channels[:4] == ("op1", "op2", "op3", "s1")
    assert train.channels[-2:] == ("s21", "cycle")
    assert train.values[:, -1].tolist() == [1, 2]
    assert (train.rul.tolist(), test.rul.tolist()) == ([1, 0], [113, 112])


def test_femto_goes_on_past_midnight_and_leaves_out_an_absent_temperature(tmp_path):
    header = "snapshot,h,m,s,rms_h,rms_v,peak_h,peak_v,kurt_h,kurt_v,temperature_c\n"
    put(tmp_path / "Bearing1_1.csv", header + "1,23,59,55,1,2,3,4,6,5,\n2,0,0,5,1,2,3,4,6,5,\n")
    put(tmp_path / "Bearing1_4.csv", header + "1,8,8,0,1,2,3,4,6,5,73.1\n")
    without, with_temperature = datasets.load(tmp_path)
    assert without.machine_id == "femto-Bearing1_1"
    assert without.channels == ("rms_h", "rms_v", "peak", "kurtosis")
    assert np.diff(without.ts).tolist() == [10_000]
    assert without.values[0].tolist() == [1, 2, 4, 6]
    assert with_temperature.channels[-1] == "temperature"


def test_ims_bearings_are_the_mean_of_their_two_sensors(tmp_path):
    put(
        tmp_path / "ims.csv",
        ",Bearing 1 C1,Bearing 1 C2,Bearing 2 C1,Bearing 2 C2\n2003-10-22 12:06:24,1,3,5,7\n",
    )
    first, second = datasets.load(tmp_path)
    assert (first.machine_id, second.machine_id) == ("ims-1-b1", "ims-1-b2")
    assert (first.values.tolist(), second.values.tolist()) == ([[2.0]], [[6.0]])


def test_nab_takes_its_labelled_windows(tmp_path):
    name = "realKnownCause/ambient_temperature_system_failure.csv"
    put(
        tmp_path / "nab/data" / name,
        "timestamp,value\n2013-07-04 00:00:00,69.8\n2013-07-04 01:00:00,71.2\n",
    )
    window = [["2013-07-04 00:30:00.000000", "2013-07-04 02:00:00.000000"]]
    put(tmp_path / "nab/labels/windows.json", orjson.dumps({name: window}).decode())
    (series,) = datasets.load(tmp_path)
    assert (series.machine_id, series.channels) == ("nab-ambient", ("temperature",))
    assert series.truth.tolist() == [False, True]


def test_a_shifted_series_takes_its_records_along(tmp_path):
    put(
        tmp_path / "t.csv",
        "datetime,machineID,volt,rotate,pressure,vibration\n2015-01-01 07:00:00,1,2,3,4,5\n",
    )
    put(tmp_path / "e.csv", "datetime,machineID,errorID\n2015-01-01 06:00:00,1,error1\n")
    (series,) = datasets.load(tmp_path)
    moved = series.shifted(1000).renamed("p")
    assert (moved.ts - series.ts).tolist() == [1000]
    assert moved.records[0].value["ts"] == series.records[0].ts + 1000
    assert {moved.machine_id, moved.records[0].machine_id} == {"p"}
    assert moved.records[0].value["machine_id"] == "p"
