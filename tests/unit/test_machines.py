"""Which machines the Java decoder knows: those of topic `machines`, looked for as they speak."""

import json
import subprocess

import pytest

from flink_jobs.contracts import CLOCK, HEARTBEAT, registration


@pytest.fixture
def talk(class_path):
    """What MachinesHarness answers to each line, and the lines that were logged meanwhile."""

    def talk(*lines):
        # Without a configuration only errors would be shown.
        show = "-Dorg.apache.logging.log4j.level=WARN"
        java = ["java", "-XX:TieredStopAtLevel=1", show, "-cp", class_path]
        done = subprocess.run(
            [*java, "plantline.MachinesHarness"],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout.splitlines()
        answers = [line.removeprefix("> ") for line in said if line.startswith("> ")]
        return answers, [line for line in said if not line.startswith("> ")]

    return talk


def append(machine_id, machine_type="pump"):
    """The command that registers a machine."""
    record = registration(machine_id, machine_type, valid_from=0)
    return f"append {json.dumps(record, ensure_ascii=False)}"


def test_known_is_who_is_registered_as_of_this_type(talk):
    answers, _ = talk(
        append("p1"),
        append("f1", "fan"),
        append("Pümpe 😀"),
        append(HEARTBEAT, HEARTBEAT),
        "open pump",
        f"open {HEARTBEAT}",
        *("pump p1", "pump f1", "pump Pümpe 😀", "pump p2", f"pump {CLOCK}", f"pump {HEARTBEAT}"),
        *(f"{HEARTBEAT} {HEARTBEAT}", f"{HEARTBEAT} {CLOCK}", f"{HEARTBEAT} p1"),
    )
    assert answers[6:] == [
        *("true", "false", "true", "false", "true", "false"),
        *("true", "true", "false"),
    ]


def test_a_reading_of_an_unknown_machine_is_refused_if_it_is_none_of_another_reason(talk):
    def reading(key, machine_id, value):
        return f"decode {key} " + json.dumps({"machine_id": machine_id, "ts": 1, "x": value})

    answers, _ = talk(
        *("open pump", append("p1")),
        *(reading("p1", "p1", 0.5), reading("p2", "p2", 0.5), reading("p2", "p2", 2)),
        *(reading("p2", "p1", 0.5), reading("p1", "p2", 0.5), reading(CLOCK, CLOCK, 1)),
        *(append("p2"), "wait 1000", reading("p2", "p2", 0.5)),
    )
    unknown = "unknown_machine: machine_id is p2, no pump of topic machines"
    assert answers[2:8] == [
        "p1 is 0.5",
        unknown,
        "out_of_range: x is 2, not in [0.0, 1.0]",
        "bad_key: key is p2",
        unknown,
        "the clock",
    ]
    assert answers[-1] == "p2 is 0.5"


def test_a_machine_that_is_registered_just_before_its_first_reading_is_known(talk):
    answers, _ = talk(
        *("open pump", "pump p0", append("p1"), "pump p1", "pump p1"),
        # Nobody looks again for p0 so soon, whatever became of it.
        *(append("p0"), "wait 900", "pump p0", "wait 100", "pump p0", "looks"),
    )
    assert [answers[place] for place in (1, 3, 4, 7, 9)] == [
        "false",
        "true",
        "true",
        "false",
        "true",
    ]
    assert answers[-1] == "4"  # at the start, for p0, for p1, for p0


def test_many_strangers_cost_a_third_of_the_time_at_most(talk):
    # The clock goes on by a millisecond whenever it is looked at, and a look takes several.
    few = [f"pump stranger{number}" for number in range(100)]
    many = [f"pump stranger{number}" for number in range(100, 400)]
    answers, _ = talk("open pump", *few, "looks", *many, "looks", *few[:1], *many, "looks")
    assert set(answers[1:101]) == set(answers[102:402]) == {"false"}
    looks = [int(answers[place]) for place in (101, 402, -1)]
    assert looks[0] == 1 + 100
    assert 30 < looks[1] - looks[0] < 300 / 2
    assert looks[2] - looks[1] < 300 / 2


def test_what_is_no_registration_is_passed_over(talk):
    of_number = '{"machine_id": 5, "machine_type": "pump"}'
    records = ["", "{", "[]", "7", '"p1"', of_number, "null", "{}"]
    answers, logs = talk(
        *(f"append {record}" for record in records),
        append("p1"),
        *("open pump", "pump p1", "pump 5"),
    )
    assert answers[-2:] == ["true", "false"]
    assert [line for line in logs if "not JSON" in line and "offset 1" in line]
    assert len(logs) == 1


def test_a_failure_keeps_what_is_known_and_is_logged_once(talk):
    answers, logs = talk(
        *(append("p1"), "open pump", "break no leader", append("p2")),
        *("pump p1", "pump p2", "wait 1000", "pump p2", "break", "wait 1000", "pump p2"),
        *("break no broker", "wait 1000", "pump p3", "wait 1000", "pump p3", "pump p1"),
    )
    known = [answer for answer in answers if answer in ("true", "false")]
    assert known[-7:] == ["true", "false", "false", "true", "false", "false", "true"]
    assert [line.rpartition(": ")[2] for line in logs] == ["no leader", "no broker"]


def test_a_topic_that_does_not_answer_holds_readings_up_no_more_than_strangers_do(talk):
    answers, logs = talk(
        *("open pump", "lose", "wait 1000", "pump p1", "wait 9000", "pump p1", "pump p2", "looks"),
        *("wait 1100", "pump p2", "looks"),
    )
    assert [answers[place] for place in (3, 7, 10)] == ["false", "2", "3"]
    assert [line.rpartition(": ")[2] for line in logs] == ["it takes longer than 5 s"]


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        ("break not authorized", "not authorized"),
        ("remove", "there is no such topic"),
        ("lose", "it takes longer than 60 s"),
    ],
)
def test_without_the_topic_there_is_no_start(talk, trouble, told):
    (_, answer), _ = talk(trouble, "open pump")
    known = "The machines that are known cannot be read from Kafka's topic machines"
    assert answer == f"{known}: {told}"


def test_after_a_failure_to_start_a_new_client_is_made(talk):
    answers, _ = talk(
        *("break x", "open pump", "break", append("p1"), "open pump", "pump p1", "closed 1")
    )
    assert answers[-2:] == ["true", "2"]


def test_tasks_share_a_client_until_none_of_them_is_left(talk):
    answers, _ = talk(
        *("open pump", "open fan", "same pump", "closed 2", append("p1"), "same pump", "pump p1"),
        *("drop pump", "closed 1", append("f1", "fan"), "fan f1", "drop fan", "closed 0"),
        *("open pump", "pump p1", "closed 1"),
    )
    assert [answers[place] for place in (2, 3, 5, 6)] == ["true", "2", "true", "true"]
    assert [answers[place] for place in (8, 10, 12, 14, 15)] == ["2", "true", "2", "true", "3"]
