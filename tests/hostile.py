"""Records that a plant must survive: each kind, and what becomes of it.

    for record in hostile.records(random.Random(7), channels, 10_000): …

`mutations` and the strategies make records of which nobody knows what becomes: they are for two
decoders that must agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random

import orjson
from hypothesis import strategies as st

from flink_jobs.contracts import MAX_ID_LENGTH, MAX_TS

# Channel → the lowest and the highest value that its sensor can show.
Channels = Mapping[str, tuple[float, float]]

START = 1_700_000_000_000
YEAR_2200 = 7_258_118_400_000
MEGABYTE = 1 << 20

# What the stages after the decoder find; `late` where event time has gone on before.
AFTERWARDS = frozenset({"bad_key", "clock_ahead", "unknown_machine", "late"})


@dataclass(frozen=True)
class Record:
    """A record of a telemetry topic. `reason` is the dead letter's, None for one that is used."""

    kind: str
    key: bytes | None
    value: bytes | None
    reason: str | None = None

    @property
    def decoder_reason(self) -> str | None:
        """What the decoder alone says."""
        return None if self.reason in AFTERWARDS else self.reason


def reading(random: Random, channels: Channels) -> dict[str, object]:
    """A good reading of one of a few machines."""
    return {
        "machine_id": f"m{random.randrange(8)}",
        "ts": START + random.randrange(100_000),
        **{channel: round(random.uniform(*valid), 3) for channel, valid in channels.items()},
    }


def _changed(reason: str | None, **values: object) -> Callable[[Random, Channels], Record]:
    """A reading that has other values; `a_channel` stands for one of the channels."""

    def make(random: Random, channels: Channels) -> Record:
        about = reading(random, channels)
        key = str(about["machine_id"]).encode()
        for name, value in values.items():
            about[random.choice(list(channels)) if name == "a_channel" else name] = value
        return Record("", key, orjson.dumps(about), reason)

    return make


def _bytes(
    reason: str | None, change: Callable[[Random, bytes], bytes | None]
) -> Callable[[Random, Channels], Record]:
    """A reading whose bytes are changed."""

    def make(random: Random, channels: Channels) -> Record:
        about = reading(random, channels)
        return Record(
            "", str(about["machine_id"]).encode(), change(random, orjson.dumps(about)), reason
        )

    return make


def _with(member: bytes) -> Callable[[Random, bytes], bytes]:
    """One member more, in front."""
    return lambda _, value: b"{" + member + b"," + value[1:]


def _first_value(text: bytes) -> Callable[[Random, bytes], bytes]:
    """Another last value: that of a channel."""
    return lambda _, value: value[: value.rindex(b":") + 1] + text + b"}"


def _beyond(random: Random, channels: Channels) -> Record:
    channel = random.choice(list(channels))
    low, high = channels[channel]
    value = random.choice([low - 1, high + 1, high + 1e-6 * (high - low), -1e300, 1e300])
    return _changed("out_of_range", **{channel: value})(random, channels)


def _null_key(random: Random, channels: Channels) -> Record:
    return replace(_changed("bad_key")(random, channels), key=None)


def _other_key(random: Random, channels: Channels) -> Record:
    return replace(_changed("bad_key")(random, channels), key=b"m99")


def _key_of_bytes(random: Random, channels: Channels) -> Record:
    """A key that is no text, or is cut in the middle of a character."""
    key = random.choice([b"\xc3", b"m1\xf0", b"\xe2\x82", b"\xff\xfe", b"m" * 79 + b"\xc3\xbc"])
    return replace(_changed("bad_key")(random, channels), key=key)


def _unknown_machine(random: Random, channels: Channels) -> Record:
    return replace(_changed("unknown_machine", machine_id="ghost")(random, channels), key=b"ghost")


KINDS: dict[str, Callable[[Random, Channels], Record]] = {
    "good": _changed(None),
    "good with null": _changed(None, a_channel=None),
    "good with an integer": _bytes(None, _first_value(b"0")),
    "good with unknown fields": _changed(None, colour="r\u00f6t\n", tags=[{"a": [1, None, True]}]),
    "good with seq": _changed(None, seq=2**64 - 1),
    "good with the lowest seq": _changed(None, seq=-(2**63)),
    "good with space": _bytes(None, lambda _, v: b" \n" + v.replace(b",", b" ,\r\n\t") + b"\n"),
    "good with escaped names": _bytes(None, lambda _, v: v.replace(b'"ts"', b'"\\u0074s"')),
    "good with a name twice": _bytes(None, _with(b'"ts":"x"')),
    "good with 1 MB": _changed(None, note="x" * MEGABYTE),
    "nested 1024 deep": _bytes(None, _with(b'"n":' + b"[" * 1023 + b"]" * 1023)),
    "truncated": _bytes("not_json", lambda r, v: v[: r.randrange(1, len(v))]),
    "empty": _bytes("not_json", lambda *_: b""),
    "tombstone": _bytes("not_json", lambda *_: None),
    "blank": _bytes("not_json", lambda *_: b" \t\r\n"),
    "NaN": _bytes("not_json", _first_value(b"NaN")),
    "Infinity": _bytes("not_json", _first_value(b"-Infinity")),
    "too large a number": _bytes("not_json", _first_value(b"1e309")),
    "trailing text": _bytes("not_json", lambda _, v: v + b" x"),
    "trailing comma": _bytes("not_json", lambda _, v: v[:-1] + b",}"),
    "byte order mark": _bytes("not_json", lambda _, v: b"\xef\xbb\xbf" + v),
    "Latin-1": _bytes("not_json", _with('"place":"Köln"'.encode("latin-1"))),
    "UTF-16": _bytes("not_json", lambda _, v: v.decode().encode("utf-16")),
    "half a character": _bytes("not_json", _with(b'"a":"\\ud83d"')),
    "noise": _bytes("not_json", lambda r, _: b"\xff" + r.randbytes(r.randrange(200))),
    "1 MB of noise": _bytes("not_json", lambda *_: b"\x00" * MEGABYTE),
    "nested 1025 deep": _bytes("not_json", _with(b'"n":' + b"[" * 1024 + b"]" * 1024)),
    "1 MB of brackets": _bytes("not_json", lambda *_: b"[" * MEGABYTE),
    "a list of readings": _bytes("not_an_object", lambda _, v: b"[" + v + b"," + v + b"]"),
    "a text": _bytes("not_an_object", lambda *_: b'"reading"'),
    "null": _bytes("not_an_object", lambda *_: b"null"),
    "no machine": _changed("bad_machine_id", machine_id=None),
    "a number for a machine": _changed("bad_machine_id", machine_id=7),
    "a machine without name": _changed("bad_machine_id", machine_id=""),
    "too long a name": _changed("bad_machine_id", machine_id="\u00fc" * (MAX_ID_LENGTH + 1)),
    "no time": _changed("bad_ts", ts=None),
    "time as text": _changed("bad_ts", ts="1700000000000"),
    "time as a fraction": _changed("bad_ts", ts=1.7e12),
    "true for a time": _changed("bad_ts", ts=True),
    "before 1970": _changed("bad_ts", ts=-1),
    "after 9999": _changed("bad_ts", ts=MAX_TS + 1),
    "time beyond 64 bits": _bytes("bad_ts", lambda _, v: v[:-1] + b',"ts":18446744073709551616}'),
    "seq beyond 64 bits": _bytes("bad_seq", lambda _, v: v[:-1] + b',"seq":-9223372036854775809}'),
    "seq as text": _changed("bad_seq", seq="2"),
    "seq as a fraction": _changed("bad_seq", seq=2.0),
    "a value as text": _changed("bad_value", a_channel="12.5"),
    "true for a value": _changed("bad_value", a_channel=True),
    "a nested value": _changed("bad_value", a_channel={"value": [1.0]}),
    "beyond its range": _beyond,
    "no key": _null_key,
    "another machine's key": _other_key,
    "a key that is no text": _key_of_bytes,
    "an unknown machine": _unknown_machine,
    "from 1970": _changed("late", ts=0),
    "from 2200": _changed("clock_ahead", ts=YEAR_2200),
}

_RARE = 500  # kinds of 1 MB, and those nested deeply, come once among so many records


def records(random: Random, channels: Channels, count: int) -> Iterator[Record]:
    """So many records of all kinds in random order, some of them sent twice.

    The more common kinds come equally often; the costly ones rarely, but they do come.
    """
    costly = [kind for kind in KINDS if "1 MB" in kind or "deep" in kind]
    common = [kind for kind in KINDS if kind not in costly]
    kinds = [costly[i // _RARE % len(costly)] if i % _RARE == 0 else None for i in range(count)]
    random.shuffle(kinds)
    made: list[Record] = []
    for kind in kinds:
        if made and kind is None and random.random() < 0.05:
            yield random.choice(made)
            continue
        chosen = kind or random.choice(common)
        record = replace(KINDS[chosen](random, channels), kind=chosen)
        if kind is None:
            made.append(record)
        yield record


# What JSON is made of, and what is close to it.
_PIECES = [
    *(b"{", b"}", b"[", b"]", b":", b",", b'"', b"\\", b" ", b"\n", b"-", b"+", b".", b"e", b"E"),
    *(b"0", b"1", b"00", b"-0", b"-0.0", b"1e5", b"1E-7", b"1e400", b"5e-324", b"0e999999999999"),
    *(b"9007199254740993", b"9223372036854775808", b"18446744073709551615", b"1" * 20, b"9" * 400),
    *(b"-9223372036854775808", b"-9223372036854775809", b"0." + b"0" * 30 + b"1", b"0.1e1"),
    *(b"true", b"false", b"null", b"NaN", b"nul", b'"x"', b'""', b"{}", b"[]", b'"a":1,'),
    *(b"\\u0000", b"\\ud83d\\ude00", b"\\udc00", b"\\n", b"\\/", b"\\x", b"\x00", b"\x1f", b"\x7f"),
    *("ü€😀".encode(), b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xff"),
    *(b'"machine_id":', b'"ts":', b'"seq":', b'"ts":1,', b'"machine_id":"a",', b'"seq":null,'),
]


def mutations(random: Random, channels: Channels, count: int) -> Iterator[bytes]:
    """Readings of which some pieces were removed, replaced or put in."""
    pieces = [*_PIECES, *(f'"{channel}":'.encode() for channel in channels)]
    for _ in range(count):
        value = orjson.dumps(reading(random, channels))
        for _ in range(random.randrange(1, 4)):
            begin = random.randrange(len(value) + 1)
            end = min(len(value), begin + random.choice([0, 0, 1, 2, 10]))
            value = value[:begin] + random.choice([b"", *pieces]) + value[end:]
        yield value


def _number() -> st.SearchStrategy[str]:
    """Numbers as they may be written, from short ones to such as need every digit."""
    digits = st.text("0123456789", min_size=1, max_size=25)
    return st.builds(
        "".join,
        st.tuples(
            st.sampled_from(["", "-"]),
            st.integers(0, 2**70).map(str) | digits,
            st.just("") | digits.map(".{}".format),
            st.just("") | st.integers(-400, 400).map("e{}".format),
        ),
    ) | st.floats(allow_nan=False, allow_infinity=False).map(repr)


NUMBERS = _number()

_TEXTS = st.text(max_size=20) | st.text('\\"/bnu0d8\x1fé', max_size=8).map(lambda t: t + " ")


def values(channels: Channels) -> st.SearchStrategy[bytes]:
    """JSON, or nearly: objects with a reading's fields and others, any value in each."""
    text = _TEXTS.map(lambda t: orjson.dumps(t).decode()) | _TEXTS.map('"{}"'.format)
    plain = NUMBERS | text | st.sampled_from(["true", "false", "null", "{}", "[]"])
    value = st.recursive(
        plain,
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda vs: f"[{', '.join(vs)}]")
            | st.lists(st.tuples(text, inner), max_size=3).map(_object)
        ),
        max_leaves=6,
    )
    name = st.sampled_from(["machine_id", "ts", "seq", *channels]).map('"{}"'.format) | text
    likely = st.fixed_dictionaries(
        {
            '"machine_id"': st.just('"m1"') | plain,
            '"ts"': st.integers(0, 2**49).map(str) | plain,
            **{f'"{channel}"': NUMBERS | plain for channel in channels},
        }
    ).map(lambda fields: list(fields.items()))
    objects = st.tuples(likely, st.lists(st.tuples(name, value), max_size=4)).map(
        lambda both: _object([*both[0], *both[1]])
    )
    return (objects | value).map(lambda text: text.encode("utf-8", "surrogatepass"))


def _object(members: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{name}:{value}" for name, value in members) + "}"
