"""Every alert rule against measurements: it fires when it must, and not a moment before.

Each case starts from a healthy plant of three hosts, changes some of its measurements and names all
alerts that fire then. promtool evaluates the rules as Prometheus would.
"""

import subprocess
from dataclasses import dataclass, field

import pytest
import yaml
from test_roles import DEMO, ROOT, Plant

from tests.tools import from_depot

HOSTS = ["node1", "node2", "node3"]
PUMPS, HEARTBEATS = "plantline-anomaly-pump", "plantline-anomaly-_heartbeat"
JOBS = [
    {"name": PUMPS, "config": {"machine_type": "pump", "window_s": 30, "slide_s": 10}},
    {"name": HEARTBEATS, "config": {"machine_type": "_heartbeat", "window_s": 10, "slide_s": 5}},
]
PAGE = ROOT / "docs" / "operations" / "alerts.md"

# One sample a minute; alerts are looked at after an hour and a half.
INTERVAL, NOW, MINUTES = "1m", 90, 105
GIB = 2**30
DAY = 86400


def always(value):
    return f"{value}+0x{MINUTES}"


def rising(per_minute, start=0):
    return f"{start}{per_minute:+d}x{MINUTES}"


def changed(minutes_ago, before, after):
    """One value until so many minutes before NOW, then another one till the end."""
    return f"{before}+0x{NOW - minutes_ago - 1} {after}+0x{MINUTES}"


def bent(minutes_ago, before, after, start=0):
    """Rising by so much a minute until some minutes before NOW, then by something else."""
    bend = NOW - minutes_ago
    return f"{start}{before:+d}x{bend} {start + bend * before + after}{after:+d}x{MINUTES}"


def up(job, instance, component=None):
    more = f',component="{component}"' if component else ""
    return f'up{{job="{job}",instance="{instance}"{more}}}'


def lag(group):
    return f'plantline_consumer_lag{{group="{group}",topic="telemetry.pump",partition="0"}}'


def disk(metric, instance="node2"):
    return f'node_filesystem_{metric}{{job="node",instance="{instance}",mountpoint="/data"}}'


def of_job(metric, job=PUMPS):
    return f'flink_jobmanager_job_{metric}{{job="flink",instance="node1",job_name="{job}"}}'


def predictions(machine_type):
    return f'plantline_predictions_total{{machine_type="{machine_type}",kind="anomaly",model="m"}}'


def certificate(identity, instance="node2"):
    labels = f'job="node",instance="{instance}",identity="{identity}"'
    return f"plantline_certificate_expiry_timestamp_seconds{{{labels}}}"


READINGS = 'plantline_readings_total{machine_type="pump"}'
HEARTBEAT = "plantline_heartbeat_timestamp_seconds"
REGISTERED = "flink_jobmanager_numRegisteredTaskManagers"
PROMETHEUS_LOADED = 'prometheus_config_last_reload_successful{job="prometheus",instance="node3"}'
ALERTMANAGER_LOADED = (
    'alertmanager_config_last_reload_successful{job="alertmanager",instance="node3"}'
)
FAILED_RULES = 'prometheus_rule_evaluation_failures_total{instance="node3"}'
FAILED_NOTIFICATIONS = (
    'alertmanager_notifications_failed_total{instance="node3",integration="webhook"}'
)

HEALTHY = {
    **{up("node", host): always(1) for host in HOSTS},
    **{up("kafka", host): always(1) for host in HOSTS},
    **{up("flink", host, "taskmanager"): always(1) for host in HOSTS},
    up("flink", "node1", "jobmanager"): always(1),
    up("plant", "node1"): always(1),
    up("prometheus", "node3"): always(1),
    up("alertmanager", "node3"): always(1),
    disk("size_bytes"): always(100 * GIB),
    disk("avail_bytes"): always(60 * GIB),
    disk("files"): always(1000),
    disk("files_free"): always(900),
    certificate("kafka"): always(200 * DAY),
    certificate("ca"): always(3000 * DAY),
    # promtool's time starts at 0.
    **{f'node_time_seconds{{instance="{host}"}}': rising(60) for host in HOSTS},
    **{
        f'kafka_controller_{metric}{{instance="{host}"}}': always(value)
        for host in HOSTS
        for metric, value in [("active", int(host == "node1")), ("offline_partitions", 0)]
    },
    **{
        f'kafka_server_{metric}{{instance="{host}"}}': always(0)
        for host in HOSTS
        for metric in ["under_replicated_partitions", "under_min_isr_partitions"]
    },
    lag(PUMPS): changed(30, 0, 5000),
    f'{REGISTERED}{{instance="node1"}}': always(3),
    **{of_job("runningState", job): always(1) for job in [PUMPS, HEARTBEATS]},
    **{of_job("numRestarts", job): always(1) for job in [PUMPS, HEARTBEATS]},
    **{of_job("numberOfCompletedCheckpoints", job): rising(30) for job in [PUMPS, HEARTBEATS]},
    **{of_job("numberOfFailedCheckpoints", job): always(4) for job in [PUMPS, HEARTBEATS]},
    HEARTBEAT: rising(60),
    READINGS: rising(600),
    predictions("pump"): rising(60),
    FAILED_NOTIFICATIONS: always(2),
    PROMETHEUS_LOADED: always(1),
    ALERTMANAGER_LOADED: always(1),
    FAILED_RULES: always(0),
}


@dataclass(frozen=True)
class Fires:
    """An alert as it reaches people: its name, its labels but for the severity, its summary."""

    alert: str
    summary: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """`about` holds what differs from HEALTHY (None: no such series); `fires` is all that fires."""

    name: str
    about: dict[str, str | None]
    fires: list[Fires]
    at: int = NOW


def down_for(minutes, *series):
    """Series that fall to 0 so many minutes before the alerts are looked at."""
    return {name: changed(minutes, 1, 0) for name in series}


def back_for(minutes, *series):
    """Series that were 0 until so many minutes before the alerts are looked at."""
    return {name: changed(minutes, 0, 1) for name in series}


ALL_OF_NODE2 = [up("node", "node2"), up("kafka", "node2"), up("flink", "node2", "taskmanager")]


def fires(alert, summary, **labels):
    return Fires(alert, summary, labels)


def kafka_of(metric, host="node1"):
    return f'kafka_{metric}{{instance="{host}"}}'


CASES = [
    Case(
        "HostDown: nothing on it answers",
        down_for(2, *ALL_OF_NODE2),
        [fires("HostDown", "Host node2 is down", instance="node2")],
    ),
    Case("HostDown: not within its first seconds", down_for(0, *ALL_OF_NODE2), []),
    Case(
        "ServiceDown: its host answers",
        down_for(2, up("kafka", "node2")),
        [fires("ServiceDown", "kafka on node2 does not answer", job="kafka", instance="node2")],
    ),
    Case(
        "ServiceDown: of two on one host, the one that is down",
        down_for(2, up("flink", "node1", "jobmanager")),
        [
            fires(
                "ServiceDown",
                "flink jobmanager on node1 does not answer",
                **{"job": "flink", "instance": "node1", "component": "jobmanager"},
            )
        ],
    ),
    Case(
        "ServiceDown: Alertmanager, for whoever looks at Prometheus",
        down_for(2, up("alertmanager", "node3")),
        [
            fires(
                "ServiceDown",
                "alertmanager on node3 does not answer",
                **{"job": "alertmanager", "instance": "node3"},
            )
        ],
    ),
    Case("ServiceDown: not for a restart", down_for(0, up("kafka", "node2")), []),
    Case(
        "ServiceDown: not while its host has only just come back",
        {**back_for(3, *ALL_OF_NODE2), **down_for(30, up("kafka", "node2"))},
        [],
    ),
    Case(
        "ServiceDown: its host came back, and it did not",
        {**back_for(8, *ALL_OF_NODE2), **down_for(30, up("kafka", "node2"))},
        [fires("ServiceDown", "kafka on node2 does not answer", job="kafka", instance="node2")],
    ),
    Case(
        "ExporterDown: a warning, for the plant goes on",
        down_for(2, up("node", "node2")),
        [
            fires(
                "ExporterDown",
                "The exporter of node figures on node2 does not answer",
                **{"job": "node", "instance": "node2"},
            )
        ],
    ),
    Case("ExporterDown: not for a restart", down_for(0, up("plant", "node1")), []),
    Case(
        "DiskFullSoon: filling by 3 GiB an hour with 10 GiB left",
        {disk("avail_bytes"): rising(-GIB // 20, start=13 * GIB)},
        [
            fires(
                "DiskFullSoon",
                "/data on node2 is full within 24 h",
                **{"job": "node", "instance": "node2", "mountpoint": "/data"},
            )
        ],
    ),
    Case(
        "DiskFullSoon: not while most of it is free",
        {disk("avail_bytes"): rising(-GIB // 20, start=65 * GIB)},
        [],
    ),
    Case(
        "DiskFullSoon: not in a plant's first hour",
        {disk("avail_bytes"): f"_x50 {20 * GIB}{-GIB // 20:+d}x{MINUTES}"},
        [],
    ),
    Case(
        "DiskFullSoon: not where retention holds it level",
        {disk("avail_bytes"): always(20 * GIB)},
        [],
    ),
    Case(
        "DiskAlmostFull: 4 GiB of 100 left",
        {disk("avail_bytes"): always(4 * GIB)},
        [
            fires(
                "DiskAlmostFull",
                "/data on node2 has 4% left",
                **{"job": "node", "instance": "node2", "mountpoint": "/data"},
            )
        ],
    ),
    Case(
        "DiskAlmostFull: room, but no inodes",
        {disk("files_free"): always(30)},
        [
            fires(
                "DiskAlmostFull",
                "/data on node2 has 3% left",
                **{"job": "node", "instance": "node2", "mountpoint": "/data"},
            )
        ],
    ),
    Case("DiskAlmostFull: not at 6 GiB of 100", {disk("avail_bytes"): always(6 * GIB)}, []),
    Case(
        "CertificateExpires: nobody has renewed it",
        {certificate("kafka"): always(20 * DAY + NOW * 60)},
        [
            fires(
                "CertificateExpires",
                "Certificate kafka on node2 ends in 20d 0h 0m 0s",
                **{"job": "node", "instance": "node2", "identity": "kafka"},
            )
        ],
    ),
    Case(
        "CertificateExpires: not while the next run renews it",
        {certificate("kafka"): always(22 * DAY)},
        [],
    ),
    Case(
        "CertificateExpires: a CA, in time for its change",
        {certificate("ca"): always(89 * DAY + NOW * 60)},
        [
            fires(
                "CertificateExpires",
                "Certificate ca on node2 ends in 89d 0h 0m 0s",
                **{"job": "node", "instance": "node2", "identity": "ca"},
            )
        ],
    ),
    Case(
        "CertificateExpires: not a CA with years to go",
        {certificate("ca"): always(91 * DAY)},
        [],
    ),
    Case(
        "ClockWrong: behind by five seconds",
        {'node_time_seconds{instance="node2"}': rising(60, start=-5)},
        [
            fires(
                "ClockWrong",
                "The clock of node2 is 5s off the monitoring host's",
                instance="node2",
            )
        ],
    ),
    Case(
        "ClockWrong: not for a second",
        {'node_time_seconds{instance="node2"}': rising(60, start=1)},
        [],
    ),
    Case(
        "PartitionsOffline: two of them",
        {kafka_of("controller_offline_partitions"): always(2)},
        [fires("PartitionsOffline", "2 partition(s) have no leader")],
    ),
    Case(
        "PartitionsOffline: not for the time of an election",
        {kafka_of("controller_offline_partitions"): changed(0, 0, 2)},
        [],
    ),
    Case(
        "PartitionsUnderMinIsr: on two brokers",
        {kafka_of("server_under_min_isr_partitions", host): always(2) for host in HOSTS[:2]},
        [fires("PartitionsUnderMinIsr", "4 partition(s) refuse records")],
    ),
    Case(
        "PartitionsUnderMinIsr: not for a moment",
        {kafka_of("server_under_min_isr_partitions"): changed(0, 0, 2)},
        [],
    ),
    Case(
        "PartitionsUnderReplicated: since five minutes",
        {kafka_of("server_under_replicated_partitions"): changed(5, 0, 7)},
        [fires("PartitionsUnderReplicated", "7 partition(s) miss a replica")],
    ),
    Case(
        "PartitionsUnderReplicated: not while a broker restarts",
        {kafka_of("server_under_replicated_partitions"): changed(2, 0, 7)},
        [],
    ),
    Case(
        "ControllerNotOne: none is active",
        {kafka_of("controller_active"): changed(2, 1, 0)},
        [fires("ControllerNotOne", "Kafka has 0 active controllers in place of one")],
    ),
    Case(
        "ControllerNotOne: two think they are",
        {kafka_of("controller_active", "node2"): changed(2, 0, 1)},
        [fires("ControllerNotOne", "Kafka has 2 active controllers in place of one")],
    ),
    Case(
        "ControllerNotOne: no figure of any controller",
        {kafka_of("controller_active", host): None for host in HOSTS},
        [fires("ControllerNotOne", "Kafka has 0 active controllers in place of one")],
    ),
    Case(
        "ControllerNotOne: not while another one is elected",
        {
            kafka_of("controller_active"): changed(0, 1, 0),
            kafka_of("controller_active", "node2"): changed(-1, 0, 1),
        },
        [],
        at=NOW + 1,
    ),
    Case(
        "LagGrowing: for half an hour",
        {lag(PUMPS): bent(30, 0, 3000, start=9000)},
        [fires("LagGrowing", f"{PUMPS} falls behind", group=PUMPS)],
    ),
    Case(
        "LagGrowing: not for a heap that is worked off",
        {lag(PUMPS): f"0+0x{NOW - 30} 900000-3000x{MINUTES}"},
        [],
    ),
    Case(
        "LagGrowing: not while it is small",
        {lag(PUMPS): bent(30, 0, 100)},
        [],
    ),
    Case(
        "TaskManagerMissing: two of three are registered",
        {f'{REGISTERED}{{instance="node1"}}': changed(2, 3, 2)},
        [fires("TaskManagerMissing", "Only 2 TaskManagers are registered")],
    ),
    Case(
        "TaskManagerMissing: not while one restarts",
        {f'{REGISTERED}{{instance="node1"}}': changed(0, 3, 2)},
        [],
    ),
    Case(
        "JobNotRunning: it failed",
        {of_job("runningState"): changed(2, 1, 0)},
        [fires("JobNotRunning", f"Job {PUMPS} does not run", job_name=PUMPS)],
    ),
    Case(
        "JobNotRunning: Flink does not know it",
        {
            metric: None
            for metric in HEALTHY
            if metric.startswith("flink_jobmanager_job_") and HEARTBEATS in metric
        },
        [fires("JobNotRunning", f"Job {HEARTBEATS} does not run", job_name=HEARTBEATS)],
    ),
    Case(
        "JobNotRunning: not while it restarts",
        {of_job("runningState"): changed(0, 1, 0)},
        [],
    ),
    Case(
        "JobRestarting: every two minutes",
        {of_job("numRestarts"): f"1+0x{NOW - 9} 1 2 2 3 3 4 4 5 5+0x{MINUTES}"},
        [
            fires(
                "JobRestarting",
                f"Job {PUMPS} restarted 4 times in 15 minutes",
                **{"job": "flink", "instance": "node1", "job_name": PUMPS},
            )
        ],
    ),
    Case(
        "JobRestarting: not for a single time",
        {of_job("numRestarts"): changed(5, 1, 2)},
        [],
    ),
    Case(
        "CheckpointsFailing: two of three",
        {
            of_job("numberOfFailedCheckpoints"): bent(9, 0, 2, start=4),
            of_job("numberOfCompletedCheckpoints"): bent(20, 30, 1),
        },
        [
            fires(
                "CheckpointsFailing",
                f"18 checkpoints of job {PUMPS} failed in 10 minutes",
                **{"job": "flink", "instance": "node1", "job_name": PUMPS},
            )
        ],
    ),
    Case(
        "CheckpointsFailing: not for two of thirty",
        {of_job("numberOfFailedCheckpoints"): rising(2)},
        [],
    ),
    Case(
        "CheckpointOld: none completed since five minutes",
        {of_job("numberOfCompletedCheckpoints"): bent(6, 30, 0)},
        [
            fires(
                "CheckpointOld",
                f"Job {PUMPS} completes no checkpoints",
                **{"job": "flink", "instance": "node1", "job_name": PUMPS},
            )
        ],
    ),
    Case(
        "CheckpointOld: not for a slow one",
        {of_job("numberOfCompletedCheckpoints"): bent(2, 30, 0)},
        [],
    ),
    Case(
        "HeartbeatOld: no prediction for two minutes",
        {HEARTBEAT: bent(2, 60, 0)},
        [fires("HeartbeatOld", "The plant is not watched, for 2m 0s")],
    ),
    Case("HeartbeatOld: not at half a minute", {HEARTBEAT: rising(60, start=-30)}, []),
    Case(
        "HeartbeatUnknown: no figure",
        {HEARTBEAT: None},
        [fires("HeartbeatUnknown", "Nobody knows whether the plant is watched")],
    ),
    Case(
        "HeartbeatUnknown: not while the exporter starts",
        {HEARTBEAT: f"0+60x{NOW - 4} stale _ {(NOW - 1) * 60}+60x{MINUTES}"},
        [],
        at=NOW - 2,
    ),
    Case(
        "ReadingsNotScored: predictions stopped",
        {predictions("pump"): bent(30, 60, 0)},
        [
            fires(
                "ReadingsNotScored",
                "Readings of machine type pump arrive, and no predictions come of them",
                machine_type="pump",
            )
        ],
    ),
    Case(
        "ReadingsNotScored: there never was a prediction",
        {predictions("pump"): None},
        [
            fires(
                "ReadingsNotScored",
                "Readings of machine type pump arrive, and no predictions come of them",
                machine_type="pump",
            )
        ],
    ),
    Case(
        "ReadingsNotScored: not while the plant stands still",
        {READINGS: always(5000), predictions("pump"): always(100)},
        [],
    ),
    Case(
        "ReadingsNotScored: not for a type that nothing scores",
        {'plantline_readings_total{machine_type="fan"}': rising(600)},
        [],
    ),
    Case(
        "AlertsNotDelivered: a receiver refuses",
        {FAILED_NOTIFICATIONS: changed(5, 2, 4)},
        [
            fires(
                "AlertsNotDelivered",
                "Alertmanager on node3 cannot deliver by webhook",
                **{"instance": "node3", "integration": "webhook"},
            )
        ],
    ),
    Case(
        "AlertsNotDelivered: not once it works again", {FAILED_NOTIFICATIONS: changed(20, 2, 4)}, []
    ),
    Case(
        "ConfigurationRefused: Alertmanager's",
        {ALERTMANAGER_LOADED: changed(2, 1, 0)},
        [
            fires(
                "ConfigurationRefused",
                "alertmanager on node3 refused its configuration",
                **{"job": "alertmanager", "instance": "node3"},
            )
        ],
    ),
    Case(
        "ConfigurationRefused: not while it is being mended",
        {PROMETHEUS_LOADED: changed(0, 1, 0)},
        [],
    ),
    Case(
        "RulesFailing: a rule that cannot be evaluated",
        {FAILED_RULES: bent(9, 0, 1)},
        [fires("RulesFailing", "Prometheus on node3 cannot evaluate rules", instance="node3")],
    ),
    Case(
        "RulesFailing: not for long after",
        {FAILED_RULES: changed(20, 0, 1)},
        [],
    ),
]


@pytest.fixture(scope="module")
def promtool(tmp_path_factory):
    return from_depot("prometheus", "promtool", tmp_path_factory.mktemp("prometheus"))


def rendered(**more):
    text = Plant(DEMO).render("prometheus", "alerts.yml.j2", "node3", **more)
    return yaml.safe_load(text)


def rules_of(content):
    return [rule for group in content["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def rules():
    """As a plant gets them that leaves all settings alone."""
    settings = Plant(DEMO).templar("prometheus", "node3").available_variables
    defaults = yaml.safe_load((ROOT / "roles/prometheus/defaults/main.yml").read_text())
    own = {name: value for name, value in defaults.items() if "{{" not in str(value)}
    assert settings["prometheus_hold_s"] != own["prometheus_hold_s"], "the demo's are others"
    return rendered(**own | {"prometheus_jobs": JOBS})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_alerts_fire_when_they_must_and_only_then(case, rules, promtool, tmp_path):
    outcome = evaluated(case, rules, promtool, tmp_path)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_an_alert_that_does_not_fire_fails_its_case(rules, promtool, tmp_path):
    """promtool's judgement is worth something."""
    wrong = Case("", {}, [fires("HostDown", "Host node2 is down", instance="node2")])
    assert evaluated(wrong, rules, promtool, tmp_path).returncode != 0


def evaluated(case, rules, promtool, folder):
    """promtool's verdict: the alerts of the case fire, and no others but the watchdog."""
    severities = {rule["alert"]: rule["labels"]["severity"] for rule in rules_of(rules)}
    # The summary is what differs from alert to alert.
    shown = {
        "groups": [
            group
            | {
                "rules": [
                    rule | {"annotations": {"summary": rule["annotations"]["summary"]}}
                    for rule in group["rules"]
                ]
            }
            for group in rules["groups"]
        ]
    }
    (folder / "alerts.yml").write_text(yaml.safe_dump(shown))
    watchdog = fires("Watchdog", "Alerts of this plant reach their receiver")
    series = {name: values for name, values in (HEALTHY | case.about).items() if values}
    expected = [
        {
            "eval_time": f"{case.at}m",
            "alertname": alert,
            "exp_alerts": [
                {
                    "exp_labels": one.labels | {"severity": severities[alert]},
                    "exp_annotations": {"summary": one.summary},
                }
                for one in [*case.fires, watchdog]
                if one.alert == alert
            ],
        }
        for alert in severities
    ]
    test = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": INTERVAL,
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "alert_rule_test": expected,
            }
        ],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(test))
    command = [promtool, "test", "rules", "test.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(rules):
    alerts = {rule["alert"] for rule in rules_of(rules)} - {"Watchdog"}
    assert {one.alert for case in CASES for one in case.fires} == alerts
    assert {case.name.split(":")[0] for case in CASES if not case.fires} == alerts


def test_every_alert_says_what_is_wrong_and_where_to_read_on(rules):
    headings = {line[3:] for line in PAGE.read_text().splitlines() if line.startswith("## ")}
    for rule in rules_of(rules):
        assert rule["labels"]["severity"] in {"critical", "warning", "none"}
        about = rule["annotations"]
        assert about["summary"] and about["description"]
        assert about["runbook_url"] == f"docs/operations/alerts.md#{rule['alert'].lower()}"
        assert rule["alert"] in headings


def test_every_alert_of_the_page_exists(rules):
    alerts = {rule["alert"] for rule in rules_of(rules)}
    headings = {line[3:] for line in PAGE.read_text().splitlines() if line.startswith("## ")}
    assert {heading for heading in headings if heading[1:] != heading[1:].lower()} <= alerts


def test_a_plant_gets_the_rules_of_its_own_jobs():
    fan = {"name": "plantline-anomaly-fan", "config": JOBS[0]["config"] | {"machine_type": "fan"}}
    without = rules_of(rendered(prometheus_jobs=[]))
    both = rules_of(rendered(prometheus_jobs=[*JOBS, fan]))
    assert {"JobNotRunning", "ReadingsNotScored", "HeartbeatOld"}.isdisjoint(
        rule["alert"] for rule in without
    )
    named = [rule["labels"]["job_name"] for rule in both if rule["alert"] == "JobNotRunning"]
    assert named == [PUMPS, HEARTBEATS, fan["name"]]
    assert sum(rule["alert"] == "ReadingsNotScored" for rule in both) == 2
    assert sum(rule["alert"] == "HeartbeatOld" for rule in both) == 1


def test_slow_windows_are_given_time():
    slow = {"machine_type": "oven", "window_s": 3600, "slide_s": 1800}
    (rule,) = [
        rule
        for rule in rules_of(rendered(prometheus_jobs=[{"name": "a", "config": slow}]))
        if rule["alert"] == "ReadingsNotScored"
    ]
    assert rule["for"] == "16200s"
    assert rule["expr"].count("[16200s]") == 2
