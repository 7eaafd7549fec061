"""Expressions and panels that more than one dashboard shows."""

from __future__ import annotations

from grafana_foundation_sdk.builders import bargauge, stat, timeseries

from grafana import kit

PLANT = '{plant="$plant"}'
MACHINES = '{plant="$plant", machine_type=~"$machine_type"}'
# Rules that aggregate have no plant in their labels. The watchdog always fires: it is no fault.
ALERTS = 'plant=~"$plant|", alertname!="Watchdog"'


def firing(matcher: str) -> str:
    """Number of firing alerts with a label, 0 where there is none."""
    return f'sum(ALERTS{{{ALERTS}, alertstate="firing", {matcher}}}) or vector(0)'


def firing_since() -> str:
    """Seconds that each alert has been active; one of 0 s named `none` where none fires."""
    active = f"time() - ALERTS_FOR_STATE{{{ALERTS}}}"
    is_firing = f'ALERTS{{{ALERTS}, alertstate="firing"}}'
    return (
        "max by (alertname, severity, instance)"
        f" ({active} and ignoring (alertstate) {is_firing})"
        ' or on () label_replace(vector(0), "alertname", "none", "", "")'
    )


def machine_state(machines: str = MACHINES) -> str:
    """Of each machine: 1 in alarm, 0 normal, -1 without a score (commissioned, or never seen)."""
    by = "by (machine_id, machine_type)"
    return (
        f"(max {by} (plantline_machine_alert{machines}) > 0)"
        f" or 0 * max {by} (plantline_machine_score{machines})"
        f" or 0 * max {by} (plantline_machine_info{machines}) - 1"
    )


def heartbeat_age(link: str = "") -> stat.Panel:
    return kit.number(
        "Heartbeat age",
        "Age of the newest prediction of the reserved machine, which sends one reading a second"
        " through the whole path. While it is low, the plant is watched.",
        f"time() - max(plantline_heartbeat_timestamp_seconds{PLANT})",
        unit="s",
        decimals=0,
        limits=kit.high(30, 60),
        absent=("none", kit.TROUBLE),
        link=kit.to(link) if link else "",
    )


def throughput() -> timeseries.Panel:
    return kit.graph(
        "Readings and predictions",
        "What arrives from the machines, and what comes of it, per second.",
        [
            kit.Query(
                f"sum(rate(plantline_readings_total{MACHINES}[$__rate_interval]))", "readings"
            ),
            kit.Query(
                f"sum(rate(plantline_predictions_total{MACHINES}[$__rate_interval]))",
                "predictions",
            ),
        ],
        unit="cps",
    )


def lag() -> timeseries.Panel:
    return kit.graph(
        "Readings not yet scored",
        "How many readings each job is behind. It moves once per checkpoint; growing for long"
        " means that the job is too slow, or stands.",
        [kit.Query(f"sum by (group) (plantline_consumer_lag{PLANT})", "{{group}}")],
        unit="short",
    )


def disk_used(by: str, hosts: str = PLANT) -> bargauge.Panel:
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", "))
    return kit.bars(
        "Disk used",
        "The fullest file system of each host." if by == "instance" else "Each file system.",
        f"max by ({by})"
        f" (1 - node_filesystem_avail_bytes{hosts} / node_filesystem_size_bytes{hosts})",
        legend,
        unit="percentunit",
        maximum=1,
        decimals=0,
        limits=kit.high(0.8, 0.95),
        link=kit.to("plantline-hosts") if by == "instance" else "",
    )


def memory_used(hosts: str = PLANT) -> bargauge.Panel:
    return kit.bars(
        "Memory used",
        "Without what the system can give back at once (caches).",
        f"1 - node_memory_MemAvailable_bytes{hosts} / node_memory_MemTotal_bytes{hosts}",
        "{{instance}}",
        unit="percentunit",
        maximum=1,
        decimals=0,
        limits=kit.high(0.85, 0.95),
        link=kit.to("plantline-hosts"),
    )
