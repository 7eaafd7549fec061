"""Dead letters as people see them, and which of them go back; tests/live asks a real Kafka."""

import pytest

from flink_jobs.tools import dlq
from flink_jobs.tools.kafka import ANY


class Record:
    """A record of topic `dlq`, as the client hands it over."""

    def __init__(self, offset, key=b"pump-1", value=b"{", **headers):
        self._offset, self._key, self._value = offset, key, value
        self._headers = [(f"dlq.{name}", text.encode()) for name, text in headers.items()]

    def partition(self):
        return 2

    def offset(self):
        return self._offset

    def timestamp(self):
        return 2, 1_700_000_000_000 + self._offset

    def key(self):
        return self._key

    def value(self):
        return self._value

    def headers(self):
        return self._headers or None


SOURCE = "kafka:telemetry.pump/3/17"


@pytest.fixture
def topics(monkeypatch):
    """What lies on the topics, by name."""
    lying = {"dlq": []}
    monkeypatch.setattr(dlq, "read_all", lambda _, topic, since: iter(lying.get(topic, [])))
    return lying


@pytest.fixture
def publisher(monkeypatch):
    """A stand-in for the publisher, which keeps what it is given."""

    class Kept(list):
        def __init__(self, _):
            super().__init__()
            kept.append(self)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def send(self, topic, key, value, partition=ANY, headers=None):
            self.append((topic, key, value, headers))

    kept = []
    monkeypatch.setattr(dlq, "Publisher", Kept)
    return lambda: [record for one in kept for record in one]


def test_a_dead_letter_is_read_whole():
    one = dlq.dead_letter(Record(5, source=SOURCE, reason="not_json", detail="at 1"))
    assert (one.place, one.topic, one.reason, one.detail) == (
        *("2/5", "telemetry.pump"),
        *("not_json", "at 1"),
    )
    assert (one.key, one.value) == (b"pump-1", b"{")


@pytest.mark.parametrize("source", ["mqtt:plant/pump-1", "", "kafka:", "nonsense"])
def test_what_did_not_come_from_a_topic_has_none(source):
    assert dlq.dead_letter(Record(0, source=source)).topic is None


def test_a_record_without_headers_is_shown_all_the_same():
    text = dlq.shown(dlq.dead_letter(Record(0, key=None, value=None)))
    assert "from nowhere said, key null" in text


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (b'{"ts": 1}', '{"ts": 1}'),
        (b"\xff\xfe", r"b'\xff\xfe'"),
        (b"a\nb\x1b[2J", r"'a\nb\x1b[2J'"),
        (b"x" * 1_000_000, "(1,000,000 bytes)"),
    ],
)
def test_values_are_shown_without_harm_to_the_terminal(value, seen):
    text = dlq.shown(dlq.dead_letter(Record(0, value=value)))
    assert seen in text
    assert len(text) < 500


def test_filters_by_reason_and_machine(topics):
    topics["dlq"] = [
        Record(0, key=b"pump-1", reason="late"),
        Record(1, key=b"pump-2", reason="not_json"),
        Record(2, key=b"fan-1", reason="not_json"),
    ]
    found = dlq.dead_letters({}, None, ["not_json"], ["pump-*"])
    assert [one.place for one in found] == ["2/1"]


def test_a_replay_sends_each_back_once_and_says_what_it_left_out(topics, publisher):
    topics["dlq"] = [
        Record(0, value=b"\xff", source=SOURCE, reason="bad_value"),
        Record(1, key=None, source="kafka:telemetry.fan/0/1", reason="bad_value"),
        Record(2, source=SOURCE, reason="bad_value"),
        Record(3, source="mqtt:plant/x", reason="bad_value"),
    ]
    topics["telemetry.pump"] = [Record(9, replay="2/2"), Record(10)]
    letters = list(dlq.dead_letters({}, None, ["bad_value"], []))
    said = dlq.replay({}, letters, dry_run=True)
    assert publisher() == []
    assert "2 would be sent" in said
    said = dlq.replay({}, letters, dry_run=False)
    assert publisher() == [
        ("telemetry.pump", b"pump-1", b"\xff", [("dlq.replay", "2/0")]),
        ("telemetry.fan", None, b"{", [("dlq.replay", "2/1")]),
    ]
    assert "1 left out: they were replayed before" in said
    assert "1 left out: they did not come from a Kafka topic" in said


def test_what_was_refused_again_is_left_out_unless_it_is_asked_for(topics, publisher):
    topics["telemetry.pump"] = [Record(9, replay="2/0")]
    topics["dlq"] = [
        Record(0, source=SOURCE, reason="late"),
        Record(1, source="kafka:telemetry.pump/2/9", reason="late"),
    ]
    letters = list(dlq.dead_letters({}, None, ["late"], []))
    said = dlq.replay({}, letters)
    assert publisher() == []
    assert "1 left out: they were replayed before" in said
    assert "1 left out: they were refused again" in said
    dlq.replay({}, letters, again=True)
    assert [headers for *_, headers in publisher()] == [[("dlq.replay", "2/1")]]


def test_a_summary_counts_by_reason_and_source(topics, capsys):
    letters = [
        dlq.dead_letter(Record(n, source=SOURCE, reason="late", detail=f"number {n}"))
        for n in range(3)
    ]
    dlq.Console(width=120).print(dlq.summary(letters))
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == [
        *("late", "telemetry.pump", "3", "2023-11-14T22:13:20Z", "number", "2"),
    ]


def test_a_replay_without_a_reason_is_refused(capsys):
    with pytest.raises(SystemExit):
        dlq.main(["replay"])
    assert "--reason" in capsys.readouterr().err
