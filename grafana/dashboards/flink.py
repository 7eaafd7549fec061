"""Flink: whether jobs run, keep up and could go on after a failure."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import kit
from grafana.dashboards.queries import PLANT

UID = "plantline-flink"
TASK = "flink_taskmanager_job_task"


def share(memory: str) -> list[kit.Query]:
    """Used part of a kind of JVM memory, of each Flink process."""
    return [
        kit.Query(
            f"flink_{process}_Status_JVM_Memory_{memory}_Used{PLANT}"
            f" / flink_{process}_Status_JVM_Memory_{memory}_Max{PLANT}",
            f"{{{{instance}}}} {title}",
        )
        for process, title in (("taskmanager", "TaskManager"), ("jobmanager", "JobManager"))
    ]


def build() -> Dashboard:
    numbers = [
        kit.number(
            "Jobs running",
            "Jobs in state RUNNING, the heartbeat's among them.",
            f"max(flink_jobmanager_numRunningJobs{PLANT})",
            limits=kit.below(1),
            absent=("no JobManager", kit.TROUBLE),
        ),
        kit.number(
            "TaskManagers missing",
            "Workers of the inventory that are not registered at the JobManager.",
            f'count(up{{plant="$plant", job="flink", component="taskmanager"}})'
            f" - max(flink_jobmanager_numRegisteredTaskManagers{PLANT})",
            limits=((1, kit.WARNING),),
        ),
        kit.number(
            "Free slots",
            "Task slots for further jobs, or for those of a lost worker.",
            f"max(flink_jobmanager_taskSlotsAvailable{PLANT})",
        ),
        kit.number(
            "Restarts in an hour",
            "Each time a job goes back to its last checkpoint; no record is lost or doubled.",
            f"sum(increase(flink_jobmanager_job_numRestarts{PLANT}[1h]))",
            decimals=0,
            limits=kit.high(1, 3),
        ),
        kit.number(
            "Failed checkpoints in an hour",
            "Predictions become visible with checkpoints: failed ones make them late.",
            f"sum(increase(flink_jobmanager_job_numberOfFailedCheckpoints{PLANT}[1h]))",
            decimals=0,
            limits=kit.high(1, 3),
        ),
        kit.number(
            "Slowest checkpoint",
            "The last one of each job, the slowest of these.",
            f"max(flink_jobmanager_job_lastCheckpointDuration{PLANT})",
            unit="ms",
            limits=kit.high(5_000, 30_000),
        ),
    ]
    return kit.dashboard(
        UID,
        "Flink",
        "Whether jobs run, keep up and could go on after a failure.",
        [],
        [
            (4, numbers),
            (
                8,
                [
                    kit.graph(
                        "Windows scored, by job",
                        "Windows that got a score, per second.",
                        [
                            kit.Query(
                                f"sum by (job_name) (rate({TASK}_operator_machine_type_"
                                f"windows_scored{PLANT}[$__rate_interval]))",
                                "{{job_name}}",
                            )
                        ],
                        unit="cps",
                    ),
                    kit.graph(
                        "Busiest task, by job",
                        "Share of the time that the busiest task works. Near 1 for long, the job"
                        " needs more parallelism.",
                        [
                            kit.Query(
                                f"max by (job_name) ({TASK}_busyTimeMsPerSecond{PLANT}) / 1000",
                                "{{job_name}}",
                            )
                        ],
                        unit="percentunit",
                        maximum=1,
                    ),
                    kit.graph(
                        "Checkpoint duration, by job",
                        "Of the last completed checkpoint.",
                        [
                            kit.Query(
                                "max by (job_name)"
                                f" (flink_jobmanager_job_lastCheckpointDuration{PLANT})",
                                "{{job_name}}",
                            )
                        ],
                        unit="ms",
                    ),
                ],
            ),
            (
                8,
                [
                    kit.graph(
                        "Checkpoint size, by job",
                        "State of the job. Growing for ever means that machines never end.",
                        [
                            kit.Query(
                                "max by (job_name)"
                                f" (flink_jobmanager_job_lastCheckpointFullSize{PLANT})",
                                "{{job_name}}",
                            )
                        ],
                        unit="bytes",
                    ),
                    kit.graph(
                        "Heap in use",
                        "Share of the Java heap. It rises and falls; staying high is trouble.",
                        share("Heap"),
                        unit="percentunit",
                        maximum=1,
                        limits=((0.95, kit.TROUBLE),),
                    ),
                    kit.graph(
                        "Metaspace in use",
                        "Share of the room for classes. It must not grow with every deployment.",
                        share("Metaspace"),
                        unit="percentunit",
                        maximum=1,
                        limits=((0.9, kit.TROUBLE),),
                    ),
                ],
            ),
        ],
    )
