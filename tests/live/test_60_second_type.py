"""A machine type with other channels is one edit of plant.yml and one run; nothing else notices."""

import json
import shutil
import sys

import orjson
import pytest
from conftest import INVENTORY, ROOT, note, playbook, rest, run, tool
from exactly_once import balance, sent, windows_of

from flink_jobs import contracts
from flink_jobs.plant import load_plant
from flink_jobs.tools.kafka import read_all

FAN = """\
    fan:
      window_s: 20
      slide_s: 10
      commissioning_readings: 200
      partitions: 3
      models: [anomaly]
      channels:
        speed: {unit: 1/min, valid: [0, 3000]}
        vibration: {unit: mm/s, valid: [0, 40], limits: {critical: {high: 11, hysteresis: 0.5}}}
        bearing_temperature: {unit: °C, valid: [-40, 200], gap: hold, gap_max_s: 30}
"""
FAN_1 = "    - {machine_id: fan-001, machine_type: fan, line: line-3, area: hall-c}\n"
MODEL = ROOT / "out" / "models" / "fan-anomaly.onnx"
MACHINES, READINGS = 6, 9_000


def running():
    """Flink's ids of the running jobs, by name: a job that was restarted has another one."""
    jobs = rest("/jobs/overview")["jobs"]
    return {job["name"]: job["jid"] for job in jobs if job["state"] == "RUNNING"}


@pytest.fixture
def edited(plant, tmp_path):
    """The path of plant.yml in a copy of the inventory, with fans in it; then all is as before."""
    inventory = tmp_path / INVENTORY.name
    shutil.copytree(ROOT / INVENTORY, inventory)
    file = inventory / "group_vars" / "all" / "plant.yml"
    text = file.read_text("utf-8").replace("  machine_types:\n", f"  machine_types:\n{FAN}")
    file.write_text(text.replace("  machines:\n", f"  machines:\n{FAN_1}"), "utf-8")
    before = running()
    yield file
    playbook("playbooks/jobs.yml")
    MODEL.unlink()
    assert running() == before, "without the type its job stops, and no other does"


def test_a_second_type_is_one_edit_and_one_run(client, edited, tmp_path):
    kind = load_plant(edited).machine_types["fan"]
    common = ["--plant", edited, "--type", "fan", "--machines", MACHINES]
    normal, truth = tmp_path / "normal.csv", tmp_path / "truth.jsonl"
    tool(
        *("simulate", *common, "--faults", "none", "--seed", 1),
        *("--readings", READINGS, "--out", normal, "--truth", tmp_path / "none.jsonl"),
    )
    run(
        *(ROOT / ".venv-train" / "bin" / "python", "-m", "flink_jobs.tools.train"),
        *("--type", "fan", "--plant", edited, "--data", normal, "--out", MODEL),
    )

    before = running()
    # As `make site` does: the new job's user gets a password.
    run(sys.executable, "tools/vault.py", "make", edited.parents[2])
    playbook("site.yml", inventory=edited.parents[2])
    after = running()
    assert after.pop("plantline-anomaly-fan")
    assert after == before

    tool(
        *("simulate", *common, "--config", ROOT / "out" / "client.conf", "--seed", 2),
        *("--readings", READINGS, "--truth", truth, "--flat-out", "--close", "--quiet"),
    )
    fans = {f"fan-{number:03d}" for number in range(1, MACHINES + 1)}
    result = balance(client, windows_of(sent(client, kind, fans), kind), within_s=120)
    note(f"second machine type: {result}")
    assert result.exact, str(result)

    scored = [
        value
        for value in map(orjson.loads, (m.value() for m in read_all(client, contracts.PREDICTIONS)))
        if value["machine_type"] == "fan" and value["score"] is not None
    ]
    assert {prediction["machine_id"] for prediction in scored} == fans
    assert {prediction["model"] for prediction in scored} == {"fan-anomaly"}
    blamed = {cause["channel"] for p in scored for cause in p["top_channels"]}
    assert blamed == set(kind.channel_names)

    faults = {
        (fault["machine_id"], fault["fault"].removesuffix("_shift"))
        for fault in map(json.loads, truth.read_text("utf-8").splitlines())
    }
    raised = {
        (alert["machine_id"], alert["channel"])
        for alert in map(orjson.loads, (m.value() for m in read_all(client, contracts.ALERTS)))
        if alert["machine_type"] == "fan" and alert["state"] == "raised"
    }
    assert faults
    assert faults <= raised
    assert ("fan-001", "line-3") in {
        (machine["machine_id"], machine["line"])
        for machine in map(orjson.loads, (m.value() for m in read_all(client, contracts.MACHINES)))
    }
