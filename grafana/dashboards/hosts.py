"""The hosts: processor, memory, disks, network, clocks."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import kit
from grafana.dashboards import queries as q

UID = "plantline-hosts"
HOSTS = '{plant="$plant", instance=~"$host"}'
DISK = f"node_filesystem_avail_bytes{HOSTS} / node_filesystem_size_bytes{HOSTS}"
CPU = (
    "1 - avg by (instance) (rate(node_cpu_seconds_total"
    '{plant="$plant", instance=~"$host", mode="idle"}[$__rate_interval]))'
)
MEMORY = f"1 - node_memory_MemAvailable_bytes{HOSTS} / node_memory_MemTotal_bytes{HOSTS}"
# At the speed of the last hours; at most 30 days, also for disks that do not fill. As for the
# alert, a disk with 40 % of its room left is in no danger: a young one fills fast.
MONTH_S = 30 * 86_400
FULL_IN = (
    f"min by (instance) (clamp_max(node_filesystem_avail_bytes{HOSTS}"
    f" / clamp_min(-deriv(node_filesystem_avail_bytes{HOSTS}[6h]), 1), {MONTH_S})"
    f" and {DISK} < 0.4 or 0 * node_filesystem_avail_bytes{HOSTS} + {MONTH_S})"
)


def build() -> Dashboard:
    numbers = [
        kit.number(
            "Hosts down",
            "Hosts whose exporter does not answer.",
            'count(up{plant="$plant", job="node", instance=~"$host"} == 0) or vector(0)',
            limits=kit.above(1),
        ),
        kit.number(
            "Fullest disk",
            "The fullest file system of all hosts. A full disk stops Kafka on its host.",
            f"max(1 - {DISK})",
            unit="percentunit",
            decimals=0,
            limits=kit.high(0.8, 0.95),
        ),
        kit.number(
            "First disk full in",
            "At the speed of six hours. 30 days: later or never, or not yet 60 % full.",
            f"min({FULL_IN})",
            unit="s",
            decimals=0,
            limits=(
                (kit.FROM_THE_BOTTOM, kit.TROUBLE),
                (86_400, kit.WARNING),
                (4 * 86_400, kit.CALM),
            ),
        ),
        kit.number(
            "Most memory used",
            "Of all hosts, without what the system can give back at once (caches).",
            f"max({MEMORY})",
            unit="percentunit",
            decimals=0,
            limits=kit.high(0.85, 0.95),
        ),
        kit.number(
            "Busiest host",
            "Share of all its processors.",
            f"max({CPU})",
            unit="percentunit",
            decimals=0,
            limits=((0.9, kit.WARNING),),
        ),
        kit.number(
            "Largest clock error",
            "Against the clock of the monitoring host, up to a scrape's duration exact.",
            f"max(abs(node_time_seconds{HOSTS} - timestamp(node_time_seconds{HOSTS})))",
            unit="s",
            decimals=1,
            limits=kit.high(1, 2),
        ),
    ]
    return kit.dashboard(
        UID,
        "Hosts",
        "Processor, memory, disks, network and clocks of all hosts.",
        [
            kit.variable(
                "host",
                "Host",
                "Hosts by their names in the inventory.",
                'label_values(up{plant="$plant", job="node"}, instance)',
                several=True,
            )
        ],
        [
            (4, numbers),
            (
                8,
                [
                    kit.graph(
                        "Processor",
                        "Share of all processors of the host.",
                        [kit.Query(CPU, "{{instance}}")],
                        unit="percentunit",
                        maximum=1,
                    ),
                    kit.graph(
                        "Memory",
                        "Without what the system can give back at once (caches).",
                        [kit.Query(MEMORY, "{{instance}}")],
                        unit="percentunit",
                        maximum=1,
                        limits=((0.95, kit.TROUBLE),),
                    ),
                    kit.graph(
                        "Network, received and sent",
                        "All interfaces of the host together.",
                        [
                            kit.Query(
                                "sum by (instance) (rate(node_network_receive_bytes_total"
                                f"{HOSTS}[$__rate_interval])"
                                " + rate(node_network_transmit_bytes_total"
                                f"{HOSTS}[$__rate_interval]))",
                                "{{instance}}",
                            )
                        ],
                        unit="Bps",
                    ),
                ],
            ),
            (
                8,
                [
                    q.disk_used("instance, mountpoint", HOSTS),
                    kit.bars(
                        "Disk full in",
                        "At the speed of the last six hours, the first file system of each host."
                        " 30 days stand for longer, or never.",
                        FULL_IN,
                        "{{instance}}",
                        unit="s",
                        maximum=MONTH_S,
                        decimals=0,
                        limits=(
                            (kit.FROM_THE_BOTTOM, kit.TROUBLE),
                            (86_400, kit.WARNING),
                            (4 * 86_400, kit.NORMAL),
                        ),
                    ),
                    kit.graph(
                        "Busiest disk",
                        "Share of the time with requests under way, of each host's busiest disk.",
                        [
                            kit.Query(
                                "max by (instance) (rate(node_disk_io_time_seconds_total"
                                f"{HOSTS}[$__rate_interval]))",
                                "{{instance}}",
                            )
                        ],
                        unit="percentunit",
                        maximum=1,
                    ),
                ],
            ),
        ],
    )
