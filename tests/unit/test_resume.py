"""What a job emitted before it lost its state is found, and no more than that."""

from random import Random

import orjson
import pytest
from confluent_kafka import Consumer, IsolationLevel, Producer, TopicPartition
from samples import PREDICTION

from flink_jobs import contracts, resume
from flink_jobs.jobs.anomaly_sql import Emitted
from flink_jobs.resume import Found, ResumeError, Topic
from plugins.filter import kafka as login
from plugins.filter import plant as filters

NOW = 1_700_000_000_000
MINUTE = 60_000
DAY = 24 * 60 * MINUTE
JOB = "plantline-anomaly-pump"
TELEMETRY = contracts.telemetry_topic("pump")
SLIDE = 10_000


def prediction(end, machine="p1", **fields):
    whole = orjson.loads(contracts.encode_prediction(PREDICTION))
    return orjson.dumps(whole | {"machine_id": machine, "window_end": end} | fields)


class Record:
    """Stands in for a record as the Kafka client returns it."""

    def __init__(self, value=b"", appended=0, headers=None):
        self.value = lambda: value
        self.timestamp = lambda: (2, appended)
        self.headers = lambda: headers


# The last window


class Log:
    """A topic of one partition: records in the order of their appends, and how many were read."""

    def __init__(self, records):
        self.records = records
        self.begins = {0: 0}
        self.looked_at = 0

    def since(self, time_ms):
        return {0: sum(record.timestamp()[1] < time_ms for record in self.records)}

    def read(self, starts):
        found = self.records[starts[0] :]
        self.looked_at += len(found)
        return iter(found)


def history(random, ends, apart, age, others=0):
    """Predictions of windows up to each end, as several tasks write and commit them together.

    The last of these transactions begins `age` ago, and takes five minutes as each of them does.
    """
    records, appended = [], NOW - age - apart * (len(ends) - 1)
    for end in ends:
        windows = [(end - step * SLIDE, f"p{n}") for step in range(30) for n in range(4)]
        random.shuffle(windows)
        values = [prediction(*window) for window in windows]
        values += [prediction(end + DAY, machine_type="fan") for _ in range(others)]
        times = sorted(appended + random.randrange(5 * MINUTE) for _ in values)
        records += map(Record, values, times)
        appended += apart
    return records


@pytest.mark.parametrize("age_min", [5, 13, 16, 19, 22, 118, 119, 121, 122, 723, 3000])
@pytest.mark.parametrize("apart", [5 * MINUTE, 3 * DAY])
def test_the_last_window_is_found_whatever_order_tasks_wrote_in(age_min, apart):
    for seed in range(5):
        random = Random(seed)  # noqa: S311  (no secret)
        ends = [NOW + n * SLIDE for n in sorted(random.sample(range(1000), 12))]
        log = Log(history(random, ends, apart, age_min * MINUTE, others=3))
        assert resume.newest_window_end(log, "pump", NOW) == ends[-1]


def test_of_a_long_history_only_the_end_is_read():
    ends = [NOW + n * SLIDE for n in range(500)]
    log = Log(history(Random(1), ends, DAY, DAY))  # noqa: S311  (no secret)
    assert resume.newest_window_end(log, "pump", NOW) == ends[-1]
    assert log.looked_at < len(log.records) / 10


@pytest.mark.parametrize(
    "other",
    [
        prediction(9, machine_type="fan"),
        prediction(9, kind="rul"),
        prediction(9, revision=1),
        b"no JSON",
        b"[1]",
        b'{"window_end": 9}',
    ],
)
def test_only_what_the_job_itself_predicted_counts(other):
    ours = Record(prediction(7), NOW - 3 * DAY)
    log = Log([ours, *(Record(other, NOW - n * MINUTE) for n in range(30, 0, -1))])
    assert resume.newest_window_end(log, "pump", NOW) == 7
    log.records.remove(ours)
    assert resume.newest_window_end(log, "pump", NOW) == 0


# Dead letters


def letter(source):
    return Record(headers=[("dlq.reason", b"late"), ("dlq.source", source)])


def test_dead_letters_tell_where_the_next_one_can_be():
    letters = [
        letter(f"kafka:{TELEMETRY}/{partition}/{offset}".encode())
        for partition, offset in [(0, 5), (0, 3), (1, 7), (2, 1)]
    ]
    found = resume.first_offsets({0: 4, 1: 20, 2: 2, 3: 9}, letters, TELEMETRY)
    assert found == {0: 6, 1: 20, 2: 2, 3: 9}


@pytest.mark.parametrize(
    "record",
    [
        letter(b"kafka:telemetry.fan/0/5"),
        letter(b"kafka:telemetry.pump.old/0/5"),
        letter(b"kafka:telemetry-pump/0/5"),
        letter(b"mqtt:telemetry.pump/0/5"),
        letter(b"kafka:telemetry.pump/0/5 and more"),
        letter(None),
        Record(),
    ],
)
def test_other_dead_letters_tell_nothing(record):
    assert resume.first_offsets({0: 0}, [record], TELEMETRY) == {0: 0}


# In Kafka


@pytest.fixture
def config(mock_kafka):
    kafka = {"bootstrap.servers": mock_kafka}
    return {"job_name": JOB, "machine_type": "pump", "telemetry_topic": TELEMETRY, "kafka": kafka}


@pytest.fixture
def send(mock_kafka):
    """Appends records to a topic, which it makes."""
    producer = Producer({"bootstrap.servers": mock_kafka})

    def send(topic, *records, headers=None):
        producer.list_topics(topic, timeout=10)
        for partition, value in records:
            producer.produce(topic, value, partition=partition, headers=headers)
        assert not producer.flush(10)

    return send


@pytest.fixture
def commit(mock_kafka):
    consumer = Consumer({"bootstrap.servers": mock_kafka, "group.id": JOB})

    def commit(offsets):
        places = [TopicPartition(TELEMETRY, *place) for place in offsets.items()]
        consumer.commit(offsets=places, asynchronous=False)

    yield commit
    consumer.close()


# What the mock broker does not know is when a record was appended.
@pytest.fixture
def timeless(monkeypatch):
    monkeypatch.setattr(Topic, "since", lambda self, time_ms: self.begins)


def test_windows_and_offsets_are_found_in_kafka(config, send, commit, timeless):
    send(TELEMETRY, *((partition, b"{}") for partition in range(3) for _ in range(8)))
    send(contracts.PREDICTIONS, *((n % 4, prediction(NOW + n * SLIDE)) for n in range(10)))
    source = f"kafka:{TELEMETRY}/1/6".encode()
    send(contracts.DLQ, (0, b"[1]"), headers={"dlq.source": source})
    commit({0: 8, 1: 5, 3: 7})  # there is nothing on 3, so that was another topic's
    found = resume.find(config, NOW)
    assert found == Found(Emitted(NOW + 9 * SLIDE, {0: 8, 1: 7, 2: 0, 3: 0}), ())
    assert str(found) == "windows up to 2023-11-14T22:14:50Z are not emitted again"


def test_a_job_that_never_ran_has_emitted_nothing(config, send):
    for topic in (TELEMETRY, contracts.PREDICTIONS, contracts.DLQ):
        send(topic)
    found = resume.find(config, NOW)
    assert found == Found(Emitted(0, dict.fromkeys(range(4), 0)), ())
    assert str(found) == "nothing was emitted before"


def test_a_topic_that_is_missing_is_named(config, send):
    send(TELEMETRY)
    with pytest.raises(ResumeError, match=r"no topic predictions, or the job may not read it"):
        resume.find(config, NOW)


def test_what_comes_after_a_time_is_read_and_what_comes_later_is_not(config, send):
    send(TELEMETRY, (0, b"a"), (0, b"b"), (1, b"c"))
    topic = Topic(config["kafka"], JOB, TELEMETRY)
    send(TELEMETRY, (2, b"d"))
    assert topic.since(0) == topic.begins
    assert list(topic.read(topic.since(1))) == []  # the mock broker knows of nothing since then
    assert sorted(m.value() for m in topic.read({0: 1, 1: 0, 2: 0, 3: 0})) == [b"b", b"c"]
    firsts = {message.partition(): message.offset() for message in topic.first({0: 1, 1: 0})}
    assert firsts == {0: 1, 1: 0}
    assert list(topic.first(topic.ends)) == []


@pytest.mark.parametrize("asked", [3, None])
def test_open_transactions_are_waited_for_and_named_if_they_stay(config, send, monkeypatch, asked):
    send(TELEMETRY, *((0, b"{}") for _ in range(9)), (1, b"{}"))
    as_it_is = Topic._offsets
    answers = 0

    def offsets(self, spec, isolation=IsolationLevel.READ_UNCOMMITTED):
        nonlocal answers
        found = as_it_is(self, spec, isolation)
        if isolation is IsolationLevel.READ_COMMITTED:
            answers += 1
            if asked is None or answers < asked:
                return found | {0: 4}
        return found

    monkeypatch.setattr(Topic, "_offsets", offsets)
    monkeypatch.setattr(resume, "_COMMITTED_WITHIN_S", 60 if asked else 0.5)
    topic = Topic(config["kafka"], JOB, TELEMETRY)
    if asked:
        assert answers == asked
        assert (topic.ends[0], topic.held_back) == (9, ())
    else:
        assert (topic.ends[0], topic.held_back) == (4, (f"{TELEMETRY}/0",))
        said = str(Found(Emitted(), topic.held_back))
        assert "at the end of telemetry.pump/0 a transaction is open" in said


# How a job comes in


@pytest.fixture
def kafka(tmp_path, monkeypatch):
    """The settings of a job that logs in, whose file is where they say."""
    monkeypatch.setattr(filters, "LOGINS", str(tmp_path))
    jaas = login.kafka_jaas(JOB, {JOB: "a=b;c/d"})
    (tmp_path / f"{JOB}.properties").write_text(f"sasl.jaas.config={jaas}\n")
    return filters._kafka("a:9092,b:9092", JOB)


def test_a_job_comes_in_as_other_programs_do(kafka):
    programs = login.kafka_client("a:9092,b:9092", security=True)
    expected = login.kafka_login(programs, JOB, {JOB: "a=b;c/d"})
    found = resume.client_settings(kafka)
    assert found | {"security.protocol": "sasl_ssl"} == expected
    assert found["security.protocol"].lower() == "sasl_ssl"
    assert resume.client_settings(filters._kafka("a:1", None)) == {"bootstrap.servers": "a:1"}


@pytest.mark.parametrize("text", ["", "sasl.jaas.config=x required;\n", "other=1\n"])
def test_a_login_that_is_not_there_is_named(kafka, tmp_path, text):
    (tmp_path / f"{JOB}.properties").write_text(text)
    with pytest.raises(ResumeError, match=rf"{JOB}.properties.*no username and password"):
        resume.client_settings(kafka)
    with pytest.raises(ResumeError, match=r"names no file"):
        resume.client_settings(kafka | {"sasl.jaas.config": "x"})


def test_a_setting_that_librdkafka_does_not_have_is_named(kafka):
    with pytest.raises(ResumeError, match=r"ssl\.keystore\.location"):
        resume.client_settings(kafka | {"ssl.keystore.location": "/x"})


# Beside the state


def test_what_was_emitted_is_kept(tmp_path):
    file = tmp_path / JOB / "v1" / "emitted.json"
    assert resume.load(file) == Emitted()
    for emitted in (Emitted(NOW, {0: 17, 11: 4}), Emitted(NOW + 1, {})):
        resume.save(file, emitted)
        assert resume.load(file) == emitted
        assert list(file.parent.iterdir()) == [file]
