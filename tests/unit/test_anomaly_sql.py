"""The job's SQL as text, as derived from the plant model. What Flink makes of it: tests/live."""

import copy

import pytest
from jinja2 import UndefinedError

from flink_jobs.jobs import anomaly_sql

NO_CHECKS = {"limits": [], "max_rate_per_s": None, "stuck_after_s": None}
CONFIG = {
    "job_name": "plantline-anomaly-pump",
    "machine_type": "pump",
    "telemetry_topic": "telemetry.pump",
    "channels": [
        {"name": "pressure", "unit": "bar", "valid_min": -1, "valid_max": 16.5, **NO_CHECKS},
        {"name": "temperature", "unit": "°C", "valid_min": -40, "valid_max": 200, **NO_CHECKS},
    ],
    "unknown_machines": "accept",
    "machines_file": "/etc/plantline/jobs/machines.json",
    "silent_after_s": None,
    "window_s": 60,
    "slide_s": 10,
    "commissioning_readings": 400,
    "max_disorder_s": 5,
    "max_clock_ahead_s": 300,
    "severity": "warning",
    "kafka": {"bootstrap.servers": "a:9092,b:9092"},
}


def test_tables_and_views_come_before_the_inserts():
    kinds = [text.split()[0] for text in anomaly_sql.statements(CONFIG, "m", "1")]
    assert kinds == sorted(kinds)
    assert kinds.count("INSERT") == 3


def test_quotes_in_names_cannot_leave_their_literal():
    statements = anomaly_sql.statements(CONFIG, "it's", "1")
    assert any("'it''s'" in text for text in statements)


def test_every_channel_is_read_and_collected():
    text = "\n".join(anomaly_sql.statements(CONFIG, "m", "1"))
    for channel, valid in (("pressure", "-1 16.5"), ("temperature", "-40 200")):
        assert f"`{channel}` DOUBLE" in text
        assert f"'value.plantline-reading.valid.{channel}' = '{valid}'" in text
    assert "pack(ts, `pressure`, `temperature`)" in text


def test_a_setting_that_is_missing_is_named():
    config = {key: value for key, value in CONFIG.items() if key != "severity"}
    with pytest.raises(UndefinedError, match="severity"):
        anomaly_sql.statements(config, "m", "1")


@pytest.mark.parametrize(
    ("seconds", "literal"),
    [(5, "0 00:00:05.000"), (300, "0 00:05:00.000"), (90_061.5, "1 01:01:01.500")],
)
def test_intervals_longer_than_a_minute(seconds, literal):
    config = CONFIG | {"max_clock_ahead_s": seconds}
    text = "\n".join(anomaly_sql.statements(config, "m", "1"))
    assert f"appended + INTERVAL '{literal}' DAY TO SECOND(3)" in text


def test_as_many_top_channels_as_there_are():
    one = CONFIG | {"channels": CONFIG["channels"][:1]}
    assert anomaly_sql.score_columns(one)[-2:] == ["channel1", "share1"]
    assert len(anomaly_sql.score_columns(CONFIG)) == 4 + 2 * 2


@pytest.mark.parametrize("key", ["window_s", "slide_s", "commissioning_readings", "channels"])
def test_state_version_follows_what_shapes_the_state(key):
    changed = copy.deepcopy(CONFIG)
    changed[key] = changed[key][:1] if key == "channels" else changed[key] + 10
    assert anomaly_sql.state_version(changed) != anomaly_sql.state_version(CONFIG)


@pytest.mark.parametrize(
    "lane", [{"silent_after_s": 60}, {"channels": [CONFIG["channels"][0] | {"max_rate_per_s": 1}]}]
)
def test_a_lane_more_writes_more_alerts_and_has_state_of_its_own(lane):
    config = CONFIG | {"channels": CONFIG["channels"][:1]}
    inserts = [
        sum(text.startswith("INSERT INTO alerts") for text in anomaly_sql.statements(c, "m", "1"))
        for c in (config, config | lane)
    ]
    assert inserts == [1, 2]
    assert anomaly_sql.state_version(config | lane) != anomaly_sql.state_version(config)


def test_registered_machines_are_read_from_their_topic_where_others_are_refused():
    def text(unknown):
        return "\n".join(anomaly_sql.statements(CONFIG | {"unknown_machines": unknown}, "m", "1"))

    option = "'value.plantline-reading.registry.properties.bootstrap.servers' = 'a:9092,b:9092'"
    assert option in text("reject")
    assert "registry" not in text("accept")


@pytest.mark.parametrize("key", ["severity", "kafka", "max_disorder_s"])
def test_state_version_leaves_the_rest_alone(key):
    changed = CONFIG | {key: {"kafka": {}}.get(key, 7)}
    assert anomaly_sql.state_version(changed) == anomaly_sql.state_version(CONFIG)


def test_whatever_is_written_to_has_one_request_in_flight():
    statements = anomaly_sql.statements(CONFIG, "m", "1")
    written = {text.split()[2] for text in statements if text.startswith("INSERT INTO")}
    assert written >= {"predictions", "alerts"}
    for name in written:
        [table] = [text for text in statements if f"TEMPORARY TABLE {name} (" in text]
        assert "'properties.max.in.flight.requests.per.connection' = '1'" in table
