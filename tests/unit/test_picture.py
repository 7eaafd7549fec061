"""What the exporter makes of records: metrics that say how the plant stands, and no more of them
than machines have room."""

import dataclasses

import pytest
from prometheus_client import CollectorRegistry
from samples import ALERT, PREDICTION

from flink_jobs import contracts
from flink_jobs.picture import Growth, Picture

PUMP = {"machine_id": "p1", "machine_type": "pump"}
ANOMALY = PUMP | {"kind": "anomaly", "model": "pump-anomaly"}
NOW = 1_700_000_000_000
DAY = 86_400_000


class Record:
    """Stands in for a record as the Kafka client returns it."""

    def __init__(self, topic, value, appended=NOW, headers=None):
        self._topic, self._value, self._appended = topic, value, appended
        self._headers = headers

    def topic(self):
        return self._topic

    def value(self):
        return self._value

    def headers(self):
        return self._headers

    def timestamp(self):
        return 2, self._appended


def prediction(appended=NOW, **changes):
    value = contracts.encode_prediction(dataclasses.replace(PREDICTION, **changes))
    return Record(contracts.PREDICTIONS, value, appended)


def alert(**changes):
    value = contracts.encode_alert(dataclasses.replace(ALERT, **changes))
    return Record(contracts.ALERTS, value)


def reading(machine_id, ts=NOW, appended=NOW, **values):
    value = contracts.encode_reading(contracts.Reading(machine_id, ts, values))
    return Record("telemetry.pump", value, appended)


def picture(*records, limit=10, counted=True):
    result = Picture(limit)
    for record in records:
        result.add(record, counted=counted)
    return result


class Served:
    """What a scrape would find."""

    def __init__(self, picture):
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._picture = picture

    def collect(self):
        return self._picture.metrics()

    def value(self, name, **labels):
        return self._registry.get_sample_value(f"plantline_{name}", labels)

    def all(self, name):
        samples = [s for family in self.collect() for s in family.samples]
        return {
            tuple(sample.labels.values()): sample.value
            for sample in samples
            if sample.name == f"plantline_{name}"
        }


def served(*records, **options):
    return Served(picture(*records, **options))


def test_a_machine_shows_its_newest_window_whatever_the_order():
    found = served(
        prediction(appended=NOW + 5, window_end=120_000, score=2.5),
        prediction(appended=NOW, window_end=60_000, score=9.0),
    )
    assert found.value("machine_score", **ANOMALY) == 2.5
    assert found.value("machine_threshold", **ANOMALY) == 1.0
    assert found.value("machine_window_end_seconds", **PUMP) == 120
    assert found.value("machine_prediction_timestamp_seconds", **PUMP) == (NOW + 5) / 1000
    model = {"machine_type": "pump", "kind": "anomaly", "model": "pump-anomaly"}
    assert found.value("model_info", **model, model_version="1") == 1
    assert found.value("predictions_total", **model) == 2


def test_a_machine_that_is_commissioned_has_no_score_yet():
    found = served(prediction(score=None, threshold=None, is_alert=False))
    assert found.value("machine_score", **ANOMALY) is None
    assert found.value("machine_window_end_seconds", **PUMP) == 60


def test_records_from_before_the_start_fill_gauges_and_no_counters():
    found = served(prediction(), alert(), counted=False)
    assert found.value("machine_score", **ANOMALY) == 1.5
    assert found.value("machine_alert", **PUMP, rule="anomaly") == 1
    # There from the start, so that the first one counted is an increase.
    assert list(found.all("predictions_total").values()) == [0]
    assert list(found.all("alerts_total").values()) == [0]


def test_an_alert_is_up_until_it_is_cleared_and_repeats_change_nothing():
    raised, cleared = alert(), alert(state="cleared", ts=70_000)
    up = PUMP | {"rule": "anomaly"}
    assert served(raised, raised).value("machine_alert", **up) == 1
    found = served(raised, raised, cleared)
    assert found.value("machine_alert", **up) == 0
    assert found.all("alerts_total") == {
        ("pump", "anomaly", "warning", "raised"): 2,
        ("pump", "anomaly", "warning", "cleared"): 1,
    }
    # At least once: what was raised before may come again behind what cleared it.
    assert served(raised, cleared, raised).value("machine_alert", **up) == 0


def test_one_channel_back_inside_its_limits_does_not_clear_the_other():
    def limit(channel, state, ts):
        return alert(rule="limit", model=None, channel=channel, state=state, ts=ts)

    records = [limit("pressure", "raised", 1), limit("current", "raised", 2)]
    records.append(limit("current", "cleared", 3))
    assert served(*records).value("machine_alert", **PUMP, rule="limit") == 1
    records.append(limit("pressure", "cleared", 4))
    assert served(*records).value("machine_alert", **PUMP, rule="limit") == 0


def test_one_limit_of_a_channel_that_is_kept_again_does_not_clear_the_other():
    def limit(severity, threshold, state, ts):
        changes = {"rule": "limit", "model": None, "channel": "pressure", "severity": severity}
        return alert(**changes, threshold=threshold, state=state, ts=ts)

    records = [limit("warning", 10.0, "raised", 1), limit("critical", 12.0, "raised", 2)]
    records.append(limit("critical", 12.0, "cleared", 3))
    assert served(*records).value("machine_alert", **PUMP, rule="limit") == 1
    records.append(limit("warning", 10.0, "cleared", 4))
    assert served(*records).value("machine_alert", **PUMP, rule="limit") == 0


def test_the_heartbeat_is_in_its_own_metric_and_in_no_other():
    beat = {"machine_id": "_heartbeat", "machine_type": "_heartbeat"}
    found = served(
        prediction(appended=NOW, **beat), prediction(appended=NOW - 9, **beat), alert(**beat)
    )
    assert found.value("heartbeat_timestamp_seconds") == NOW / 1000
    for name in ("predictions_total", "alerts_total", "machine_info", "machine_alert"):
        assert found.all(name) == {}


def test_without_a_heartbeat_there_is_no_figure_that_looks_like_one():
    assert served(prediction()).all("heartbeat_timestamp_seconds") == {}


@pytest.mark.parametrize("machine", ["_probe", "_clock"])
def test_the_plants_own_machines_are_not_shown(machine):
    shown = picture(prediction(machine_id=machine))
    shown.sample("pump", ["pressure"], reading(machine, pressure=1.0))
    assert Served(shown).all("machine_info") == {}


def test_declared_machines_are_there_before_they_speak_and_tell_where_they_stand():
    shown = Picture(10)
    shown.declare([PUMP | {"line": "line-1", "area": "hall-a"}, PUMP | {"machine_id": "p2"}])
    found = Served(shown)
    assert found.value("machine_info", **PUMP, line="line-1", area="hall-a") == 1
    assert found.value("machine_info", **(PUMP | {"machine_id": "p2"}), line="", area="") == 1
    assert found.all("machine_score") == {}
    shown.declare([PUMP | {"line": "line-2"}])
    assert found.value("machine_info", **PUMP, line="line-2", area="") == 1


def test_a_sample_shows_the_newest_value_of_each_channel():
    shown = Picture(10)
    shown.sample("pump", ["pressure", "current"], reading("p1", pressure=1.5, current=7.0))
    shown.sample("pump", ["pressure", "current"], reading("p1", pressure=2.5, current=None))
    shown.sample("pump", ["pressure", "current"], Record("telemetry.pump", b"{"))
    found = Served(shown)
    assert found.value("machine_channel", **PUMP, channel="pressure") == 2.5
    assert found.value("machine_channel", **PUMP, channel="current") == 7.0


def test_machines_beyond_the_limit_are_counted_and_cost_no_series():
    shown = picture(*(prediction(machine_id=f"m{n}") for n in range(8)), limit=5)
    found = Served(shown)
    assert len(found.all("machine_score")) == 5
    assert found.value("machines_omitted") == 3
    # They are left out, not left uncounted.
    assert list(found.all("predictions_total").values()) == [8]


def test_declared_machines_take_the_room_of_those_that_nobody_declared():
    shown = picture(*(prediction(NOW + n, machine_id=f"m{n}") for n in (2, 1, 3)), limit=3)
    shown.declare([PUMP])
    assert {machine for machine, *_ in Served(shown).all("machine_info")} == {"m2", "m3", "p1"}
    shown.declare([PUMP | {"machine_id": f"p{n}"} for n in range(1, 6)])
    assert {machine for machine, *_ in Served(shown).all("machine_info")} == {"p1", "p2", "p3"}
    assert Served(shown).value("machines_omitted") == 2


def test_a_machine_that_nobody_declared_is_forgotten_after_a_day_of_silence():
    shown = picture(prediction(), prediction(machine_id="p2"), prediction(machine_id="m3"), limit=2)
    shown.declare([PUMP])
    shown.forget(NOW + DAY - 1)
    assert len(Served(shown).all("machine_info")) == 2
    shown.forget(NOW + DAY)
    assert Served(shown).all("machine_info") == {("p1", "pump", "", ""): 1}
    assert Served(shown).value("machines_omitted") == 0, "there is room again"


def test_dead_letters_are_counted_by_their_reason():
    late = [("dlq.source", b"kafka:t/0/1"), ("dlq.reason", b"late")]
    records = [Record(contracts.DLQ, b"x", headers=late)] * 2
    assert served(*records, Record(contracts.DLQ, b"x")).all("dead_letters_total") == {
        ("late",): 2,
        ("unknown",): 1,
    }


def test_what_is_no_prediction_or_alert_changes_nothing():
    broken = [Record(contracts.PREDICTIONS, b"{"), Record(contracts.ALERTS, None)]
    assert served(*broken).all("predictions_total") == {}


def test_growth_begins_at_the_first_look():
    growth = Growth()
    assert growth.step({("t", 0): 100, ("t", 1): 0}) == {("t", 0): 0}
    assert growth.step({("t", 0): 100, ("t", 1): 0}) == {}
    assert growth.step({("t", 0): 130, ("t", 1): 5}) == {("t", 0): 30, ("t", 1): 5}


def test_a_partition_added_later_and_a_topic_made_anew_are_new_from_their_beginning():
    growth = Growth()
    growth.step({("t", 0): 100})
    assert growth.step({("t", 0): 100, ("t", 1): 7}) == {("t", 1): 7}
    assert growth.step({("t", 0): 3, ("t", 1): 7}) == {("t", 0): 3}
