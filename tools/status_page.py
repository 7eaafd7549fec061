"""Write the plant's overview as one static page, for a plant without Grafana.

    python tools/status_page.py [--inventory inventories/demo] [--prometheus URL] [--out FILE]

Everything on the page is what Prometheus knows at this moment; the page says when it was made.

Exit codes: 0 done; 1 Prometheus cannot be asked (the page is written, and says so); 2 there is no
address to ask, or the page cannot be written.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = Path(__file__).with_name("status_page.html.j2")
TIMEOUT_S = 10.0
UNKNOWN = "-"
MACHINES_SHOWN = 60  # those in alarm are shown in any case
ALERTS_SHOWN = 12

Series = Mapping[str, Any]  # {"metric": {label: value}, "value": [time, "value"]}
Query = Callable[[str], list[Series]]


class StatusError(Exception):
    """The text is all that its reader needs."""


# ── What is shown ────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A big number with its name; `level` is calm, warning or trouble."""

    title: str
    value: str
    about: str
    level: str = "calm"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A firing alert."""

    name: str
    severity: str
    summary: str
    age_s: float


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine with its newest window; numbers are None where there is none."""

    machine_id: str
    machine_type: str
    place: str
    state: str  # ALARM, normal or not scored
    ratio: float | None  # score ÷ threshold
    age_s: float | None  # of its newest prediction


@dataclass(frozen=True, kw_only=True)
class Job:
    """A Flink job that the JobManager knows."""

    name: str
    state: str
    restarts: float | None  # in the last hour
    checkpoint_ms: float | None
    lag: float | None  # records not yet committed


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A Kafka node that holds records."""

    host: str
    state: str
    under_replicated: float | None
    offline_disks: float | None


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host; shares are of 1, None where they are not known."""

    name: str
    state: str
    processor: float | None
    memory: float | None
    disk: float | None
    mountpoint: str  # of its fullest file system


@dataclass(frozen=True, kw_only=True)
class Status:
    """The whole page."""

    plant: str
    tiles: list[Tile]
    alerts: list[Alert]
    machines: list[Machine]
    jobs: list[Job]
    brokers: list[Broker]
    hosts: list[Host]


# ── Asking ───────────────────────────────────────────────────────────────────────────────────────


class Prometheus:
    """Prometheus' HTTP API at an address such as https://198.51.100.7:9090.

    pki: folder with the certificates of the plant's CA and of the operator; StatusError for an
    https address without them.
    """

    def __init__(self, url: str, pki: Path, timeout_s: float = TIMEOUT_S) -> None:
        if not url.startswith(("http://", "https://")):
            raise StatusError(f"{url!r} is no address of a Prometheus: https://HOST:PORT expected")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._context = operator_context(pki) if url.startswith("https://") else None

    def query(self, expression: str) -> list[Series]:
        """Series of an expression, now. Raises StatusError."""
        return list(self._get("query", query=expression)["result"])

    def alerts(self) -> list[Mapping[str, Any]]:
        """Alerts that fire. Raises StatusError."""
        return [alert for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"]

    def _get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 (JSON)
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(  # noqa: S310 (Prometheus of the inventory)
                address, timeout=self._timeout_s, context=self._context
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise StatusError(f"Prometheus at {self.url} refuses: HTTP {error.code}") from None
        except (OSError, ValueError, KeyError) as error:
            inner = getattr(error, "reason", error)
            reason = getattr(inner, "strerror", None) or inner
            raise StatusError(f"Prometheus at {self.url} cannot be asked: {reason}") from None


def operator_context(pki: Path) -> ssl.SSLContext:
    """Trusts the plant's CA, and asks as its operator. Raises StatusError."""
    try:
        context = ssl.create_default_context(cafile=pki / "ca.pem")
        context.load_cert_chain(pki / "operator" / "bundle.pem")
    except OSError as error:
        raise StatusError(
            f"{pki} has no certificate of the operator ({error.strerror}): site.yml puts it there"
        ) from None
    return context


def address_in(inventory: Path) -> str:
    """Address of the Prometheus of an inventory's monitoring host. Raises StatusError."""
    command = ["ansible-inventory", "-i", str(inventory), "--list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if listing.returncode:
        raise StatusError(f"{inventory}: {listing.stderr.strip()[-500:]}")
    groups = json.loads(listing.stdout)
    hosts = groups.get("monitoring", {}).get("hosts", [])
    if not hosts:
        raise StatusError(
            f"{inventory} has no host in group monitoring: name one, or give --prometheus URL"
        )
    variables = groups["_meta"]["hostvars"].get(hosts[0], {})
    host = variables.get("ansible_host", hosts[0])
    return f"https://{host}:{variables.get('prometheus_port', 9090)}"


# ── Reading the answers ──────────────────────────────────────────────────────────────────────────


def number(series: list[Series]) -> float | None:
    """The value of an expression that has one, None where it has none."""
    value = float(series[0]["value"][1]) if series else math.nan
    return None if math.isnan(value) else value


def by(series: list[Series], label: str) -> dict[str, float]:
    """Values by a label; those that are no number are left out."""
    values = {one["metric"].get(label, ""): float(one["value"][1]) for one in series}
    return {key: value for key, value in values.items() if not math.isnan(value)}


def collect(prometheus: Prometheus) -> Status:
    """All that the page shows. Raises StatusError."""
    ask = prometheus.query
    alerts = firing(prometheus.alerts(), number(ask("vector(time())")) or 0.0)
    machines = read_machines(ask)
    jobs = read_jobs(ask)
    brokers = read_brokers(ask)
    names = by(ask("count by (plant) (up)"), "plant")
    return Status(
        plant=", ".join(sorted(names)) or "without a name",
        tiles=tiles(ask, alerts, machines, jobs, brokers),
        alerts=alerts,
        machines=machines,
        jobs=jobs,
        brokers=brokers,
        hosts=read_hosts(ask),
    )


def firing(found: list[Mapping[str, Any]], now: float) -> list[Alert]:
    """Alerts to act on, critical ones first, then the oldest."""
    alerts = [
        Alert(
            name=alert["labels"]["alertname"],
            severity=alert["labels"].get("severity", ""),
            summary=alert["annotations"].get("summary", ""),
            age_s=now - datetime.datetime.fromisoformat(alert["activeAt"][:19] + "Z").timestamp(),
        )
        for alert in found
        if alert["labels"]["alertname"] != "Watchdog"  # it fires always
    ]
    return sorted(alerts, key=lambda alert: (alert.severity != "critical", -alert.age_s))


def read_machines(ask: Query) -> list[Machine]:
    """All machines that are known, the worst first."""
    known = {series["metric"]["machine_id"]: series["metric"] for series in ask(MACHINE_INFO)}
    alarms = by(ask("max by (machine_id) (plantline_machine_alert)"), "machine_id")
    ratios = by(
        ask("max by (machine_id) (plantline_machine_score / plantline_machine_threshold)"),
        "machine_id",
    )
    ages = by(
        ask("time() - max by (machine_id) (plantline_machine_prediction_timestamp_seconds)"),
        "machine_id",
    )
    machines = [
        Machine(
            machine_id=machine_id,
            machine_type=labels.get("machine_type", ""),
            place=", ".join(filter(None, (labels.get("line"), labels.get("area")))),
            state="ALARM"
            if alarms.get(machine_id)
            else "normal"
            if machine_id in ratios
            else "not scored",
            ratio=ratios.get(machine_id),
            age_s=ages.get(machine_id),
        )
        for machine_id, labels in known.items()
    ]
    return sorted(machines, key=lambda m: (m.state != "ALARM", -(m.ratio or 0), m.machine_id))


MACHINE_INFO = "max by (machine_id, machine_type, line, area) (plantline_machine_info)"


def read_jobs(ask: Query) -> list[Job]:
    """Jobs that the JobManager knows, by name."""
    running = by(ask("max by (job_name) (flink_jobmanager_job_runningState)"), "job_name")
    restarting = by(ask("max by (job_name) (flink_jobmanager_job_restartingState)"), "job_name")
    restarts = by(
        ask("max by (job_name) (increase(flink_jobmanager_job_numRestarts[1h]))"), "job_name"
    )
    checkpoints = by(
        ask("max by (job_name) (flink_jobmanager_job_lastCheckpointDuration)"), "job_name"
    )
    lags = by(ask("sum by (group) (plantline_consumer_lag)"), "group")
    return [
        Job(
            name=name,
            state="running" if runs else "restarting" if restarting.get(name) else "not running",
            restarts=restarts.get(name),
            checkpoint_ms=checkpoints.get(name),
            lag=lags.get(name),
        )
        for name, runs in sorted(running.items())
    ]


def read_brokers(ask: Query) -> list[Broker]:
    """Kafka's nodes; a controller that is no broker has no state of its own."""
    up = by(ask('up{job="kafka"}'), "instance")
    states = by(ask("kafka_server_state"), "instance")
    under = by(ask("kafka_server_under_replicated_partitions"), "instance")
    disks = by(ask("kafka_server_offline_log_dirs"), "instance")
    serving = 3

    def state(host: str) -> str:
        if not up[host]:
            return "no answer"
        if host not in states:
            return "controller"
        return "running" if states[host] == serving else "not serving"

    return [
        Broker(
            host=host,
            state=state(host),
            under_replicated=under.get(host),
            offline_disks=disks.get(host),
        )
        for host in sorted(up)
    ]


def read_hosts(ask: Query) -> list[Host]:
    """All hosts, by name."""
    up = by(ask('up{job="node"}'), "instance")
    processor = by(
        ask('1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[2m]))'), "instance"
    )
    memory = by(ask("1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"), "instance")
    used = "1 - node_filesystem_avail_bytes / node_filesystem_size_bytes"
    fullest = {
        series["metric"]["instance"]: (
            float(series["value"][1]),
            series["metric"].get("mountpoint", ""),
        )
        for series in ask(f"topk by (instance) (1, {used})")
    }
    return [
        Host(
            name=host,
            state="up" if answers else "no answer",
            processor=processor.get(host),
            memory=memory.get(host),
            disk=fullest[host][0] if host in fullest else None,
            mountpoint=fullest[host][1] if host in fullest else "",
        )
        for host, answers in sorted(up.items())
    ]


def tiles(
    ask: Query, alerts: list[Alert], machines: list[Machine], jobs: list[Job], brokers: list[Broker]
) -> list[Tile]:
    """The big numbers, in the order in which they matter."""
    age = number(ask("time() - max(plantline_heartbeat_timestamp_seconds)"))
    critical = sum(alert.severity == "critical" for alert in alerts)
    alarms = sum(machine.state == "ALARM" for machine in machines)
    running = sum(job.state == "running" for job in jobs)
    serving = sum(broker.state in ("running", "controller") for broker in brokers)
    lag = number(ask("sum(plantline_consumer_lag)"))
    return [
        Tile(
            title="Heartbeat age",
            value="none" if age is None else duration(age),
            about="of the reserved machine: low means that the plant is watched",
            level="trouble" if age is None else level(age, 30, 60),
        ),
        Tile(
            title="Alerts",
            value=str(len(alerts)),
            about=f"{critical} of them critical",
            level="trouble" if critical else "warning" if alerts else "calm",
        ),
        Tile(
            title="Machines in alarm",
            value=str(alarms),
            about=f"of {len(machines)}",
            level="warning" if alarms else "calm",
        ),
        Tile(
            title="Jobs running",
            value=str(running),
            about=f"of {len(jobs)} that Flink knows",
            level="trouble" if running < len(jobs) or not jobs else "calm",
        ),
        Tile(
            title="Kafka nodes",
            value=str(serving),
            about=f"of {len(brokers)} work",
            level="trouble" if serving < len(brokers) or not brokers else "calm",
        ),
        Tile(
            title="Not yet scored",
            value="unknown" if lag is None else f"{lag:,.0f}",
            about="readings that the jobs are behind",
            level="warning" if lag is None else level(lag, 5_000, 10_000),
        ),
    ]


def level(value: float, warning: float, trouble: float) -> str:
    """How serious a value is that must not get high."""
    return "trouble" if value >= trouble else "warning" if value >= warning else "calm"


# ── The page ─────────────────────────────────────────────────────────────────────────────────────


def duration(seconds: float | None) -> str:
    """Seconds for people, in one unit."""
    if seconds is None:
        return UNKNOWN
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def percent(share: float | None) -> str:
    return UNKNOWN if share is None else f"{share:.0%}"


def plain(value: float | None, decimals: int = 0) -> str:
    return UNKNOWN if value is None else f"{value:,.{decimals}f}"


def render(status: Status | None, made: datetime.datetime, trouble: str = "") -> str:
    """The page; without a status it tells of the trouble only."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "percent": percent, "plain": plain}
    machines = status.machines if status else []
    shown = [m for i, m in enumerate(machines) if i < MACHINES_SHOWN or m.state == "ALARM"]
    return environment.from_string(TEMPLATE.read_text("utf-8")).render(
        status=status,
        machines=shown,
        left_out=len(machines) - len(shown),
        alerts_shown=ALERTS_SHOWN,
        made=made.strftime("%d %B %Y, %H:%M:%S %Z"),
        made_ms=int(made.timestamp() * 1000),
        trouble=trouble,
        level=level,
    )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--inventory",
        type=Path,
        default=ROOT / "inventories" / "demo",
        help="its monitoring host is asked (%(default)s)",
    )
    parser.add_argument("--prometheus", metavar="URL", help="ask this one, https://HOST:PORT")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "status.html")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; its exit code."""
    options = parse(arguments)
    status, trouble = None, ""
    try:
        pki = ROOT / "out" / "pki" / options.inventory.resolve().name
        prometheus = Prometheus(options.prometheus or address_in(options.inventory), pki)
    except StatusError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        status = collect(prometheus)
    except StatusError as error:
        trouble = str(error)
        print(trouble, file=sys.stderr)
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(
            render(status, datetime.datetime.now().astimezone(), trouble), encoding="utf-8"
        )
    except OSError as error:
        print(f"{options.out}: {error.strerror}", file=sys.stderr)
        return 2
    print(options.out)
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
