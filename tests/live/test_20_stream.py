"""Machine data in, predictions and alerts out, through the contracts only."""

import json
import time

import orjson
import pytest
from conftest import DATA, PLANT_FILE, ROOT, note, rest, tool
from exactly_once import balance, send, sent, windows_of

from flink_jobs import contracts
from flink_jobs.tools.kafka import read_all
from flink_jobs.tools.stream import event_time, free_start

COMMON = ["--config", ROOT / "out" / "client.conf", "--plant", PLANT_FILE, "--quiet"]


def records(client, topic, machines):
    """Values on a topic that belong to one of the machines, in order."""
    values = (orjson.loads(message.value() or b"{}") for message in read_all(client, topic))
    return [value for value in values if value["machine_id"] in machines]


def test_a_million_readings_of_200_machines_are_predicted_once(client, kind):
    tool(
        *("simulate", *COMMON, "--machines", 200, "--readings", 1_000_000),
        *("--seed", 5, "--flat-out", "--close"),
    )
    readings = sent(client, kind, {f"pump-{i:03d}" for i in range(1, 201)})
    assert len(readings) == 1_000_000
    result = balance(client, windows_of(readings, kind), within_s=240)
    note(str(result))
    assert result.exact, str(result)


def test_python_is_asked_for_references_and_once_for_each_score(plant):
    jobs = rest("/jobs/overview")["jobs"]
    running = {one["name"]: one["jid"] for one in jobs if one["state"] == "RUNNING"}
    vertices = rest(f"/jobs/{running['plantline-anomaly-pump']}")["vertices"]
    calls = [vertex["name"].count("PythonCalc") for vertex in vertices]
    assert sorted(filter(None, calls)) == [1, 1]


def test_a_pump_never_seen_before_is_commissioned_then_scored_and_alerted(client, kind):
    machine = f"new-{time.time_ns()}"
    start = free_start(event_time(client, kind), kind, 0)
    names = [channel.name for channel in kind.channels]
    calm = [(i * 37 % 100) / 100 for i in range(700)]
    readings = [
        (machine, start + i * 1000, dict.fromkeys(names, 10 + value))
        for i, value in enumerate(calm)
    ]
    # The last hundred readings: one channel far away from all that was ever normal.
    for _, _, values in readings[600:]:
        values["volume_flow"] += 50
    send(client, kind, readings)
    expected = windows_of([(m, ts) for m, ts, _ in readings], kind)
    assert balance(client, expected, within_s=120).exact

    predictions = sorted(
        records(client, contracts.PREDICTIONS, {machine}), key=lambda p: p["window_end"]
    )
    commissioned_by = start + (kind.commissioning_readings + kind.window_s) * 1000
    for p in predictions:
        assert set(p) == set(contracts.Prediction.__slots__)
        if p["window_end"] < start + kind.commissioning_readings * 1000:
            assert p["score"] is None
            assert p["threshold"] is None
            assert not p["is_alert"]
            assert p["top_channels"] == []
        if p["window_end"] > commissioned_by:
            assert p["is_alert"] == (p["score"] > p["threshold"])
        assert p["window_end"] - p["window_start"] == kind.window_s * 1000
    fault_from, fault_to = readings[600][1], readings[-1][1]
    inside = [
        p
        for p in predictions
        if p["window_start"] >= fault_from and p["window_end"] <= fault_to + 1000
    ]
    assert inside
    assert all(p["is_alert"] for p in inside)
    assert all(p["top_channels"][0]["channel"] == "volume_flow" for p in inside)

    raised = [
        alert
        for alert in records(client, contracts.ALERTS, {machine})
        if alert["state"] == "raised" and alert["window_end"] > fault_from
    ]
    assert raised
    first = raised[0]
    assert set(first) == set(contracts.Alert.__slots__)
    assert first["alert_id"] == contracts.alert_id(
        machine, "anomaly", first["model"], first["window_end"]
    )
    assert first["channel"] == "volume_flow"


def test_every_cleared_alert_has_the_id_of_its_raised(client, kind):
    machine = f"episode-{time.time_ns()}"
    start = free_start(event_time(client, kind), kind, 0)
    names = [channel.name for channel in kind.channels]
    readings = [
        (machine, start + i * 1000, dict.fromkeys(names, 10 + i * 37 % 100 / 100))
        for i in range(1000)
    ]
    for _, _, values in readings[600:700]:
        values["voltage"] += 40
    send(client, kind, readings)
    expected = windows_of([(m, ts) for m, ts, _ in readings], kind)
    assert balance(client, expected, within_s=120).exact
    alerts = records(client, contracts.ALERTS, {machine})
    pairs = {}
    for alert in alerts:
        pairs.setdefault(alert["alert_id"], set()).add(alert["state"])
    assert pairs
    assert all(states == {"raised", "cleared"} for states in pairs.values())


def test_a_clock_from_the_future_does_not_move_event_time(client, kind):
    machine = f"ahead-{time.time_ns()}"
    start = free_start(event_time(client, kind), kind, 0)
    names = [channel.name for channel in kind.channels]
    far = time.time_ns() // 1_000_000 + 10 * 365 * 86_400_000
    send(client, kind, [(machine, far, dict.fromkeys(names, 1.0))], close=False)
    readings = [
        (machine, start + i * 1000, {name: float(i % 10) for name in names}) for i in range(60)
    ]
    send(client, kind, readings)
    expected = windows_of([(m, ts) for m, ts, _ in readings], kind)
    result = balance(client, expected, within_s=120)
    assert result.exact, str(result)


@pytest.mark.skipif(not (DATA / "skab").is_dir(), reason="no SKAB data beside the project")
def test_quality_on_real_pumps_beats_t2q(client):
    out = ROOT / "out" / "quality.json"
    out.unlink(missing_ok=True)
    tool(
        *("quality", "--config", ROOT / "out" / "client.conf", "--plant", PLANT_FILE),
        *("--data", DATA, "--out", out),
    )
    found = json.loads(out.read_text())
    note(f"quality: {found}")
    assert found["skab"]["files"] == len(list((DATA / "skab" / "data" / "valve1").glob("*.csv")))
    assert found["skab"]["f1"] >= 0.76
    assert found["skab"]["far"] <= 25
    assert found["skab"]["f1"] > found["t2q"]["f1"]
    assert found["skab"]["far"] < found["t2q"]["far"]
