"""Rows of predictions and alerts as JSON, read by somebody else's parser."""

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

# What a DataOutputStream's UTF holds as Python's does: the basic plane, without 0.
TEXTS = st.text(st.characters(min_codepoint=1, max_codepoint=0xFFFF, exclude_categories=["Cs"]))


@given(
    text=TEXTS,
    long=st.integers(-(2**63), 2**63 - 1),
    small=st.integers(-(2**31), 2**31 - 1),
    double=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    length=st.integers(0, 3),
)
def test_what_is_written_is_read_to_the_last_bit(jvm, text, long, small, double, flag, length):
    row = orjson.loads(jvm.json(text, long, small, double, flag=flag, length=length))
    cause = {"channel": text, "share": double}
    assert list(row) == ["text", "nothing", "long", "int", "double", "bool", "list"]
    assert list(row.values()) == [text, None, long, small, double, flag, [cause] * length]
    assert math.copysign(1, row["double"]) == math.copysign(1, double)


@pytest.mark.parametrize("double", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_of_json_is_null(jvm, double):
    row = orjson.loads(jvm.json("", 0, 0, double, flag=True, length=1))
    assert row["double"] is row["list"][0]["share"] is None
