"""What status finds wrong in what the hosts answered, and how it shows it."""

import urllib.error
from datetime import datetime

import pytest

from ops.fleet import Fleet
from ops.plant import ROOT, Plant
from ops.remote import look
from ops.remote.look import (
    ask_flink,
    declared,
    describe_job,
    newest,
    parse_heartbeat,
    parse_meminfo,
    parse_units,
    unit_names,
    up_s,
)
from ops.status import View, kafka_question, problems, screen

GIB = 1024**3


def seen(**changes):
    return {
        "up_s": 7200.0,
        "load": 0.5,
        "cores": 2,
        "memory_free": 4096,
        "memory": 8192,
        "disks": [{"path": "/", "total": 100 * GIB, "free": 60 * GIB}],
        "units": [{"name": "kafka.service", "active": "active", "wanted": True, "restarts": 0}],
        "versions": {"Kafka": "3.8.1", "Flink": "1.20.5", "Java": "17"},
        "kafka": None,
        "flink": None,
        "heartbeat": None,
        "problems": [],
    } | changes


def kafka(**changes):
    return {
        "leader": 1,
        "voter_lag_ms": {"1": 0, "2": 480, "3": 10},
        "brokers": [1, 2, 3],
        "partitions": 69,
        "ailing": [],
        "lag": {"plantline-anomaly-pump": 1203},
    } | changes


def job(**changes):
    return {
        "name": "plantline-anomaly-pump",
        "state": "RUNNING",
        "since_ms": 3_600_000,
        "restarts": 0,
        "checkpoint_age_ms": 1300,
        "checkpoint_ms": 140,
        "checkpoint_bytes": 2_575_199,
        "checkpoints_failed": 0,
    } | changes


def flink(*jobs, **changes):
    return {
        "version": "1.20.5",
        "task_managers": 3,
        "slots": 6,
        "slots_free": 4,
        "jobs": list(jobs) or [job()],
        "declared": ["plantline-anomaly-pump"],
    } | changes


def view(**changes):
    hosts = ["node1", "node2", "node3"]
    groups = {"kafka_brokers": hosts, "flink_workers": hosts, "flink_masters": hosts[:1]}
    whole = {
        "plant": "demo",
        "groups": groups,
        "node_names": {1: "node1", 2: "node2", 3: "node3"},
        "looks": {host: seen() for host in hosts},
        "silent": {},
        "kafka": kafka(),
        "flink": flink(),
        "heartbeat": {"age_s": 4.0},
        "heartbeat_expected": True,
    }
    return View(**(whole | changes))


def unit(**changes):
    return {"name": "kafka.service", "active": "active", "wanted": True, "restarts": 0} | changes


def partition(name, missing=(), blocked=False):
    return {"name": name, "missing": list(missing), "blocked": blocked}


def test_a_plant_that_is_well_has_no_problems():
    assert problems(view()) == []


WRONG = {
    "a silent host": (
        {"silent": {"node3": "timed out"}},
        "node3 does not answer: timed out",
    ),
    "no leader": ({"kafka": kafka(leader=None)}, "the quorum has no leader"),
    "a controller that lags": (
        {"kafka": kafka(voter_lag_ms={"1": 0, "2": 2500, "3": 0})},
        "node2 does not follow the quorum's leader",
    ),
    "a controller that was never there": (
        {"kafka": kafka(voter_lag_ms={"1": 0, "2": None, "3": 0})},
        "node2 does not follow",
    ),
    "a broker that is down": (
        {"kafka": kafka(brokers=[1, 3])},
        "Kafka: node2 not registered as broker",
    ),
    "a missing replica": (
        {"kafka": kafka(ailing=[partition("dlq-0", [2])])},
        "a replica missing in 1 of 69 partitions (dlq-0)",
    ),
    "writes refused": (
        {"kafka": kafka(ailing=[partition("dlq-0", [2, 3], blocked=True)])},
        "writes refused by 1 of 69 partitions (dlq-0)",
    ),
    "a worker that is down": ({"flink": flink(task_managers=2)}, "2 of 3 TaskManagers"),
    "a job that restarts": (
        {"flink": flink(job(state="RESTARTING"))},
        "job plantline-anomaly-pump is RESTARTING",
    ),
    "a job that is not there": (
        {"flink": flink(jobs=[])},
        "job plantline-anomaly-pump is declared and not there",
    ),
    "a job that nobody declared": (
        {"flink": flink(declared=[])},
        "job plantline-anomaly-pump runs and is not declared",
    ),
    "an old checkpoint": (
        {"flink": flink(job(checkpoint_age_ms=95_000))},
        "no checkpoint completed for 1 min 35 s",
    ),
    "never a checkpoint": (
        {"flink": flink(job(checkpoint_age_ms=None, since_ms=61_000))},
        "no checkpoint completed for 1 min 1 s",
    ),
    "an old heartbeat": (
        {"heartbeat": {"age_s": 31.0}},
        "the last heartbeat came through 31 s ago",
    ),
    "never a heartbeat": ({"heartbeat": {"age_s": None}}, "no heartbeat has come through yet"),
    "a unit that failed": (
        {"looks": {"node1": seen(units=[unit(active="failed", wanted=False)])}},
        "node1: kafka.service is failed",
    ),
    "a unit that rests and should not": (
        {"looks": {"node1": seen(units=[unit(active="inactive")])}},
        "node1: kafka.service is inactive",
    ),
    "a full disk": (
        {"looks": {"node1": seen(disks=[{"path": "/", "total": 100 * GIB, "free": 10 * GIB}])}},
        "node1: / is 90% full, 10.0 GiB are left",
    ),
    "two versions": (
        {"looks": {"node1": seen(), "node2": seen(versions={"Kafka": "3.9.0"})}},
        "Kafka differs: 3.8.1 on node1; 3.9.0 on node2",
    ),
    "a question without an answer": (
        {"looks": {"node1": seen(problems=["the JobManager does not answer: refused"])}},
        "node1: the JobManager does not answer: refused",
    ),
}


@pytest.mark.parametrize(("changes", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_found_and_shown(changes, problem):
    wrong = view(**changes)
    (found,) = problems(wrong)
    assert problem in found
    assert found in screen(wrong, datetime(2026, 1, 1), 1.0)


RIGHT = {
    "a job that has only just begun": {
        "flink": flink(job(checkpoint_age_ms=None, since_ms=20_000)),
    },
    "a unit that is not wanted": {
        "looks": {"node1": seen(units=[unit(active="inactive", wanted=False)])}
    },
    "a stopped job that is declared so": {
        "flink": flink(job(state="FINISHED"), declared=[]),
    },
    "a plant without monitoring": {"heartbeat": None, "heartbeat_expected": False},
}


@pytest.mark.parametrize("changes", RIGHT.values(), ids=RIGHT)
def test_what_is_right_is_left_alone(changes):
    assert problems(view(**changes)) == []


def test_the_gravest_comes_first():
    wrong = view(
        silent={"node3": "off"},
        kafka=kafka(leader=None),
        looks={"node1": seen(units=[unit(active="failed")])},
    )
    assert [problem.split()[0] for problem in problems(wrong)] == ["node3", "Kafka:", "node1:"]


def test_the_screen_holds_what_an_operator_asks_for_and_fits():
    text = screen(view(), datetime(2026, 1, 1), 2.1)
    assert "Nothing found wrong." in text
    for figure in ("leader node1", "0 miss a replica", "RUNNING", "1.3 s ago", "1,203", "4.0 s ago",
                   "/ 40%", "Kafka 3.8.1", "2 h"):  # fmt: skip
        assert figure in text
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 120


def test_a_plant_whose_cluster_cannot_be_asked_is_shown_with_question_marks():
    text = screen(view(kafka=None, flink=None, heartbeat=None), datetime(2026, 1, 1), 1.0)
    assert "Kafka      ?" in text
    assert "Flink      ?" in text
    assert "Heartbeat  ?" in text


# What the hosts read


UNITS = """Id=kafka.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
ConditionResult=yes
ConditionTimestampMonotonic=7
NRestarts=2

Id=plantline-stopped.service
LoadState=loaded
ActiveState=inactive
UnitFileState=enabled
ConditionResult=no
ConditionTimestampMonotonic=0

Id=flink-jobs.timer
LoadState=loaded
ActiveState=inactive
UnitFileState=disabled
ConditionResult=no
ConditionTimestampMonotonic=0

Id=chrony.service
LoadState=loaded
ActiveState=inactive
UnitFileState=enabled
ConditionResult=no
ConditionTimestampMonotonic=7
NRestarts=0

Id=kafka.socket
LoadState=loaded
ActiveState=active

Id=plantline-gone.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
ConditionResult=no
"""


def test_units_are_read_as_systemctl_shows_them():
    assert [(u["name"], u["wanted"], u["restarts"]) for u in parse_units(UNITS)] == [
        ("chrony.service", False, 0),
        ("flink-jobs.timer", False, 0),
        ("kafka.service", True, 2),
        ("plantline-stopped.service", True, 0),
    ]


def test_templates_are_not_units():
    listing = "kafka.service enabled enabled\nchrony-dnssrv@.timer disabled enabled\n"
    assert unit_names(listing) == ["kafka.service"]
    assert unit_names("") == []


def test_a_host_without_our_units_has_none():
    assert parse_units("") == []


def test_memory_is_read_in_kibibytes():
    text = "MemTotal:       24641452 kB\nMemAvailable:   19000000 kB\nHugePages_Total:       0\n"
    assert parse_meminfo(text)["MemAvailable"] == 19_000_000


@pytest.mark.parametrize(("started_ticks", "seconds"), [(0, 1000.0), (90_000, 100.0)])
def test_a_hosts_age_is_that_of_its_first_process(monkeypatch, started_ticks, seconds):
    monkeypatch.setattr("os.sysconf", lambda _: 100)
    stat = "1 (a (b) c) S " + " ".join(["0"] * 18) + f" {started_ticks} 0 0"
    assert up_s("1000.00 3000.00\n", stat) == seconds


def test_of_jobs_with_one_name_the_running_or_the_newest_is_shown():
    def named(name, state, start):
        return {"name": name, "state": state, "start-time": start}

    jobs = [
        named("a", "CANCELED", 1),
        named("a", "RUNNING", 2),
        named("b", "FAILED", 3),
        named("b", "CANCELED", 1),
    ]
    assert [(job["name"], job["state"]) for job in newest(jobs)] == [
        ("a", "RUNNING"),
        ("b", "FAILED"),
    ]


CHECKPOINTS = {
    "counts": {"restored": 1, "total": 254, "in_progress": 0, "completed": 250, "failed": 4},
    "latest": {
        "completed": {
            "latest_ack_timestamp": 1_000_000,
            "end_to_end_duration": 130,
            "state_size": 2_575_199,
        },
        "failed": None,
    },
}


@pytest.mark.parametrize(
    ("checkpoints", "expected"),
    [
        (CHECKPOINTS, (2000, 130, 4)),
        ({"counts": {"failed": 2}, "latest": {"completed": None}}, (None, None, 2)),
        ({}, (None, None, 0)),
    ],
)
def test_a_job_is_described_with_its_checkpoints(checkpoints, expected):
    about = describe_job(
        {"name": "a", "state": "RUNNING", "duration": 5000}, checkpoints, 3, now_s=1002.0
    )
    found = (about["checkpoint_age_ms"], about["checkpoint_ms"], about["checkpoints_failed"])
    assert found == expected
    assert about["restarts"] == 3


def test_declared_jobs_are_those_that_should_run():
    text = '{"jobs": [{"name": "a"}, {"name": "b", "state": "stopped"}]}'
    assert declared(text) == ["a"]
    assert declared("") == []


@pytest.mark.parametrize(
    ("metrics", "at"),
    [
        ("# HELP x\nplantline_heartbeat_timestamp_seconds 1795274547.5\n", 1795274547.5),
        ('plantline_heartbeat_timestamp_seconds{machine_id="_heartbeat"} 12.0\n', 12.0),
        ("plantline_heartbeat_timestamp_seconds 0.0\n", None),
        ("up 1\n", None),
    ],
)
def test_the_heartbeats_time_is_read_from_the_exporters_page(metrics, at):
    assert parse_heartbeat(metrics) == at


# What is asked of Flink


@pytest.fixture
def flink_rest(monkeypatch):
    """Stands in for a JobManager; the function takes its answers by path, None for HTTP 500."""

    def serve(answers):
        def get(url):
            path = url.removeprefix("https://localhost:8081")
            if answers[path] is None:
                raise urllib.error.HTTPError(url, 500, "Internal Server Error", {}, None)
            return answers[path]

        monkeypatch.setattr(look, "get", get)
        monkeypatch.setattr(look, "METRIC_S", 0.0)

    return serve


OVERVIEW = {
    "/overview": {
        "flink-version": "1.20.5",
        "taskmanagers": 3,
        "slots-total": 6,
        "slots-available": 4,
    },
    "/jobs/overview": {
        "jobs": [{"jid": "7", "name": "a", "state": "RUNNING", "start-time": 1, "duration": 9}]
    },
    "/jobs/7/checkpoints": CHECKPOINTS,
    "/jobs/7/metrics?get=numRestarts": [{"id": "numRestarts", "value": "2"}],
}


def test_flink_is_asked_for_its_jobs_and_their_checkpoints(flink_rest):
    flink_rest(OVERVIEW)
    problems = []
    answer = ask_flink(problems)
    assert problems == []
    assert (answer["slots_free"], answer["jobs"][0]["restarts"]) == (4, 2)


def test_a_job_that_is_being_initialised_hides_nothing_else(flink_rest):
    flink_rest(OVERVIEW | {"/jobs/7/checkpoints": None, "/jobs/7/metrics?get=numRestarts": None})
    problems = []
    (job,) = ask_flink(problems)["jobs"]
    assert problems == []
    assert (job["checkpoint_age_ms"], job["restarts"]) == (None, None)


def test_a_jobmanager_that_does_not_answer_is_a_problem(flink_rest):
    flink_rest({"/overview": None})
    problems = []
    assert ask_flink(problems) is None
    assert "the JobManager does not answer" in problems[0]


def test_a_broker_asks_those_that_are_reached_with_its_own_certificate():
    plant = Plant(ROOT / "inventories" / "demo")
    reached = Fleet(dict.fromkeys(("node2", "node3")), {}, {"node1": "it is off"})
    broker, question = kafka_question(plant, reached)
    assert broker == "node2"
    assert question["bootstrap_servers"] == "10.203.77.12:9096,10.203.77.13:9096"
    assert question["tls"]["certificate"] == "/etc/plantline/pki/kafka/bundle.pem"
    assert kafka_question(plant, Fleet({}, {}, {})) == (None, {})
