"""A plant model is either usable, or every fault in it is named with its place and remedy."""

import json
from pathlib import Path

import pytest

from flink_jobs import contracts, plant

DEMO = Path(__file__).parents[2] / "inventories/demo/group_vars/all/plant.yml"

MINIMAL = """\
plant:
  name: small
  machine_types:
    pump:
      window_s: 60
      slide_s: 10
      channels:
        pressure: {unit: bar, valid: [-1, 16]}
  machines:
    - {machine_id: pump-1, machine_type: pump}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plant.yml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(plant.PlantError) as caught:
        plant.load_plant(write(tmp_path, text))
    return [line.removeprefix(f"{tmp_path}/") for line in caught.value.problems]


def test_the_demo_plant_is_valid_and_has_the_channels_of_skab():
    model = plant.load_plant(DEMO)
    assert model.machine_types["pump"].channel_names == (
        "accelerometer1_rms",
        "accelerometer2_rms",
        "current",
        "pressure",
        "temperature",
        "thermocouple",
        "voltage",
        "volume_flow",
    )
    assert model.unknown_machines == "accept"
    assert len(model.machines) == 6


def test_what_is_not_given_has_a_default(tmp_path):
    model = plant.load_plant(write(tmp_path, MINIMAL))
    kind = model.machine_types["pump"]
    assert (kind.commissioning_readings, kind.max_disorder_s, kind.partitions) == (400, 5.0, 6)
    assert model.machines == (plant.Machine("pump-1", "pump"),)


def test_an_unquoted_date_stays_a_date(tmp_path):
    text = MINIMAL.replace("type: pump}", "type: pump, installed: 2020-02-29}")
    assert plant.load_plant(write(tmp_path, text)).machines[0].installed == "2020-02-29"


def test_a_whole_number_written_as_a_float_is_an_integer(tmp_path):
    text = MINIMAL.replace("window_s: 60", "window_s: 60.0")
    window_s = plant.load_plant(write(tmp_path, text)).machine_types["pump"].window_s
    assert isinstance(window_s, int)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  name: small\n", "", ":1: plant: 'name' is missing; give name"),
        ("name: small", "name: Small One", ":2: plant.name: 'Small One' is not allowed here; use"),
        ("name: small", "name: 7", ":2: plant.name: 7 is not text; use"),
        (
            "window_s: 60",
            "windows_s: 60",
            ":5: plant.machine_types.pump.windows_s: unknown key; did you mean 'window_s'?",
        ),
        ("window_s: 60", 'window_s: "60"', ":5: plant.machine_types.pump.window_s: '60' is not"),
        ("window_s: 60", "window_s: 0", ":5: plant.machine_types.pump.window_s: 0 is out of range"),
        (
            "slide_s: 10",
            "slide_s: 7",
            ":6: plant.machine_types.pump.slide_s: 7 does not divide window_s (60); choose",
        ),
        (
            "slide_s: 10",
            "slide_s: 10\n      window_s: 30",
            ":7: plant.machine_types.pump.window_s: the key 'window_s' is given twice, first in"
            " line 5; remove one.",
        ),
        ("[-1, 16]", "[16, -1]", ".channels.pressure.valid: [16, -1] is not a range; give two"),
        ("[-1, 16]", "[-1, .inf]", ".channels.pressure.valid: [-1, inf] is not a range; give two"),
        ("[-1, 16]", "[-1]", ".channels.pressure.valid: has 1 entries; give the range"),
        ("[-1, 16]", "[low, 16]", ".channels.pressure.valid[0]: 'low' is not a number; give"),
        ("pressure:", "Pressure Bar:", ":8: plant.machine_types.pump.channels.Pressure Bar: "),
        ("pressure:", "ts:", ":8: plant.machine_types.pump.channels.ts: 'ts' is a field of every"),
        ("pressure:", "on:", ":8: plant.machine_types.pump.channels.on: the key is read as True"),
        ("    pump:\n", "    pump.a:\n", ":4: plant.machine_types.pump.a: 'pump.a' is not allowed"),
        (
            "machine_type: pump",
            "machine_type: pmup",
            ":10: plant.machines[0].machine_type: machine type 'pmup' is not declared;"
            " did you mean 'pump'? Known types: pump.",
        ),
        (
            "machine_type: pump}",
            "machine_type: pump}\n    - {machine_id: pump-1, machine_type: pump}",
            ":11: plant.machines[1].machine_id: machine 'pump-1' is declared twice, first in"
            " line 10; give each machine its own id.",
        ),
        ("machine_id: pump-1", "machine_id: _clock", ":10: plant.machines[0].machine_id: '_clock'"),
        ("machine_id: pump-1", "machine_id: 007", ".machine_id: 7 is not text; use"),
        (
            "type: pump}",
            "type: pump, installed: 2021-02-30}",
            ":10: plant.machines[0].installed: '2021-02-30' is not allowed here; give a date",
        ),
        ("plant:", "plants:", ":1: plants: unknown key; did you mean 'plant'?"),
        ("name: small", "name: [small", ": not valid YAML: "),
        (
            "name: small",
            "name: small\n  unknown_machines: acept",
            ":3: plant.unknown_machines: 'acept' is not one of accept, reject; did you mean",
        ),
    ],
)
def test_each_fault_is_named_with_place_and_remedy(tmp_path, old, new, expected):
    found = problems(tmp_path, MINIMAL.replace(old, new, 1))
    assert any(expected in line for line in found), found
    assert all(line.startswith("plant.yml:") for line in found)


@pytest.mark.parametrize("text", ["", "plant:\n", "- 1\n", "plant: {machines: 3}\n", "a: &x [*x]"])
def test_a_file_of_another_shape_is_refused(tmp_path, text):
    assert problems(tmp_path, text)


def test_all_faults_are_reported_at_once_in_the_order_of_lines(tmp_path):
    text = MINIMAL.replace("slide_s: 10", "slide_s: 7").replace("small", "Small")
    text += "    - {machine_id: pump-1, machine_type: fan}\n    - {machine_id: x}\n"
    lines = [int(line.split(":")[1]) for line in problems(tmp_path, text)]
    assert lines == [2, 6, 11, 11, 12]


def test_a_file_that_is_not_there_is_one_clear_problem(tmp_path):
    with pytest.raises(plant.PlantError, match="cannot be read"):
        plant.load_plant(tmp_path / "none.yml")


def test_topics_follow_the_contracts():
    topics = {topic.name: topic for topic in plant.topics(plant.load_plant(DEMO))}
    assert topics["telemetry.pump"].partitions == 6
    assert topics["telemetry.pump"].config["message.timestamp.type"] == "LogAppendTime"
    assert topics[contracts.MODELS].config == {
        "cleanup.policy": "compact",
        "max.message.bytes": str(16 * 1024 * 1024),
    }
    for name in (contracts.MACHINES, contracts.MODEL_ACTIVATIONS):
        assert topics[name].config["retention.ms"] == "-1"
    assert set(topics) == {
        "telemetry.pump",
        contracts.PREDICTIONS,
        contracts.ALERTS,
        contracts.DLQ,
        contracts.MACHINES,
        contracts.MODELS,
        contracts.MODEL_ACTIVATIONS,
        contracts.EVENTS,
        contracts.MAINTENANCE,
        contracts.FAILURES,
    }


def test_a_machine_more_does_not_change_the_job(tmp_path):
    before = plant.job_config(plant.load_plant(write(tmp_path, MINIMAL)), "pump")
    more = MINIMAL + "    - {machine_id: pump-2, machine_type: pump}\n"
    assert plant.job_config(plant.load_plant(write(tmp_path, more)), "pump") == before
    assert before["telemetry_topic"] == "telemetry.pump"
    assert before["channels"] == [
        {"name": "pressure", "unit": "bar", "valid_min": -1.0, "valid_max": 16.0}
    ]


@pytest.mark.parametrize("option", [[], ["--topics"], ["--job-config", "pump"], ["--machines"]])
def test_the_command_prints_json(capsys, option):
    assert plant.main([str(DEMO), *option]) == 0
    json.loads(capsys.readouterr().out)


def test_the_command_refuses_an_unknown_type(capsys):
    assert plant.main([str(DEMO), "--job-config", "fan"]) == 2
    assert "machine type 'fan' is not in plant 'demo'" in capsys.readouterr().err
