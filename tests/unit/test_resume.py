"""What a job emitted before it lost its state is found, and no more than that."""

import re
from random import Random
from types import SimpleNamespace

import orjson
import pytest
from confluent_kafka import Consumer, IsolationLevel, Producer, TopicPartition
from kafka import KafkaAdminClient
from kafka.errors import KafkaConnectionError
from samples import PREDICTION
from test_anomaly_sql import CONFIG

from flink_jobs import contracts, resume
from flink_jobs.jobs.anomaly_sql import Emitted, statements
from flink_jobs.resume import ResumeError, Topic
from plugins.filter import kafka as login
from plugins.filter import plant as filters

NOW = 1_700_000_000_000
MINUTE = 60_000
DAY = 24 * 60 * MINUTE
JOB = "plantline-anomaly-pump"
TELEMETRY = contracts.telemetry_topic("pump")
SLIDE = 10_000
ABORTED_2 = "transactions that were left open and are aborted now: 2"


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


# Transactions that were left open


class Admin:
    """Stands in for kafka-python's client: transactions by their ids, on two brokers."""

    def __init__(self, open_ids):
        self.open_ids = open_ids
        self.settings = None
        self.is_closed = False

    def __call__(self, **settings):
        self.settings = settings
        return self

    def list_transactions(self, state_filters):
        assert state_filters == ["Ongoing"]
        if self.open_ids is None:
            raise KafkaConnectionError("nobody there")
        listed = [SimpleNamespace(transactional_id=one) for one in self.open_ids]
        return {1: listed[::2], 2: listed[1::2]}

    def close(self):
        self.is_closed = True


@pytest.fixture
def left_open(monkeypatch):
    """Says which transactions are open; returns the client that lists them, and what came in."""

    def left_open(*open_ids):
        admin, came_in = Admin(open_ids), []

        class Coming:
            def __init__(self, settings):
                self.settings = settings

            def init_transactions(self, _):
                came_in.append(self.settings)

        monkeypatch.setattr(resume, "KafkaAdminClient", admin)
        monkeypatch.setattr(resume, "Producer", Coming)
        return admin, came_in

    return left_open


LOGIN = {
    "bootstrap.servers": "a:9092,b:9092",
    "security.protocol": "SASL_SSL",
    "ssl.ca.location": "/ca.pem",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": JOB,
    "sasl.password": "secret",
}


def test_all_that_the_jobs_sinks_left_open_is_ended_and_nothing_else(left_open):
    text = "\n".join(statements(CONFIG, "m", "1", 1.0)[0])
    prefixes = re.findall(r"'sink\.transactional-id-prefix' = '(.+)'", text)
    assert len(prefixes) == text.count("'exactly-once'") == 2
    ours = [f"{prefix}-{subtask}-17" for prefix in prefixes for subtask in range(2)]
    others = [f"{JOB}-x-0-17", f"{JOB}2-0-17", f"{JOB}-0", f"x{JOB}-0-17", f"{JOB}-0-17-5"]
    admin, came_in = left_open(*others, *ours)
    assert resume.end_transactions(LOGIN, CONFIG["job_name"]) == len(ours)
    assert came_in == [{**LOGIN, "transactional.id": one} for one in sorted(ours)]
    assert admin.is_closed


def test_the_client_that_lists_comes_in_as_the_job_does(left_open):
    admin, came_in = left_open()
    assert resume.end_transactions(LOGIN, JOB) == 0
    assert came_in == []
    assert set(LOGIN.values()) < set(admin.settings.values())
    assert set(admin.settings) <= set(KafkaAdminClient.DEFAULT_CONFIG)


def test_a_kafka_that_does_not_list_transactions_is_no_kafka_without_any(left_open):
    admin, _ = left_open()
    admin.open_ids = None
    with pytest.raises(ResumeError, match=r"does not tell which transactions .* nobody there"):
        resume.end_transactions(LOGIN, JOB)
    assert admin.is_closed


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


def test_windows_and_offsets_are_found_in_kafka(config, send, commit, timeless, left_open):
    left_open(f"{JOB}-0-9", f"{JOB}-dlq-1-9")
    send(TELEMETRY, *((partition, b"{}") for partition in range(3) for _ in range(8)))
    send(contracts.PREDICTIONS, *((n % 4, prediction(NOW + n * SLIDE)) for n in range(10)))
    source = f"kafka:{TELEMETRY}/1/6".encode()
    send(contracts.DLQ, (0, b"[1]"), headers={"dlq.source": source})
    commit({0: 8, 1: 5, 3: 7})  # there is nothing on 3, so that was another topic's
    said = []
    found = resume.find(config, NOW, said.append)
    assert found == Emitted(NOW + 9 * SLIDE, {0: 8, 1: 7, 2: 0, 3: 0})
    assert said == [ABORTED_2, "windows up to 2023-11-14T22:14:50Z are not emitted again"]


def test_a_job_that_never_ran_has_emitted_nothing(config, send, left_open):
    left_open()
    for topic in (TELEMETRY, contracts.PREDICTIONS, contracts.DLQ):
        send(topic)
    said = []
    found = resume.find(config, NOW, said.append)
    assert found == Emitted(0, dict.fromkeys(range(4), 0))
    assert said == ["nothing was emitted before"]


def test_a_topic_that_is_missing_is_named(config, send, left_open):
    left_open()
    send(TELEMETRY)
    with pytest.raises(ResumeError, match=r"no topic predictions, or the job may not read it"):
        resume.find(config, NOW, print)


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


@pytest.fixture
def held_back(monkeypatch):
    """Holds partition 0 of all topics back at an offset, as often as it is asked for."""
    as_it_is = Topic._offsets

    def held_back(offset, times):
        left = times

        def offsets(self, spec, isolation=IsolationLevel.READ_UNCOMMITTED):
            nonlocal left
            found = as_it_is(self, spec, isolation)
            if isolation is IsolationLevel.READ_COMMITTED and left > 0:
                left -= 1
                return found | {0: offset}
            return found

        monkeypatch.setattr(Topic, "_offsets", offsets)

    return held_back


def test_transactions_of_others_are_waited_for(config, send, held_back):
    send(contracts.PREDICTIONS, *((0, b"{}") for _ in range(9)), (1, b"{}"))
    held_back(4, times=3)
    topic = Topic(config["kafka"], JOB, contracts.PREDICTIONS)
    assert topic.ends == {0: 4, 1: 1, 2: 0, 3: 0}
    topic.settle()
    assert topic.ends == {0: 9, 1: 1, 2: 0, 3: 0}


@pytest.mark.parametrize("name", [contracts.PREDICTIONS, contracts.DLQ])
def test_a_transaction_that_stays_open_is_named_with_the_remedy(
    config, send, held_back, left_open, monkeypatch, name
):
    for topic in (TELEMETRY, contracts.PREDICTIONS, contracts.DLQ):
        send(topic)
    send(name, *((0, b"{}") for _ in range(9)))
    left_open(f"{JOB}-0-9", f"{JOB}-dlq-1-9")
    held_back(4, times=10**9)
    monkeypatch.setattr(resume, "_COMMITTED_WITHIN_S", 0.3)
    told = []
    with pytest.raises(ResumeError) as refused:
        resume.find(config, NOW, told.append)
    # Whoever tries again finds those no more.
    assert told == [ABORTED_2]
    for said in (
        f"{name}/0/4 ",
        resume.OTHERS_FIRST,
        f"kafka-transactions.sh abort --topic {name} ",
    ):
        assert said in str(refused.value)


def test_what_gateways_left_open_keeps_no_job_from_its_start(config, send, held_back, left_open):
    send(TELEMETRY, *((0, b"{}") for _ in range(9)))
    for topic in (contracts.PREDICTIONS, contracts.DLQ):
        send(topic)
    left_open()
    held_back(0, times=10**9)
    assert resume.find(config, NOW, print) == Emitted(0, dict.fromkeys(range(4), 0))


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
