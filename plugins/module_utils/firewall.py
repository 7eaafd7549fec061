"""Which connections a host of the plant takes, and from whom.

The ports are those of `preflight.services`. What comes out is a list of rules, which
roles/firewall/templates/firewall.nft.j2 writes in the words of nftables.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from plugins.module_utils.preflight import PLANT_GROUPS, Host, Inventory, Port, services

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# The addresses of a host that the inventory gives by name.
Resolve = Callable[[str], Iterable[str]]

SSH_PORT = 22
# Where `ops probe` listens while it measures.
PROBE_PORT = 7199
EVERYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True)
class Rule:
    """One port that sources may connect to. `sources` are networks, sorted, never empty."""

    protocol: str
    port: int
    sources: tuple[str, ...]
    reason: str

    @property
    def by_family(self) -> dict[str, list[str]]:
        """The sources by the word of nftables for their family, `ip` and `ip6`."""
        families: dict[str, list[str]] = {}
        for source in self.sources:
            families.setdefault("ip6" if ":" in source else "ip", []).append(source)
        return families


def rules(inventory: Inventory, host: Host, resolve: Resolve) -> list[Rule]:
    """What the host takes beside its own connections to itself.

    Raises ValueError for something in place of a network that is none, and what `resolve` raises.
    """
    plant = [*_addresses(inventory, host, PLANT_GROUPS, resolve)]
    wanted = [_ssh(inventory, host, resolve), ("tcp", PROBE_PORT, plant, "probe")]
    for service in services(inventory, host):
        for port in service.ports:
            who = _sources(inventory, host, port, resolve)
            wanted.append(("tcp", port.number, who, f"{service.name}, {port.variable}"))
    wanted += _additional(host)
    return [
        Rule(protocol, port, networks, reason)
        for protocol, port, sources, reason in wanted
        if (networks := collapsed(sources))
    ]


def collapsed(sources: Iterable[str]) -> tuple[str, ...]:
    """The networks without those inside others: nftables refuses sets that overlap.

    Raises ValueError for a text that is no address or network.
    """
    parsed = [ipaddress.ip_network(source, strict=False) for source in sources]
    v4 = [network for network in parsed if isinstance(network, ipaddress.IPv4Network)]
    v6 = [network for network in parsed if isinstance(network, ipaddress.IPv6Network)]
    kept: list[Network] = [*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6)]
    return tuple(_short(network) for network in kept)


def _short(network: Network) -> str:
    alone = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if alone else str(network)


_Wanted = tuple[str, int, list[str], str]


def _ssh(inventory: Inventory, host: Host, resolve: Resolve) -> _Wanted:
    """Where nobody is declared, everybody may try: a key is asked for in any case."""
    operators = networks_of(host, "operators")
    masters = {"flink_masters"} if "flink_workers" in host.groups else set[str]()
    known = [*operators, *_addresses(inventory, host, masters, resolve)]
    port = host.number("ansible_port") or SSH_PORT
    return "tcp", port, known if operators else [*EVERYWHERE], "ssh"


def _sources(inventory: Inventory, host: Host, port: Port, resolve: Resolve) -> list[str]:
    declared = [one for word in sorted(port.networks) for one in networks_of(host, word)]
    return [*declared, *_addresses(inventory, host, port.clients, resolve)]


def _addresses(
    inventory: Inventory, host: Host, groups: Iterable[str], resolve: Resolve
) -> Iterator[str]:
    """Where the other hosts of the groups come from: every address that the inventory knows."""
    for other in inventory.members(*sorted(groups)):
        if other.name != host.name:
            for address in {other.address, other.data_address}:
                yield from resolve(address)
            yield from _texts(other.values.get("firewall_addresses"))


def _additional(host: Host) -> Iterator[_Wanted]:
    given = host.values.get("firewall_additional")
    for entry in given if isinstance(given, list) else []:
        if isinstance(entry, Mapping):
            yield (
                str(entry.get("protocol") or "tcp"),
                int(entry["port"]),
                _texts(entry.get("from")) or [*EVERYWHERE],
                str(entry["reason"]),
            )


def networks_of(host: Host, word: str) -> list[str]:
    """The networks in the host's firewall_<word>."""
    return _texts(host.values.get(f"firewall_{word}"))


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
