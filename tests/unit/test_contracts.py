"""One strict decoder decides for every reading; predictions and alerts survive the round trip."""

import dataclasses

import orjson
import pytest
from samples import ALERT, PREDICTION

from flink_jobs import contracts
from flink_jobs.contracts import ContractError, Reading, parse_reading

CHANNELS = ("pressure", "current")


def test_a_reading_survives_the_round_trip():
    reading = Reading("p1", 1_000, {"pressure": 1.5, "current": None}, seq=3)
    assert parse_reading(contracts.encode_reading(reading), CHANNELS) == reading


def test_absent_and_null_channels_are_missing_and_unknown_fields_are_counted():
    raw = b'{"machine_id":"p1","ts":1000,"pressure":null,"colour":"red","note":[1]}'
    assert parse_reading(raw, CHANNELS) == Reading(
        "p1", 1_000, {"pressure": None, "current": None}, unknown_fields=2
    )


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b'{"machine_id":"p1","ts":1} x', "not_json"),
        (b'{"machine_id":"p1","ts":1,"pressure":NaN}', "not_json"),
        (b'{"machine_id":"p1","ts":1,"pressure":1e999}', "not_json"),
        (b"\xff", "not_json"),
        (b"[]", "not_an_object"),
        (b'{"ts":1}', "bad_machine_id"),
        (b'{"machine_id":7,"ts":1}', "bad_machine_id"),
        (b'{"machine_id":"","ts":1}', "bad_machine_id"),
        (b'{"machine_id":"p1"}', "bad_ts"),
        (b'{"machine_id":"p1","ts":"1000"}', "bad_ts"),
        (b'{"machine_id":"p1","ts":1000.0}', "bad_ts"),
        (b'{"machine_id":"p1","ts":true}', "bad_ts"),
        (b'{"machine_id":"p1","ts":-1}', "bad_ts"),
        (b'{"machine_id":"p1","ts":253402300800000}', "bad_ts"),
        (b'{"machine_id":"p1","ts":1,"seq":"2"}', "bad_seq"),
        (b'{"machine_id":"p1","ts":1,"pressure":"12.5"}', "bad_value"),
        (b'{"machine_id":"p1","ts":1,"pressure":true}', "bad_value"),
        (b'{"machine_id":"p1","ts":1,"pressure":[1]}', "bad_value"),
    ],
)
def test_what_breaks_the_contract_is_refused_with_a_fixed_reason(raw, reason):
    with pytest.raises(ContractError) as caught:
        parse_reading(raw, CHANNELS)
    assert caught.value.reason == reason
    assert caught.value.detail


def test_what_a_sensor_cannot_show_is_refused():
    valid = {"pressure": (-1, 16.0)}
    for edge in (-1, 16, 16.0, None):
        raw = contracts.encode_reading(Reading("p1", 1, {"pressure": edge, "current": 99.0}))
        assert parse_reading(raw, CHANNELS, valid).values["pressure"] == edge
    for beyond in (-1.0000001, 16.1, 1e308):
        raw = contracts.encode_reading(Reading("p1", 1, {"pressure": beyond}))
        with pytest.raises(ContractError, match="out_of_range"):
            parse_reading(raw, CHANNELS, valid)


def test_the_first_reason_in_their_order_is_given():
    valid = {"pressure": (-1, 16)}
    with pytest.raises(ContractError, match="bad_value"):
        parse_reading(b'{"machine_id":"p1","ts":1,"pressure":99,"current":""}', CHANNELS, valid)
    with pytest.raises(ContractError, match="bad_ts"):
        parse_reading(b'{"machine_id":"p1","ts":-1,"pressure":99,"current":""}', CHANNELS, valid)


def test_a_prediction_has_exactly_the_fields_of_the_contract():
    raw = contracts.encode_prediction(PREDICTION)
    assert contracts.parse_prediction(raw) == PREDICTION
    record = orjson.loads(raw)
    assert record["top_channels"] == [{"channel": "current", "share": 0.75}]
    assert list(record) == [field.name for field in dataclasses.fields(contracts.Prediction)]


def test_an_alert_survives_the_round_trip():
    assert contracts.parse_alert(contracts.encode_alert(ALERT)) == ALERT


def test_a_later_version_of_a_record_may_have_more_fields():
    record = orjson.loads(contracts.encode_prediction(PREDICTION)) | {"advice": "look"}
    assert contracts.parse_prediction(orjson.dumps(record)) == PREDICTION


@pytest.mark.parametrize("parse", [contracts.parse_prediction, contracts.parse_alert])
@pytest.mark.parametrize("raw", [b"{}", b'{"top_channels":[{"x":1}]}', b'{"top_channels":3}'])
def test_a_record_that_lacks_fields_is_refused(parse, raw):
    with pytest.raises(ContractError, match="bad_record"):
        parse(raw)


def test_the_same_condition_has_the_same_alert_id_and_another_has_another():
    ids = {
        contracts.alert_id(machine, rule, subject, at)
        for machine in ("a", "ab")
        for rule in ("anomaly", "limit")
        for subject in ("", "current")
        for at in (1, 2)
        for _ in range(2)
    }
    assert len(ids) == 16
