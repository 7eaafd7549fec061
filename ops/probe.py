"""What the plant stands on: disks, and network and clocks between all pairs of hosts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import gevent

from ops.fleet import Fleet, NoAnswerError
from ops.plant import Plant, PlantError
from ops.remote.measure import DiskResult, LinkResult
from ops.status import data_paths
from ops.text import columns, duration_text

PORT = 7199
TIMEOUT_S = 60
ROUND_S = 30

Verdict = Literal["good", "poor", "bad"]
MEBI = 1024 * 1024

# (good up to, poor up to), or (good from, poor from). A checkpoint and a Kafka controller wait for
# the disk's sync; a record with acks=all waits for a round trip between brokers; a gigabit carries
# 112 MiB/s; clocks are told apart from late readings by max_disorder_s, 5 s unless the plant model
# says otherwise, and logs of two hosts can be read side by side only below some 50 ms.
SYNC_S = (0.020, 0.100)
DISK_BYTES_PER_S = (50 * MEBI, 15 * MEBI)
RTT_S = (0.002, 0.010)
LINK_BYTES_PER_S = (90 * MEBI, 10 * MEBI)
CLOCK_S = (0.050, 0.500)


@dataclass(frozen=True)
class Results:
    """Per host its disks, per pair its link; in place of a figure, why there is none."""

    disks: Mapping[str, Sequence[DiskResult] | str]
    links: Mapping[tuple[str, str], LinkResult | str]
    unreachable: Mapping[str, str]


def measure(plant: Plant, fleet: Fleet, port: int) -> Results:
    """Measure everything. Disks of all hosts at the same time; of the links, those in a round."""
    hosts = list(fleet.connections)
    disk_answers = fleet.ask(
        "measure",
        {host: {"task": "disks", "paths": data_paths(plant, host) or ["/"]} for host in hosts},
        TIMEOUT_S,
    )
    disks: dict[str, Sequence[DiskResult] | str] = {
        host: str(answer) if isinstance(answer, NoAnswerError) else answer
        for host, answer in disk_answers.items()
    }
    return Results(disks, measure_links(plant, fleet, port), fleet.unreachable)


def measure_links(plant: Plant, fleet: Fleet, port: int) -> dict[tuple[str, str], LinkResult | str]:
    """Every pair of hosts once; no host is in two measurements at a time."""
    hosts = list(fleet.connections)
    plan = rounds(hosts)
    common: dict[str, object] = {"port": port, "token": secrets.token_hex(16)}
    lifetime_s = ROUND_S * (len(plan) + 1)
    serving = gevent.spawn(
        fleet.ask,
        "measure",
        {host: {"task": "serve", "lifetime_s": lifetime_s, **common} for host in hosts},
        lifetime_s + ROUND_S,
    )
    links: dict[tuple[str, str], LinkResult | str] = {}
    try:
        for pairs in plan:
            peers = dict(pairs)
            answers = fleet.ask(
                "measure",
                {
                    host: {"task": "link", "peer": data_address(plant, peer), **common}
                    for host, peer in pairs
                },
                ROUND_S,
            )
            for host, answer in answers.items():
                failed = isinstance(answer, NoAnswerError) or "error" in answer
                why = answer["error"] if isinstance(answer, dict) and failed else str(answer)
                links[host, peers[host]] = why if failed else answer
    finally:
        fleet.ask("measure", {host: {"task": "stop", **common} for host in hosts}, ROUND_S)
    served = serving.get()
    refused = [host for host in hosts if "error" in served[host]]
    if refused:
        first = refused[0]
        raise PlantError(
            f"host {first}: port {port}: {served[first]['error']}; choose another with --port"
        )
    return links


def data_address(plant: Plant, host: str) -> str:
    """The address that other hosts of the plant use."""
    address = plant.value(host, "kafka_address | default(ansible_host | default(none))")
    return str(address or host)


def rounds(hosts: Sequence[str]) -> list[list[tuple[str, str]]]:
    """All pairs, in rounds in which no host occurs twice (a tournament by the circle method)."""
    circle: list[str | None] = [*hosts, *([None] if len(hosts) % 2 else [])]
    plan = []
    for _ in range(len(circle) - 1):
        half = len(circle) // 2
        met = zip(circle[:half], reversed(circle[half:]), strict=True)
        plan.append([(a, b) for a, b in met if a is not None and b is not None])
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return [pairs for pairs in plan if pairs]


def at_most(value: float, limits: tuple[float, float]) -> Verdict:
    """The verdict on a figure that should be small."""
    good, poor = limits
    return "good" if value <= good else "poor" if value <= poor else "bad"


def at_least(value: float, limits: tuple[float, float]) -> Verdict:
    """The verdict on a figure that should be large."""
    good, poor = limits
    return "good" if value >= good else "poor" if value >= poor else "bad"


def worst(*verdicts: Verdict) -> Verdict:
    """The worst of some verdicts."""
    return max(verdicts, key=("good", "poor", "bad").index)


def disk_verdict(disk: DiskResult) -> Verdict:
    """What a disk is good for."""
    if disk["error"]:
        return "bad"
    return worst(
        at_most(disk["sync_p99_s"], SYNC_S), at_least(disk["bytes_per_s"], DISK_BYTES_PER_S)
    )


def link_verdict(link: LinkResult | str) -> Verdict:
    """What a link is good for, clocks not counted."""
    if isinstance(link, str):
        return "bad"
    slower = min(link["out_bytes_per_s"], link["back_bytes_per_s"])
    return worst(at_most(link["rtt_p99_s"], RTT_S), at_least(slower, LINK_BYTES_PER_S))


def clock_verdict(link: LinkResult) -> Verdict:
    """How far two clocks are apart for certain."""
    return at_most(abs(link["clock_s"]) - link["clock_error_s"], CLOCK_S)


def bad(results: Results) -> bool:
    """Whether anything is bad enough to act on."""
    verdicts: list[Verdict] = ["bad" for _ in results.unreachable]
    for disks in results.disks.values():
        verdicts += ["bad"] if isinstance(disks, str) else map(disk_verdict, disks)
    for link in results.links.values():
        verdicts.append(link_verdict(link))
        if not isinstance(link, str):
            verdicts.append(clock_verdict(link))
    return "bad" in verdicts


def report(results: Results) -> str:
    """Tables of everything that was measured."""
    lines = [f"! {host} cannot be reached: {why}" for host, why in results.unreachable.items()]
    rows = [["disk", "", "written", "sync p50", "sync p99", "verdict"]]
    for host, disks in results.disks.items():
        if isinstance(disks, str):
            rows.append([host, "", disks, "", "", "bad"])
            continue
        for disk in disks:
            if disk["error"]:
                rows.append([host, disk["path"], disk["error"], "", "", "bad"])
                continue
            figures = [rate(disk["bytes_per_s"]), ms(disk["sync_p50_s"]), ms(disk["sync_p99_s"])]
            rows.append([host, disk["path"], *figures, disk_verdict(disk)])
    lines += [*columns(rows), ""]
    rows = [["network", "", "round trip p50", "p99", "there", "back", "verdict"]]
    clocks = [["clock", "", "is ahead by", "within", "verdict"]]
    for (host, peer), link in results.links.items():
        if isinstance(link, str):
            rows.append([host, peer, link, "", "", "", "bad"])
            continue
        trips = [ms(link["rtt_p50_s"]), ms(link["rtt_p99_s"])]
        rates = [rate(link["out_bytes_per_s"]), rate(link["back_bytes_per_s"])]
        rows.append([host, peer, *trips, *rates, link_verdict(link)])
        lead = link["clock_s"]
        ahead, behind = (peer, host) if lead >= 0 else (host, peer)
        spans = [ms(abs(lead)), ms(link["clock_error_s"])]
        clocks.append([ahead, f"of {behind}", *spans, clock_verdict(link)])
    return "\n".join([*lines, *columns(rows), "", *columns(clocks)])


def ms(seconds: float) -> str:
    """Short spans in milliseconds, long ones in words."""
    return f"{seconds * 1000:.2f} ms" if seconds < 1 else duration_text(seconds)


def rate(bytes_per_s: float) -> str:
    """A rate in MiB/s."""
    return f"{bytes_per_s / MEBI:,.0f} MiB/s"
