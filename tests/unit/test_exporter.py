"""The exporter reads as any client does, here from librdkafka's mock broker."""

import dataclasses
import gc
import json

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from prometheus_client import CollectorRegistry
from samples import PREDICTION

from flink_jobs import contracts, exporter
from flink_jobs.exporter import FOLLOWED, Config, Ends, Exporter, Follower

TOPIC = "telemetry.pump"
CONFIG = Config(
    machine_types={"pump": ["pressure"], "_heartbeat": ["beat"]},
    groups={"plantline-anomaly-pump": TOPIC},
    machines=10,
    address="127.0.0.1",
    port=0,
    certificate="cert.pem",
    key="key.pem",
    ca="ca.pem",
)


@pytest.fixture
def kafka(mock_kafka):
    """Client settings; the topics are there."""
    settings = {"bootstrap.servers": mock_kafka, "log_level": "0"}
    producer = Producer(settings)
    for topic in (*FOLLOWED, TOPIC, "telemetry._heartbeat"):
        producer.list_topics(topic, timeout=10)
    return settings


def send(kafka, topic, *values, partition=0):
    producer = Producer(kafka)
    for value in values:
        producer.produce(topic, value, partition=partition)
    assert producer.flush(10) == 0


def prediction(window_end):
    return contracts.encode_prediction(dataclasses.replace(PREDICTION, window_end=window_end))


def reading(pressure):
    return contracts.encode_reading(contracts.Reading("p1", 1, {"pressure": pressure}))


def read(follower, count):
    """Records until there are so many."""
    found = []
    for _ in range(100):
        found += follower.read(0.1)
        if len(found) >= count:
            return found
    raise AssertionError(f"{len(found)} records of {count}")


def test_records_from_before_the_start_are_told_from_those_behind(kafka):
    send(kafka, contracts.PREDICTIONS, prediction(1), prediction(2))
    follower = Follower(kafka)
    places = Ends(kafka).places(FOLLOWED)
    follower.follow(places)
    send(kafka, contracts.PREDICTIONS, prediction(3))
    # A second look at the same partitions reads nothing twice.
    follower.follow(places)
    found = [
        (contracts.parse_prediction(message.value()).window_end, counted)
        for message, counted in read(follower, 3)
    ]
    assert found == [(1, False), (2, False), (3, True)]


def test_the_lag_is_what_the_group_has_not_committed(kafka):
    send(kafka, TOPIC, *(reading(1.0) for _ in range(5)))
    committer = Consumer(kafka | {"group.id": "plantline-anomaly-pump"})
    committer.commit(offsets=[TopicPartition(TOPIC, 0, 3)], asynchronous=False)
    committer.close()
    ends = Ends(kafka)
    assert ends.lag("plantline-anomaly-pump", ends.ends([(TOPIC, 0), (TOPIC, 1)])) == {
        (TOPIC, 0): 2
    }


def test_samples_are_the_last_records_of_each_partition(kafka):
    send(kafka, TOPIC, *(reading(float(n)) for n in range(700)))
    send(kafka, TOPIC, reading(-1.0), partition=1)
    ends = Ends(kafka)
    found = [
        contracts.parse_reading(message.value(), ["pressure"]).values["pressure"]
        for message in ends.newest(ends.ends([(TOPIC, 0), (TOPIC, 1)]))
    ]
    assert sorted(found)[0] == -1.0
    assert max(found) == 699.0
    assert len(found) == 501


def test_a_topic_that_is_not_there_yet_is_waited_for(kafka):
    assert Ends(kafka).places(["no.such.topic"]) == []


class Scraped:
    """An exporter at work, as Prometheus sees it."""

    def __init__(self, kafka, tmp_path):
        machines = tmp_path / "machines.json"
        registration = contracts.registration("p1", "pump", valid_from=0, line="line-1")
        machines.write_text(json.dumps([registration]))
        self._exporter = Exporter(kafka, CONFIG, machines)
        self._registry = CollectorRegistry()
        self._registry.register(self._exporter)

    def look_now(self):
        self._exporter._due = 0.0

    def eventually(self, name, expected, **labels):
        found = None
        for _ in range(30):
            self._exporter.step()
            found = self._registry.get_sample_value(f"plantline_{name}", labels)
            if found == expected:
                return
        raise AssertionError(f"{name} is {found}, not {expected}")


class StuckOnce(Ends):
    """The first client never gets an answer about groups; those after it do."""

    made = 0

    def __init__(self, kafka):
        super().__init__(kafka)
        StuckOnce.made += 1
        self._stuck = StuckOnce.made == 1

    def lag(self, group, ends):
        if self._stuck:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return super().lag(group, ends)


def test_a_client_that_is_stuck_is_replaced_and_records_are_read_meanwhile(
    kafka, tmp_path, monkeypatch
):
    send(kafka, TOPIC, reading(1.0), reading(2.0))
    committer = Consumer(kafka | {"group.id": "plantline-anomaly-pump"})
    committer.commit(offsets=[TopicPartition(TOPIC, 0, 1)], asynchronous=False)
    committer.close()
    send(kafka, contracts.PREDICTIONS, prediction(60_000))
    monkeypatch.setattr(StuckOnce, "made", 0)
    monkeypatch.setattr(exporter, "Ends", StuckOnce)
    scraped = Scraped(kafka, tmp_path)
    machine = {"machine_id": PREDICTION.machine_id, "machine_type": "pump"}
    scraped.eventually("machine_window_end_seconds", 60.0, **machine)
    monkeypatch.setattr(exporter, "_LOOK_EVERY_S", 0.0)
    scraped.look_now()
    scraped.eventually(
        "consumer_lag", 1.0, group="plantline-anomaly-pump", topic=TOPIC, partition="0"
    )


def test_what_happens_in_the_topics_is_seen_by_a_scrape(kafka, tmp_path):
    send(kafka, TOPIC, reading(4.0))
    scraped = Scraped(kafka, tmp_path)
    machine = {"machine_id": "p1", "machine_type": "pump"}
    scraped.eventually("machine_channel", 4.0, **machine, channel="pressure")
    scraped.eventually("readings_total", 0.0, machine_type="pump")
    scraped.eventually("machine_info", 1.0, **machine, line="line-1", area="")
    send(kafka, TOPIC, reading(5.0), reading(6.0))
    send(kafka, contracts.PREDICTIONS, prediction(60_000))
    scraped.eventually("readings_total", 2.0, machine_type="pump")
    scraped.eventually("machine_channel", 6.0, **machine, channel="pressure")
    scraped.eventually(
        "predictions_total", 1.0, machine_type="pump", kind="anomaly", model="pump-anomaly"
    )


@pytest.fixture
def lost(monkeypatch):
    """Client settings of brokers that were there, and a call that ends them."""
    monkeypatch.setattr(exporter, "_ANSWER_WITHIN_S", 0.5)
    monkeypatch.setattr(exporter, "_LOOK_EVERY_S", 0.0)
    brokers = [Producer({"test.mock.num.brokers": 2, "log_level": 0})]
    known = brokers[0].list_topics(timeout=10).brokers.values()
    kafka = {"bootstrap.servers": ",".join(f"{b.host}:{b.port}" for b in known), "log_level": "0"}
    producer = Producer(kafka)
    for topic in (*FOLLOWED, TOPIC, "telemetry._heartbeat"):
        producer.list_topics(topic, timeout=10)

    def end():
        brokers.clear()
        gc.collect()

    return kafka, end


def test_brokers_that_go_away_are_waited_for(lost, tmp_path):
    kafka, end = lost
    machines = tmp_path / "machines.json"
    machines.write_text("[]")
    watching = Exporter(kafka, CONFIG, machines)
    watching.step()
    end()
    for _ in range(3):
        watching.step()


@pytest.mark.parametrize(
    "question",
    [
        lambda ends: ends.places([TOPIC]),
        lambda ends: ends.ends([(TOPIC, 0)]),
        lambda ends: ends.lag("plantline-anomaly-pump", {(TOPIC, 0): 5}),
    ],
    ids=["places", "ends", "lag"],
)
def test_a_question_to_brokers_that_went_away_fails_as_kafka_does(lost, question):
    kafka, end = lost
    ends = Ends(kafka)
    ends.places([TOPIC])
    end()
    with pytest.raises(KafkaException):
        question(ends)


def test_the_configuration_is_the_one_that_the_role_writes(tmp_path):
    file = tmp_path / "exporter.json"
    file.write_text(json.dumps(dataclasses.asdict(CONFIG)))
    assert Config.load(file) == CONFIG
    assert CONFIG.telemetry == {TOPIC: "pump"}, "the heartbeat has a metric of its own"
