"""Kafka: whether records are safe, and whether brokers keep up."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import kit
from grafana.dashboards.queries import PLANT

UID = "plantline-kafka"


def rate(metric: str, by: str = "") -> str:
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate({metric}{PLANT}[$__rate_interval]))"


def build() -> Dashboard:
    numbers = [
        kit.number(
            "Brokers running",
            "Brokers that serve clients.",
            f"sum(kafka_server_state{PLANT} == bool 3)",
            limits=kit.below(1),
        ),
        kit.number(
            "Active controllers",
            "Exactly one node decides on leaders; without it nothing can be elected or changed.",
            f"sum(kafka_controller_active{PLANT})",
            limits=((kit.FROM_THE_BOTTOM, kit.TROUBLE), (1, kit.CALM), (2, kit.TROUBLE)),
        ),
        kit.number(
            "Offline partitions",
            "Partitions without a leader: nobody reads or writes them.",
            f"max(kafka_controller_offline_partitions{PLANT})",
            limits=kit.above(1),
        ),
        kit.number(
            "Refusing partitions",
            "Partitions with fewer replicas in sync than min.insync.replicas: producers wait.",
            f"sum(kafka_server_under_min_isr_partitions{PLANT})",
            limits=kit.above(1),
        ),
        kit.number(
            "Under-replicated partitions",
            "Nothing is lost, but the next broker must not fail. Usual just after a restart.",
            f"sum(kafka_server_under_replicated_partitions{PLANT})",
            limits=((1, kit.WARNING),),
        ),
        kit.number(
            "Failed disks",
            "Log directories that a broker gave up.",
            f"sum(kafka_server_offline_log_dirs{PLANT})",
            limits=kit.above(1),
        ),
    ]
    return kit.dashboard(
        UID,
        "Kafka",
        "Whether records are safe, and whether brokers keep up.",
        [],
        [
            (4, numbers),
            (
                8,
                [
                    kit.graph(
                        "Records in, by topic",
                        "Records that producers write, per second.",
                        [kit.Query(rate("kafka_topic_messages_in_total", "topic"), "{{topic}}")],
                        unit="cps",
                    ),
                    kit.graph(
                        "Bytes in and out",
                        "What producers write and consumers read; copies to followers are not"
                        " counted.",
                        [
                            kit.Query(rate("kafka_topic_bytes_in_total"), "in"),
                            kit.Query(rate("kafka_topic_bytes_out_total"), "out"),
                        ],
                        unit="Bps",
                    ),
                    kit.graph(
                        "Slow requests",
                        "Of 100 requests, 99 are faster; the slowest broker of each kind."
                        " Fetches wait for records, up to half a second.",
                        [
                            kit.Query(
                                "max by (request) (kafka_request_time_ms"
                                '{plant="$plant", quantile="0.99"})',
                                "{{request}}",
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
                        "Size of the logs, by host",
                        "What Kafka keeps on each host's disks.",
                        [
                            kit.Query(
                                f"sum by (instance) (kafka_log_size_bytes{PLANT})",
                                "{{instance}}",
                            )
                        ],
                        unit="bytes",
                    ),
                    kit.graph(
                        "Idle network threads, by host",
                        "Below 0.3 a broker is short of threads or processor.",
                        [
                            kit.Query(
                                f"min by (instance) (kafka_network_processor_idle_ratio{PLANT})",
                                "{{instance}}",
                            )
                        ],
                        unit="percentunit",
                        maximum=1,
                    ),
                    kit.graph(
                        "Heap in use, by host",
                        "Share of the Java heap. It rises and falls; staying high is trouble.",
                        [
                            kit.Query(
                                'jvm_memory_used_bytes{plant="$plant", job="kafka", area="heap"}'
                                " / jvm_memory_max_bytes"
                                '{plant="$plant", job="kafka", area="heap"}',
                                "{{instance}}",
                            )
                        ],
                        unit="percentunit",
                        maximum=1,
                        limits=((0.95, kit.TROUBLE),),
                    ),
                ],
            ),
        ],
    )
