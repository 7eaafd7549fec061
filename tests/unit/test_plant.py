"""A plant model is either usable, or every fault in it is named with its place and remedy."""

import json
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from flink_jobs import contracts, plant
from flink_jobs.cleaning import Rules

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "inventories/demo/group_vars/all/plant.yml"
SCHEMA = json.loads((ROOT / "flink_jobs/plant.schema.json").read_text("utf-8"))
PLANTS = sorted(ROOT.glob("inventories/*/group_vars/all/plant.yml"))

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

COMPLETE = """\
plant:
  name: complete
  unknown_machines: reject
  heartbeat: false
  machine_types:
    fan:
      window_s: 20
      slide_s: 10
      commissioning_readings: 200
      max_disorder_s: 2.5
      max_clock_ahead_s: 60
      idle_timeout_s: 15
      silent_after_s: 90
      partitions: 3
      models: [anomaly]
      channels:
        speed:
          unit: 1/min
          valid: [0, 3000]
          limits:
            critical: {low: 100, high: 2900, hysteresis: 20}
            warning: {high: 2800}
          stuck_after_s: 600
          outliers: 5
        temperature: {unit: °C, valid: [-40, 200], gap: hold, gap_max_s: 30, max_rate_per_s: 0.5}
  machines: []
  topics:
    telemetry: {retention_days: 3}
    results: {retention_days: 90, partitions: 12}
    alerts: {partitions: 1}
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


def test_what_is_given_is_what_the_model_holds(tmp_path):
    model = plant.load_plant(write(tmp_path, COMPLETE))
    assert (model.unknown_machines, model.heartbeat) == ("reject", False)
    kind = model.machine_types["fan"]
    assert (kind.models, kind.silent_after_s, kind.idle_timeout_s) == (("anomaly",), 90, 15)
    speed, temperature = kind.channels
    assert speed.limits == (
        plant.Limit("warning", high=2800),
        plant.Limit("critical", low=100, high=2900, hysteresis=20),
    )
    assert (speed.gap, speed.stuck_after_s, speed.outliers) == ("missing", 600, 5)
    assert (temperature.gap, temperature.gap_max_s, temperature.max_rate_per_s) == ("hold", 30, 0.5)


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
        ("[-1, 16]", "[-1, .inf]", ".pressure.valid[1]: inf is not a finite number; give one that"),
        ("[-1, 16]", "[.nan, 1]", ".pressure.valid[0]: nan is not a finite number; give one that"),
        ("[-1, 16]", "[-1]", ".channels.pressure.valid: has 1 entries; give the lower and the"),
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
        (
            "machine_id: pump-1",
            "machine_id: _clock",
            ":10: plant.machines[0].machine_id: '_clock' begins with an underscore: reserved; use",
        ),
        (
            "    pump:\n",
            "    _heartbeat:\n",
            ":4: plant.machine_types._heartbeat: '_heartbeat' begins with an underscore: reserved;",
        ),
        (
            "pressure:",
            "seq:",
            ":8: plant.machine_types.pump.channels.seq: 'seq' is a field of every reading;"
            " give the channel another name.",
        ),
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
        ("name: small", "name: small\n  heartbeat: 1", ":3: plant.heartbeat: 1 is not a boolean"),
        (
            "name: small",
            "name: small\n  topics: {result: {retention_days: 3}}",
            ":3: plant.topics.result: unknown key; did you mean 'results'? Known keys: alerts,",
        ),
        (
            "name: small",
            "name: small\n  topics:\n    labels: {retention_days: 0.5}",
            ":4: plant.topics.labels.retention_days: 0.5 is not an integer; give whole days",
        ),
        (
            "name: small",
            "name: small\n  topics:\n    telemetry: {partitions: 3}",
            ":4: plant.topics.telemetry.partitions: unknown key; known keys: retention_days.",
        ),
        (
            "slide_s: 10",
            "slide_s: 10\n      models: [anomoly]",
            ":7: plant.machine_types.pump.models[0]: 'anomoly' is not one of anomaly, rul, failure;"
            " did you mean 'anomaly'?",
        ),
        (
            "slide_s: 10",
            "slide_s: 10\n      models: [rul, rul]",
            ":7: plant.machine_types.pump.models: names something twice; give a list",
        ),
        (
            "slide_s: 10",
            "slide_s: 10\n      silent_after_s: 0",
            ":7: plant.machine_types.pump.silent_after_s: 0 is out of range; give seconds, more",
        ),
        (
            "[-1, 16]",
            "[-1, 16], gap: interpolate",
            ":8: plant.machine_types.pump.channels.pressure: 'gap_max_s' is missing; say how long",
        ),
        (
            "[-1, 16]",
            "[-1, 16], gap_max_s: 5",
            ".channels.pressure.gap_max_s: there is no gap to fill; say gap: hold or gap: inter",
        ),
        (
            "[-1, 16]",
            "[-1, 16], gap: last",
            ".channels.pressure.gap: 'last' is not one of hold, interpolate, missing; give hold",
        ),
        (
            "[-1, 16]",
            "[-1, 16], max_rate_per_s: -1",
            ".pressure.max_rate_per_s: -1 is out of range; give a number above 0, in the channel's",
        ),
        (
            "[-1, 16]",
            "[-1, 16], stuck_after_s: 1 min",
            ".channels.pressure.stuck_after_s: '1 min' is not a number; give seconds",
        ),
        (
            "[-1, 16]",
            "[-1, 16], outliers: 2",
            ".channels.pressure.outliers: 2 is out of range; give a number, 3 or more, e.g. 5",
        ),
        ("[-1, 16]", "[-1, 16], limits: {}", ".pressure.limits: has 0 entries; give warning, crit"),
        (
            "[-1, 16]",
            "[-1, 16], limits: {severe: {high: 9}}",
            ".channels.pressure.limits.severe: unknown key; known keys: critical, warning.",
        ),
        (
            "[-1, 16]",
            "[-1, 16], limits: {warning: {hysteresis: 1}}",
            ".pressure.limits.warning: there is neither low nor high; give one of them, or both.",
        ),
        (
            "[-1, 16]",
            "[-1, 16], limits: {warning: {high: 20}}",
            ".limits.warning.high: 20 is not in the valid range [-1, 16]; give a value that",
        ),
        (
            "[-1, 16]",
            "[-1, 16], limits: {warning: {high: 9}, critical: {high: 8}}",
            ".limits.critical.high: 8 does not lie outside the warning's (9); give a higher one",
        ),
        (
            "[-1, 16]",
            "[-1, 16], limits: {warning: {low: 1}, critical: {low: 2}}",
            ".limits.critical.low: 2 does not lie outside the warning's (1); give a lower one",
        ),
        (
            "[-1, 16]",
            "[-1, 16], limits: {warning: {high: 3}, critical: {low: 5}}",
            ".pressure.limits: low 5 is not below high 3: no value is without an alert; lower the",
        ),
        (
            "[-1, 16]",
            "[-1, 16], limits: {warning: {low: 2, high: 9, hysteresis: 7}}",
            ".warning.hysteresis: 7 leaves no value at which the alert would end; give one below",
        ),
    ],
)
def test_each_fault_is_named_with_place_and_remedy(tmp_path, old, new, expected):
    found = problems(tmp_path, MINIMAL.replace(old, new, 1))
    assert any(expected in line for line in found), found
    assert all(
        re.fullmatch(r"plant\.yml:\d+: .+: .+; .+|.*not valid YAML.*", line) for line in found
    )


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
        "telemetry._heartbeat",
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


def settings_of_topics(tmp_path, text):
    """Days kept and partitions, by topic."""
    day_ms = 86_400_000
    return {
        topic.name: (int(topic.config["retention.ms"]) // day_ms, topic.partitions)
        for topic in plant.topics(plant.load_plant(write(tmp_path, text)))
        if topic.config.get("retention.ms", "-1") != "-1"
    }


def test_topics_are_kept_and_cut_by_their_role(tmp_path):
    assert settings_of_topics(tmp_path, MINIMAL) == {
        "telemetry.pump": (7, 6),
        "telemetry._heartbeat": (7, 1),
        contracts.PREDICTIONS: (30, 6),
        contracts.DLQ: (30, 6),
        contracts.ALERTS: (365, 6),
        contracts.EVENTS: (3650, 6),
        contracts.MAINTENANCE: (3650, 6),
        contracts.FAILURES: (3650, 6),
    }
    assert settings_of_topics(tmp_path, COMPLETE) == {
        "telemetry.fan": (3, 3),
        contracts.PREDICTIONS: (90, 12),
        contracts.DLQ: (90, 12),
        contracts.ALERTS: (365, 1),
        contracts.EVENTS: (3650, 3),
        contracts.MAINTENANCE: (3650, 3),
        contracts.FAILURES: (3650, 3),
    }


def test_the_heartbeat_is_a_type_of_its_own_unless_the_plant_goes_without(tmp_path):
    with_it = plant.load_plant(write(tmp_path, MINIMAL))
    assert contracts.HEARTBEAT not in with_it.machine_types
    config = plant.job_config(with_it, contracts.HEARTBEAT)
    assert config["telemetry_topic"] == "telemetry._heartbeat"
    assert [channel["name"] for channel in config["channels"]] == ["beat"]
    known = {
        record["machine_id"]: record["machine_type"] for record in plant.registrations(with_it)
    }
    assert known == {"pump-1": "pump", "_heartbeat": "_heartbeat"}

    without = plant.load_plant(write(tmp_path, COMPLETE))
    assert plant.registrations(without) == []
    with pytest.raises(plant.PlantError, match="machine type '_heartbeat' is not in plant"):
        plant.job_config(without, contracts.HEARTBEAT)


def test_what_a_job_does_not_act_on_does_not_change_it(tmp_path):
    def config(text):
        return plant.job_config(plant.load_plant(write(tmp_path, text)), "pump")

    before = config(MINIMAL)
    assert before == {
        "plant": "small",
        "unknown_machines": "accept",
        "machine_type": "pump",
        "telemetry_topic": "telemetry.pump",
        "channels": [
            {
                **{"name": "pressure", "unit": "bar", "valid_min": -1.0, "valid_max": 16.0},
                **{"limits": [], "max_rate_per_s": None},
                **{"stuck_after_s": None, "outliers": None, "gap": "missing", "gap_max_s": None},
            }
        ],
        "window_s": 60,
        "slide_s": 10,
        "commissioning_readings": 400,
        "max_disorder_s": 5.0,
        "max_clock_ahead_s": 300.0,
        "idle_timeout_s": 30.0,
        "silent_after_s": None,
        "forget_after_days": 365,
        "partitions": 6,
        "model": None,
    }
    assert config(MINIMAL + "    - {machine_id: pump-2, machine_type: pump}\n") == before
    more = MINIMAL.replace("slide_s: 10", "slide_s: 10\n      models: [anomaly]")
    more += "  heartbeat: false\n  topics: {telemetry: {retention_days: 1}}\n"
    assert config(more) == before


def test_a_job_is_told_how_each_channel_is_cleaned(tmp_path):
    keys = "gap: hold, gap_max_s: 9, stuck_after_s: 60, outliers: 5"
    text = MINIMAL.replace("valid: [-1, 16]", f"valid: [-1, 16], {keys}")
    [channel] = plant.job_config(plant.load_plant(write(tmp_path, text)), "pump")["channels"]
    assert Rules.of(channel) == Rules(stuck_after_s=60, outliers=5, gap="hold", gap_max_s=9)


def test_the_schema_tells_the_defaults_that_hold():
    def defaults(mapping):
        keys = SCHEMA["$defs"][mapping]["properties"]
        return {key: about["default"] for key, about in keys.items() if "default" in about}

    for mapping, shape in (
        ("machine_type", plant.MachineType),
        ("channel", plant.Channel),
        ("limit", plant.Limit),
    ):
        held = {
            one.name: list(one.default) if isinstance(one.default, tuple) else one.default
            for one in fields(shape)
            if one.default is not MISSING
        }
        told = defaults(mapping)
        assert told
        assert {key: held[key] for key in told} == told
    roles = SCHEMA["properties"]["plant"]["properties"]["topics"]["properties"]
    for role, about in plant.TOPIC_ROLES.items():
        assert f"Kept for {about.retention_days} days" in roles[role]["title"]


@pytest.mark.parametrize("file", PLANTS, ids=lambda file: file.parts[-4])
def test_each_inventorys_plant_is_valid_and_tells_editors_its_schema(file):
    assert plant.load_plant(file).machine_types
    (named,) = re.findall(
        r"^# yaml-language-server: \$schema=(\S+)$", file.read_text(), re.MULTILINE
    )
    assert (file.parent / named).resolve() == ROOT / "docs" / "plant.schema.json"


@pytest.mark.parametrize("option", [[], ["--topics"], ["--job-config", "pump"], ["--machines"]])
def test_the_command_prints_json(capsys, option):
    assert plant.main([str(DEMO), *option]) == 0
    json.loads(capsys.readouterr().out)


def test_the_command_refuses_an_unknown_type(capsys):
    assert plant.main([str(DEMO), "--job-config", "fan"]) == 2
    assert "machine type 'fan' is not in plant 'demo'" in capsys.readouterr().err
