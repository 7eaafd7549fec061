"""What a reader finds in the report: every machine, figures that can be counted again.

The page is read as XML, so that an unclosed tag or an unescaped name is a failure, too.
"""

import dataclasses
import re
from xml.etree import ElementTree

import orjson
import pytest
from confluent_kafka import Producer
from samples import ALERT, PREDICTION

from flink_jobs import contracts
from flink_jobs.plant import Channel, Limit, Machine, MachineType, Plant
from flink_jobs.tools import report
from flink_jobs.tools.report_figures import Records
from flink_jobs.tools.truth import TrueFault, Truth, write_truths

PUMP = MachineType(
    "pump",
    (
        Channel("pressure", "bar", -1, 16, limits=(Limit("warning", high=6.0),)),
        Channel("current", "A", 0, 50),
    ),
    window_s=60,
    slide_s=10,
)
PLANT = Plant("works", "accept", {"pump": PUMP}, (Machine("p1", "pump", "line-1", "hall-a"),))
NONE = "\N{EN DASH}"
HOSTILE = '<script>alert("1")</script>&\''


class Data:
    """Builds records: a machine normal at half the threshold, anomalous in the given windows."""

    def __init__(self, limit=40):
        self.records = Records(limit)

    def windows(self, machine_id, ends, anomalous=(), commissioning=(), **changes):
        for end in ends:
            scored = end not in commissioning
            flagged = end in anomalous
            record = dataclasses.replace(
                PREDICTION,
                machine_id=machine_id,
                window_start=end - 60_000,
                window_end=end,
                score=(3.0 if flagged else 0.5) if scored else None,
                threshold=1.0 if scored else None,
                is_alert=flagged,
                **changes,
            )
            self.records.add_prediction(contracts.encode_prediction(record))
        return self

    def alert(self, machine_id, raised, cleared=None, told=("raised", "cleared"), **changes):
        name = contracts.alert_id(machine_id, "anomaly", "pump-anomaly", raised)
        for state, ts in (("raised", raised), ("cleared", cleared)):
            if ts is not None and state in told:
                record = dataclasses.replace(
                    ALERT, machine_id=machine_id, alert_id=name, state=state, ts=ts, **changes
                )
                self.records.add_alert(contracts.encode_alert(record))
        return self

    def readings(self, machine_id, times, pressure=5.0):
        for ts in times:
            reading = contracts.Reading(machine_id, ts, {"pressure": pressure, "current": None})
            self.records.add_reading(contracts.encode_reading(reading), PUMP)
        return self

    def page(self, *truths, limit=40, plant=PLANT):
        known = {one.machine_id: one for one in truths}
        text = report.page(self.records, plant, known, since=0, made=1_700_000_000_000, limit=limit)
        return Page(text)


class Page:
    def __init__(self, text):
        self.html = text
        self.tree = ElementTree.fromstring(text)  # noqa: S314  (a page of our own)

    @property
    def text(self):
        return words(self.tree.find("body"))

    @property
    def sections(self):
        return {words(section.find("header/h2")): section for section in self.tree.iter("section")}

    @property
    def rows(self):
        """Cells of the table of machines, by machine; the drawn strip is left out."""
        table = self.tree.find("body/table")
        found = ([words(cell) for cell in row] for row in table.find("tbody"))
        return {cells[0]: [cells[1], *cells[3:]] for cells in found}

    @property
    def sums(self):
        """Summary figures by what they are called."""
        return {
            words(one.find("dt")): words(one.find("dd"))
            for one in self.tree.iter("div")
            if one.find("dt") is not None
        }

    def classes(self, machine, name):
        return [e for e in self.sections[machine].iter() if e.get("class") == name]


def words(element):
    return " ".join(" ".join(element.itertext()).split())


def minutes(*numbers):
    return [60_000 * number for number in numbers]


def typical():
    """p1: a fault from minute 10 to 20, found after two minutes, and a false alert. p2: healthy."""
    ends = minutes(*range(1, 31))
    data = Data()
    data.readings("p1", range(0, 1_800_000, 1000)).readings("p2", range(0, 1_800_000, 2000))
    data.windows("p1", ends, minutes(12, 13, 14, 25), minutes(*range(1, 7)))
    data.windows("p2", ends, commissioning=minutes(*range(1, 7)))
    data.alert("p1", *minutes(12, 15)).alert("p1", *minutes(25, 26))
    fault = TrueFault("closing_valve", *minutes(10, 20))
    return data, [Truth("p1", 0, 1_800_000, (fault,)), Truth("p2", 0, 1_800_000)]


def test_summary_figures_are_those_of_the_records():
    data, truths = typical()
    assert data.page(*truths).sums == {
        "machines": "2",
        "readings": "2,700",
        "windows scored of 60": "48",
        "windows anomalous": "4",
        "machines in commissioning": "0",
        "alerts raised, 0 still up": "2",
        "faults detected of 1 known": "1",
        "median delay of detection": "2 min",
        "false alerts on 2 machines": "1",
    }


def test_every_machine_has_a_row_with_its_figures_and_a_link_to_its_section():
    data, truths = typical()
    page = data.page(*truths)
    assert page.rows == {
        "p1": ["line-1, hall-a", "1,800", "24", "2", "3.00", "1 of 1", "2 min", "1"],
        "p2": ["", "900", "24", "0", "0.500", "none had", NONE, "0"],
    }
    links = {words(a): a.get("href") for a in page.tree.iter("a") if a.get("href") != "#top"}
    targets = {name: f"#{section.get('id')}" for name, section in page.sections.items()}
    assert links == targets
    assert set(targets) == {"p1", "p2"}


def test_a_machine_shows_its_channels_score_alerts_and_truth():
    data, truths = typical()
    page = data.page(*truths)
    section = words(page.sections["p1"])
    assert "1,800 readings; 30 windows, 6 while commissioning, 4 anomalous" in section
    assert "highest score 3.00 times the threshold; model pump-anomaly 1, threshold 1.00" in section
    assert "closing valve, 00:10:00 to 00:20:00: detected after 2 min" in section
    assert "normal at the end" in section
    cells = [[words(c) for c in row] for row in page.sections["p1"].find("table/tbody")]
    message = "score 1.5 is above 1.0"
    assert cells == [
        ["00:12:00", "3 min", "anomaly, warning", message, "closing valve"],
        ["00:25:00", "1 min", "anomaly, warning", message, "false alert"],
    ]
    named = [words(e).split()[0] for e in page.classes("p1", "name")]
    assert named[-3:] == ["score", "pressure", "current"]
    assert {"bar", "A"} <= {words(e) for e in page.classes("p1", "tick")}
    assert "warning limit" in section
    assert len(page.classes("p1", "alert")) == 2
    assert len(page.classes("p1", "fault")) == 1
    assert len(page.classes("p1", "learning")) == 1
    assert "Known to have had no fault." in words(page.sections["p2"])


def test_alerts_stand_where_they_were_on_the_time_axis():
    data, truths = typical()
    (bar, _) = data.page(*truths).classes("p1", "alert")
    pixels = 960 / 30
    assert float(bar.get("x")) == pytest.approx(190 + 12 * pixels, abs=0.2)
    assert float(bar.get("width")) == pytest.approx(3 * pixels, abs=0.2)


def test_names_that_look_like_markup_stay_text():
    data = Data().readings(HOSTILE, [0, 1000]).windows(HOSTILE, [60_000], [60_000])
    data.alert(HOSTILE, 60_000, message="</table><img src=x onerror=alert(1)>")
    page = data.page(Truth(HOSTILE, 0, 60_000, (TrueFault("<b>wear", 0, 30_000),)))
    assert HOSTILE in page.sections
    assert "</table><img src=x onerror=alert(1)>" in words(page.sections[HOSTILE])
    assert "<b>wear" in words(page.sections[HOSTILE])
    tags = {element.tag for element in page.tree.iter()}
    assert tags.isdisjoint({"script", "img", "b", "link", "iframe"})


def test_the_page_needs_no_network():
    data, truths = typical()
    html = data.page(*truths).html
    assert not re.search(r"(?:https?:)?//|@import|url\(|\bsrc=", html)


def test_an_empty_span_gives_a_page_that_says_so():
    page = Data().page()
    assert "No machine has sent anything in this time." in page.text
    assert "--since" in page.text
    assert page.sections == {}


def test_without_a_truth_nothing_is_judged():
    data, _ = typical()
    page = data.page()
    assert "Whether they were right is not known" in page.text
    assert not any("fault" in name or "false" in name for name in page.sums)
    assert all(len(cells) == 5 for cells in page.rows.values())
    assert "the truth" not in words(page.sections["p1"])


def test_machines_without_a_truth_are_left_out_of_the_judgement():
    data, (p1, _) = typical()
    page = data.page(p1)
    assert page.sums["false alerts on 1 machine"] == "1"
    assert page.rows["p2"][-1] == "truth not known"


@pytest.mark.parametrize(
    ("fault", "alerts", "told", "false"),
    [
        ((10, 20), [], "missed", 0),
        ((10, 20), [(5, 6)], "missed", 1),
        ((10, 20), [(8, 12)], "detected by an alert that was already up", 0),
        ((10, 20), [(12, 13), (15, 16)], "detected after 2 min", 0),
        ((10, 20), [(20.5, 22)], "detected after 10 min 30 s", 0),
        ((10, 20), [(21, 22)], "missed", 1),
        ((10, 20), [(12, None)], "detected after 2 min", 0),
        ((25, 40), [], "not detected by the end of the data", 0),
    ],
)
def test_alerts_are_held_against_a_known_fault(fault, alerts, told, false):
    data = Data().windows("p1", minutes(*range(1, 31))).readings("p1", minutes(*range(30)))
    for raised, cleared in alerts:
        data.alert("p1", int(raised * 60_000), cleared and cleared * 60_000)
    truth = Truth("p1", 0, 1_800_000, (TrueFault("wear", *minutes(*fault)),))
    page = data.page(truth)
    assert f": {told}" in words(page.sections["p1"])
    assert page.rows["p1"][-1] == str(false)


def test_alerts_on_sensors_and_outside_the_known_time_are_not_judged():
    data = Data().windows("p1", minutes(*range(1, 31)))
    data.alert("p1", *minutes(5, 6), rule="silent").alert("p1", *minutes(28, 29))
    page = data.page(Truth("p1", 0, 600_000))
    assert page.rows["p1"][-1] == "0"
    assert words(page.sections["p1"]).count("not known") == 2


def test_alerts_repeated_cut_off_or_still_up_are_told_as_such():
    data = Data().windows("p1", minutes(*range(1, 31)))
    data.alert("p1", *minutes(3, 5), told=["cleared"])
    data.alert("p1", *minutes(10, 12)).alert("p1", *minutes(10, 12)).alert("p1", *minutes(29))
    page = data.page()
    rows = [[words(c) for c in row][:2] for row in page.sections["p1"].find("table/tbody")]
    assert rows == [["before", "until 00:05:00"], ["00:10:00", "2 min"], ["00:29:00", "still up"]]
    assert page.sums["alerts raised, 1 still up"] == "3"
    assert "alert still up at the end" in words(page.sections["p1"])


def test_the_last_revision_of_a_window_counts():
    data = Data().windows("p1", [60_000], [60_000], revision=1).windows("p1", [60_000])
    assert data.page().sums["windows anomalous"] == "1"
    data.windows("p1", [60_000], revision=2)
    assert data.page().sums["windows anomalous"] == "0"


def test_other_kinds_of_model_are_not_taken_for_scores():
    data = Data().windows("p1", [60_000]).windows("p1", [120_000], kind="rul")
    assert data.page().sums["windows scored of 1"] == "1"


def test_what_asks_for_an_explanation_comes_first():
    data, truths = Data(), []
    for name, begin, raised in (("fast", 10, 11), ("slow", 10, 15), ("missed", 10, None)):
        data.windows(name, minutes(*range(1, 31)))
        truths.append(Truth(name, 0, 1_800_000, (TrueFault("wear", *minutes(begin, 20)),)))
        if raised:
            data.alert(name, *minutes(raised, 21))
    data.windows("false", minutes(*range(1, 31))).alert("false", *minutes(3, 4))
    data.windows("quiet", minutes(*range(1, 31)))
    truths += [Truth("false", 0, 1_800_000), Truth("quiet", 0, 1_800_000)]
    assert list(data.page(*truths).sections) == ["missed", "slow", "fast", "false", "quiet"]


def test_reserved_machines_are_not_shown():
    data = Data().windows("p1", [60_000])
    data.windows("_heartbeat", [60_000]).readings("_clock", [0]).alert("_probe", 60_000)
    page = data.page()
    assert set(page.rows) == {"p1"}
    assert "_heartbeat" not in page.html
    assert page.sums["readings"] == "0"


def test_machines_beyond_the_limit_are_counted_and_named_but_not_drawn():
    data = Data(limit=2)
    for number in range(5):
        data.windows(f"m{number}", [60_000]).readings(f"m{number}", [0, 1000])
    page = data.page(limit=2)
    assert len(page.rows) == 5
    assert len(page.sections) == 2
    assert page.sums["readings"] == "10"
    assert "Drawn below are 2 machines of 5" in page.text


def test_many_machines_with_many_readings_stay_below_five_megabytes():
    """Readings that fill every column of every chart."""
    data = Data(limit=60)
    for number in range(1200):
        data.windows(f"m{number:04}", minutes(*range(1, 4)), [60_000])
    data.records.prefer(f"m{number:04}" for number in range(60))
    for number in range(60):
        data.readings(f"m{number:04}", range(0, 180_000, 180))
        values = data.records.machines[f"m{number:04}"].values
        for step in range(len(values.ts)):
            values.columns["pressure"][step] = (step * 7919) % 1000
            values.columns["current"][step] = (step * 104_729) % 1000
    page = data.page(limit=60)
    assert len(page.html.encode()) < 5_000_000
    assert len(page.sections) == 60
    assert len(page.rows) == 1000
    assert "The table ends after 1,000 machines of 1,200" in page.text


def test_a_type_with_very_many_channels_is_cut_to_what_fits():
    kind = dataclasses.replace(PUMP, channels=tuple(Channel(f"c{n}", "1", 0, 1) for n in range(60)))
    data = Data()
    for number in range(9):
        for step in range(1500):
            noise = dict.fromkeys(kind.channel_names, (step * 7919 + number) * 31 % 1009)
            raw = orjson.dumps({"machine_id": f"m{number}", "ts": step * 100, **noise})
            data.records.add_reading(raw, kind)
    page = data.page(plant=dataclasses.replace(PLANT, machine_types={"pump": kind}))
    assert len(page.html.encode()) < 5_000_000
    assert 0 < len(page.sections) < 9
    assert f"Drawn below are {len(page.sections)} machines of 9" in page.text


def test_a_machine_of_which_only_readings_came_is_there():
    page = Data().readings("p1", range(0, 60_000, 1000)).page()
    assert page.rows["p1"] == ["line-1, hall-a", "60", "none", "0", NONE]
    assert "no scored windows" in words(page.sections["p1"])
    assert page.sums["machines in commissioning"] == "0"


def test_a_machine_without_a_score_yet_is_commissioning():
    page = Data().windows("p1", minutes(1, 2), commissioning=minutes(1, 2)).page()
    assert page.rows["p1"][2] == "0"
    assert page.sums["machines in commissioning"] == "1"
    assert words(page.sections["p1"].find("header/span[2]")) == "commissioning"


def test_a_machine_of_a_type_that_is_gone_keeps_its_score():
    other = dataclasses.replace(PLANT, machine_types={}, machines=())
    page = Data().windows("p1", minutes(1, 2)).page(plant=other)
    assert page.rows["p1"][1:3] == ["not read", "2"]
    assert "Its type is not in the plant model" in words(page.sections["p1"])


def test_declared_machines_that_sent_nothing_are_named():
    page = Data().windows("p2", [60_000]).page()
    assert "In the plant model, but without a record in this time: p1." in page.text


def test_records_that_cannot_be_read_are_counted():
    data = Data().windows("p1", [60_000])
    data.records.add_prediction(b"{")
    data.records.add_alert(b"[]")
    data.records.add_reading(b'{"machine_id": "p1"}', PUMP)
    data.records.add_failure(b"{}")
    assert "4 records could not be read and are not counted." in data.page().text


def test_recorded_failures_are_marked():
    data = Data().windows("p1", minutes(1, 2, 3))
    failure = {"machine_id": "p1", "ts": 90_000, "component": "comp2"}
    data.records.add_failure(orjson.dumps(failure))
    data.records.add_failure(orjson.dumps(failure | {"machine_id": "unknown"}))
    (mark,) = data.page().classes("p1", "failure")
    assert words(mark) == "failure: comp2"


def test_times_carry_their_date_where_there_is_more_than_one():
    data = Data().windows("p1", [60_000, 90_000_000]).alert("p1", 60_000, 90_000_000)
    page = data.page()
    assert "1970-01-01 00:01:00" in words(page.sections["p1"])
    assert "Machine time 1970-01-01 00:00 to 1970-01-02 01:00." in page.text
    assert "All times are UTC." in page.text


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0 s"), (59_400, "59 s"), (59_600, "1 min"), (110_000, "1 min 50 s"),
     (3_600_000, "1 h"), (7_500_000, "2 h 5 min"), (280_800_000, "3 d 6 h")],
)  # fmt: skip
def test_durations_are_told_in_two_units(ms, text):
    assert report.duration(ms) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.4521, "0.452"), (34.52, "34.5"), (1230.4, "1,230"), (1e6, "1,000,000")],
)
def test_figures_have_three_digits(value, text):
    assert report.figure(value) == text


@pytest.fixture
def plant_files(tmp_path, mock_kafka):
    """A client file, a plant model, and a broker that has its topics and a little data."""
    producer = Producer({"bootstrap.servers": mock_kafka, **contracts.PRODUCER_DEFAULTS})
    reading = contracts.Reading("p1", 1000, {"pressure": 5.0})
    prediction = dataclasses.replace(PREDICTION, threshold=1.0)
    for topic, value in (
        (contracts.PREDICTIONS, contracts.encode_prediction(prediction)),
        (contracts.ALERTS, contracts.encode_alert(ALERT)),
        (contracts.telemetry_topic("pump"), contracts.encode_reading(reading)),
        (contracts.FAILURES, orjson.dumps({"machine_id": "p1", "ts": 1, "component": "seal"})),
    ):
        producer.produce(topic, value, b"p1")
    assert producer.flush(10) == 0
    client = tmp_path / "client.conf"
    client.write_text(f"bootstrap.servers={mock_kafka}\n")
    plant = tmp_path / "plant.yml"
    plant.write_text(
        "plant: {name: works, machines: [], machine_types: {pump: {window_s: 60, slide_s: 10,"
        " channels: {pressure: {unit: bar, valid: [-1, 16]}}}}}\n"
    )
    return ["--config", str(client), "--plant", str(plant)]


def test_the_command_writes_what_is_on_the_topics(plant_files, tmp_path, capsys):
    out, truth = tmp_path / "new" / "report.html", tmp_path / "truth.json"
    write_truths(truth, [Truth("p1", 0, 60_000, (TrueFault("wear", 0, 50_000),))])
    arguments = [*plant_files, "--since", "beginning", "--truth", str(truth), "--out", str(out)]
    assert report.main(arguments) == 0
    page = Page(out.read_text("utf-8"))
    assert page.rows["p1"] == ["", "1", "1", "1 1 up", "1.50", "1 of 1", "1 min", "0"]
    assert len(page.classes("p1", "failure")) == 1
    assert "report.html: 1 machine, 0.0 MB" in capsys.readouterr().out


def test_what_came_before_is_left_out(plant_files, tmp_path):
    out = tmp_path / "report.html"
    assert report.main([*plant_files, "--since", "2100-01-01", "--out", str(out)]) == 0
    assert "No machine has sent anything in this time." in Page(out.read_text("utf-8")).text


def test_a_truth_that_was_asked_for_must_be_there(plant_files, tmp_path, capsys):
    missing = tmp_path / "none.json"
    assert report.main([*plant_files, "--truth", str(missing), "--out", str(tmp_path / "x")]) == 1
    assert "none.json: cannot be read" in capsys.readouterr().err
