"""The Java decoder and parse_reading are one predicate: same verdict, same values, any bytes."""

import math
import struct
from collections import Counter
from random import Random

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from flink_jobs.contracts import ContractError, parse_reading
from tests import hostile

CHANNELS = {"pressure": (-1.0, 16.0), "flow_2": (0.0, 400.0), "current": (-1e9, 1e9)}
ANY = dict.fromkeys(CHANNELS, (-math.inf, math.inf))


def python_verdict(record, valid):
    """What Jvm.decode says, by parse_reading."""
    try:
        reading = parse_reading(record, valid.keys(), valid)
    except ContractError as error:
        return error.reason, ...
    return "", (reading.machine_id, reading.ts, list(reading.values.values()))


def assert_agreement(jvm, records, valid):
    for record, java in zip(records, jvm.decode(records, valid), strict=True):
        reason, content = python_verdict(record, valid)
        assert java[0] == reason, (record[:300], java)
        if not reason:
            # By their bits: -0.0 is not 0.0, and nothing is only nearly equal.
            assert _bits(java[1]) == _bits(content), (record[:300], java, content)


def _bits(content):
    machine_id, ts, values = content
    return machine_id, ts, [None if v is None else struct.pack("<d", v) for v in values]


def test_every_kind_of_hostile_record_has_its_verdict_from_both(jvm):
    records = list(hostile.records(Random(1), CHANNELS, 12_000))  # noqa: S311  (no secret)
    came = Counter(record.kind for record in records)
    assert came.keys() == hostile.KINDS.keys()
    verdicts = jvm.decode([record.value for record in records], CHANNELS)
    for record, (reason, detail) in zip(records, verdicts, strict=True):
        expected = record.decoder_reason or ""
        assert reason == expected, (record.kind, detail)
        assert python_verdict(record.value, CHANNELS)[0] == expected, record.kind
        assert detail, "a refusal is explained"


def test_changed_bytes_are_judged_alike(jvm):
    records = list(hostile.mutations(Random(2), CHANNELS, 20_000))  # noqa: S311  (no secret)
    reasons = Counter(reason for reason, _ in jvm.decode(records, CHANNELS))
    assert reasons["not_json"] > 1_000 < reasons[""], reasons
    assert_agreement(jvm, records, CHANNELS)


@settings(max_examples=500)
@given(st.lists(hostile.values(CHANNELS), min_size=1, max_size=10))
def test_any_json_is_judged_alike(jvm, records):
    assert_agreement(jvm, records, CHANNELS)


@settings(max_examples=300)
@given(st.lists(hostile.NUMBERS, min_size=1, max_size=30))
def test_numbers_are_read_to_the_last_bit(jvm, numbers):
    shell = b'{"machine_id":"m","ts":1,"seq":%s,"pressure":%s}'
    records = [shell % (b"1", number.encode()) for number in numbers]
    records += [shell % (number.encode(), b"1") for number in numbers]
    assert_agreement(jvm, records, ANY)


@settings(max_examples=300)
@given(st.lists(st.text(max_size=260), min_size=1, max_size=10))
def test_machine_ids_are_any_text_up_to_their_length(jvm, ids):
    records = [orjson.dumps({"machine_id": one, "ts": 1}) for one in ids]
    escaped = [b'{"machine_id":"%s","ts":1}' % "".join(map(_escape, one)).encode() for one in ids]
    assert_agreement(jvm, records + escaped, ANY)


def _escape(character):
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def test_details_are_short_and_name_the_value(jvm):
    about = {"machine_id": "m", "ts": 1, "pressure": 99, "current": "x" * 1000}
    (_, long), (_, short) = jvm.decode(
        [orjson.dumps(about), orjson.dumps(about | {"current": 1})], CHANNELS
    )
    assert long.startswith('current is "xxx')
    assert len(long) < 150
    assert short == "pressure is 99, not in [-1.0, 16.0]"
