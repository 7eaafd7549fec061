"""Reads the inventory on the control node and says what each host lets in; contacts no host.

    firewall_rules:      # returns `rules`: host -> [{protocol, port, sources, reason}, …]

`sources` are networks by the word of nftables for their family, `ip` and `ip6`.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

ROOT = Path(__file__).resolve().parents[2]
# Ansible finds our plugins and module_utils only where it packs a module for a host.
sys.path.append(str(ROOT))

from plugins.action.preflight import Reader  # noqa: E402 - found by the path above
from plugins.module_utils import firewall, preflight_inventory  # noqa: E402 - found by the path above


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible has no types
    _VALID_ARGS = frozenset[str]()
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        reader = Reader(self._loader, task_vars or {})
        inventory, mistyped = preflight_inventory.typed_values(reader.inventory({}))
        if mistyped:
            raise AnsibleActionFail("; ".join(map(str, mistyped)))
        rules = {}
        for host in inventory.hosts.values():
            try:
                found = firewall.rules(inventory, host, addresses)
            except (OSError, ValueError) as error:
                raise AnsibleActionFail(f"{host.name}: {error}; correct the inventory") from error
            rules[host.name] = [
                {
                    "protocol": rule.protocol,
                    "port": rule.port,
                    "sources": rule.by_family,
                    "reason": rule.reason,
                }
                for rule in found
            ]
        return result | {"changed": False, "rules": rules}


def addresses(name: str) -> list[str]:
    """The IP addresses that the control node knows for a name; an address is its own."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"the control node cannot resolve {name!r}") from error
    return sorted({str(address[0]).partition("%")[0] for *_, address in found})
