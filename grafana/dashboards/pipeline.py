"""From readings to predictions and alerts: how much, how fast, and what was left out."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import kit
from grafana.dashboards import queries as q

UID = "plantline-pipeline"
OPERATOR = "flink_taskmanager_job_task_operator"
WINDOWS = f"{OPERATOR}_machine_type_windows_scored"
REPAIRED = f"{OPERATOR}_machine_type_channel_repair_values_repaired"
INFERENCE = f"{OPERATOR}_machine_type_inference_time_us"


def rate(metric: str, by: str = "") -> str:
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate({metric}{q.MACHINES}[$__rate_interval]))"


def build() -> Dashboard:
    numbers = [
        q.heartbeat_age(),
        kit.number(
            "Readings",
            "Readings that arrive per second, the heartbeat's not among them.",
            rate("plantline_readings_total"),
            unit="cps",
            decimals=1,
        ),
        kit.number(
            "Predictions",
            "Predictions per second that readers of committed records see.",
            rate("plantline_predictions_total"),
            unit="cps",
            decimals=1,
        ),
        kit.number(
            "Readings not yet scored",
            "All jobs together. It moves once per checkpoint.",
            f"sum(plantline_consumer_lag{q.PLANT})",
            unit="short",
            decimals=0,
            limits=kit.high(5_000, 10_000),
        ),
        kit.number(
            "Dead letters in an hour",
            "Records that could not be used, with their reason on topic dlq.",
            f"sum(increase(plantline_dead_letters_total{q.PLANT}[1h])) or vector(0)",
            unit="short",
            decimals=0,
            limits=((1, kit.WARNING),),
        ),
        kit.number(
            "Alerts raised in an hour",
            "Alerts of machines, by all rules.",
            'sum(increase(plantline_alerts_total{plant="$plant", machine_type=~"$machine_type",'
            ' state="raised"}[1h])) or vector(0)',
            unit="short",
            decimals=0,
        ),
    ]
    return kit.dashboard(
        UID,
        "Pipeline",
        "From readings to predictions and alerts: how much, how fast, and what was left out.",
        [kit.machine_type()],
        [
            (4, numbers),
            (
                8,
                [
                    q.throughput(),
                    q.lag(),
                    kit.graph(
                        "Time in the model",
                        "Mean time that a job spends in its model for one window.",
                        [
                            kit.Query(
                                f"{rate(INFERENCE, 'machine_type')}"
                                f" / {rate(WINDOWS, 'machine_type')}",
                                "{{machine_type}}",
                            )
                        ],
                        unit="µs",
                    ),
                ],
            ),
            (
                8,
                [
                    kit.graph(
                        "Readings by machine type",
                        "Readings that arrive per second.",
                        [
                            kit.Query(
                                rate("plantline_readings_total", "machine_type"),
                                "{{machine_type}}",
                            )
                        ],
                        unit="cps",
                    ),
                    kit.graph(
                        "Left out",
                        "Dead letters per second, by reason.",
                        [
                            kit.Query(
                                f"sum by (reason) (rate(plantline_dead_letters_total{q.PLANT}"
                                "[$__rate_interval]))",
                                "{{reason}}",
                            )
                        ],
                        unit="cps",
                    ),
                    kit.graph(
                        "Repaired",
                        "Values that cleaning left out or filled in, per second; a value counts"
                        " once for each window that it is in.",
                        [
                            kit.Query(
                                rate(REPAIRED, "machine_type, channel, repair"),
                                "{{machine_type}} {{channel}}: {{repair}}",
                            )
                        ],
                        unit="cps",
                    ),
                    kit.rows(
                        "Models",
                        "The model of the newest prediction of each machine type.",
                        {
                            "machine_type": kit.Column("machine type"),
                            "kind": kit.Column("kind"),
                            "model": kit.Column("model"),
                            "model_version": kit.Column("version"),
                            "machines": kit.Column(
                                "in use",
                                "max by (machine_type, kind, model, model_version)"
                                f" (plantline_model_info{q.MACHINES})",
                                words={"1": ("yes", kit.CALM)},
                                width=80,
                            ),
                        },
                        sort="machine type",
                    ),
                ],
            ),
        ],
    )
