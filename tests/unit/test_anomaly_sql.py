"""The job's SQL as text, as derived from the plant model. What Flink makes of it: tests/live."""

import copy
import json
import re

import pytest
from jinja2 import UndefinedError

from flink_jobs.jobs import anomaly_sql
from flink_jobs.jobs.anomaly_sql import Emitted
from tests.unit.samples import job_config

CONFIG = job_config(
    channels=[
        {"name": "pressure", "valid_min": -1, "valid_max": 16.5},
        {"name": "temperature", "valid_min": -40, "valid_max": 200},
    ],
    window_s=60,
)


def statements(config=CONFIG, model="m"):
    definitions, inserts = anomaly_sql.statements(config, model, "1", 3.5)
    return definitions + inserts


def settings(config=CONFIG, emitted=None):
    return json.loads(anomaly_sql.stream_settings(config, emitted))


def test_there_are_definitions_and_inserts_and_nothing_else():
    definitions, inserts = anomaly_sql.statements(CONFIG, "m", "1", 3.5)
    assert {text.split()[0] for text in definitions} == {"CREATE"}
    assert [text.split()[:3] for text in inserts] == [
        ["INSERT", "INTO", name] for name in ("predictions", "dlq", "alerts")
    ]


def test_quotes_in_names_cannot_leave_their_literal():
    assert any("'it''s'" in text for text in statements(model="it's"))


def test_every_channel_is_read_by_its_valid_range():
    channels = [(c["name"], c["low"], c["high"]) for c in settings()["channels"]]
    assert channels == [("pressure", -1, 16.5), ("temperature", -40, 200)]


def test_times_are_whole_milliseconds():
    found = settings(CONFIG | {"max_disorder_s": 0.0015, "max_clock_ahead_s": 90_061.5})
    assert (found["disorder"], found["ahead"], found["window"]) == (2, 90_061_500, 60_000)


def test_without_state_it_begins_where_its_group_was_or_reads_all_again():
    assert [settings(emitted=one)["fromBeginning"] for one in (None, Emitted())] == [False, True]


def test_a_setting_that_is_missing_is_named():
    config = {key: value for key, value in CONFIG.items() if key != "severity"}
    with pytest.raises(UndefinedError, match="severity"):
        statements(config)


def test_silence_is_told_where_the_plant_model_asks_for_it():
    found = [settings(CONFIG | {"silent_after_s": one})["silentAfter"] for one in (None, 90_061.5)]
    assert found == [None, 90_061_500]


def test_the_threshold_is_written_to_the_last_bit():
    text = "\n".join(anomaly_sql.statements(CONFIG, "m", "1", 1 / 3)[0])
    literals = re.findall(r"\d\.\d+e[+-]\d+", text)
    assert {float(literal) for literal in literals} == {1 / 3}


def test_as_many_top_channels_as_there_are():
    one = CONFIG | {"channels": CONFIG["channels"][:1]}
    assert anomaly_sql.score_columns(one) == ["score", "cause1", "share1"]
    assert len(anomaly_sql.score_columns(CONFIG)) == 1 + 2 * 2


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
        sum(text.startswith("INSERT INTO alerts") for text in statements(one))
        for one in (config, config | lane)
    ]
    assert inserts == [1, 2]
    assert anomaly_sql.state_version(config | lane) != anomaly_sql.state_version(config)


def test_registered_machines_are_read_from_their_topic_where_others_are_refused():
    found = [
        settings(CONFIG | {"unknown_machines": one})["registry"] for one in ("accept", "reject")
    ]
    assert found == [None, "machines"]


@pytest.mark.parametrize("key", ["severity", "kafka", "max_disorder_s"])
def test_state_version_leaves_the_rest_alone(key):
    changed = CONFIG | {key: {"kafka": {}}.get(key, 7)}
    assert anomaly_sql.state_version(changed) == anomaly_sql.state_version(CONFIG)


def test_whatever_is_written_to_has_one_request_in_flight():
    found = statements()
    written = {text.split()[2] for text in found if text.startswith("INSERT INTO")}
    assert written >= {"predictions", "alerts"}
    for name in written:
        [table] = [text for text in found if f"TEMPORARY TABLE {name} (" in text]
        assert "'properties.max.in.flight.requests.per.connection' = '1'" in table
