"""Is the plant watched, and is it well? The page for the wall, and the first one at 3 a.m."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import kit
from grafana.dashboards import queries as q

UID = "plantline-overview"

STATE_WORDS = {
    "1": ("ALARM", kit.WARNING),
    "0": ("normal", kit.CALM),
    "-1": ("not scored", kit.UNKNOWN),
}


def build() -> Dashboard:
    numbers = [
        q.heartbeat_age("plantline-pipeline"),
        kit.number(
            "Critical alerts",
            "Alerts that ask for somebody now, also at night. The list below names them.",
            q.firing('severity="critical"'),
            limits=kit.above(1),
        ),
        kit.number(
            "Warnings",
            "Alerts that ask for somebody today.",
            q.firing('severity="warning"'),
            limits=((1, kit.WARNING),),
        ),
        kit.number(
            "Machines in alarm",
            "Machines with a raised alert: their newest windows are unlike what is normal.",
            f"sum(max by (machine_id) (plantline_machine_alert{q.MACHINES})) or vector(0)",
            limits=((1, kit.WARNING),),
        ),
        kit.number(
            "Jobs running",
            "Flink jobs that run, the heartbeat's among them. JobNotRunning names a missing one.",
            f"max(flink_jobmanager_numRunningJobs{q.PLANT})",
            limits=kit.below(1),
            absent=("no JobManager", kit.TROUBLE),
            link=kit.to("plantline-flink"),
        ),
        kit.number(
            "Not answering",
            "Processes and hosts that do not answer when Prometheus asks for their figures.",
            f"count(up{q.PLANT} == 0) or vector(0)",
            limits=kit.above(1),
            link=kit.to("plantline-hosts"),
        ),
    ]
    machines = kit.rows(
        "Machines",
        "Each machine, worst first. Above 1, the newest window is unlike what is normal for it.",
        {
            "machine_id": kit.Column(
                "machine",
                link=kit.to(
                    "plantline-machine",
                    machine="${__value.raw}",
                    machine_type="${__data.fields.type}",
                ),
            ),
            "state": kit.Column("state", q.machine_state(), words=STATE_WORDS, width=110),
            "ratio": kit.Column(
                "score ÷ threshold",
                "max by (machine_id, machine_type)"
                f" (plantline_machine_score{q.MACHINES} / plantline_machine_threshold{q.MACHINES})",
                decimals=2,
                width=140,
            ),
            "age": kit.Column(
                "last prediction",
                "time() - max by (machine_id, machine_type)"
                f" (plantline_machine_prediction_timestamp_seconds{q.MACHINES})",
                unit="s",
                decimals=0,
                width=130,
            ),
            "machine_type": kit.Column("type", width=110),
        },
        sort="score ÷ threshold",
    )
    alerts = kit.rows(
        "Firing alerts",
        "Oldest first. docs/operations/alerts.md tells what to do, alert by alert.",
        {
            "alertname": kit.Column("alert"),
            "severity": kit.Column(
                "severity",
                width=100,
                words={
                    "critical": ("critical", kit.TROUBLE),
                    "warning": ("warning", kit.WARNING),
                },
            ),
            "instance": kit.Column("host", width=110),
            "age": kit.Column("for", q.firing_since(), unit="s", decimals=0, width=100),
        },
        sort="for",
    )
    return kit.dashboard(
        UID,
        "Plant overview",
        "Whether the plant is watched, and whether it is well.",
        [kit.machine_type()],
        [
            (5, numbers),
            (9, [machines.span(14), alerts.span(10)]),
            (
                7,
                [
                    q.throughput(),
                    q.lag(),
                    q.disk_used("instance"),
                    q.memory_used(),
                ],
            ),
        ],
    )
