"""Tries the way from this host to ports of other hosts."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: preflight_connect
short_description: Tries TCP connections to other hosts
description: Connects and closes; nothing is sent.
options:
  targets:
    description: Where to connect to.
    type: list
    elements: dict
    required: true
    options:
      address:
        description: Address or name of the other host.
        type: str
        required: true
      port:
        description: Port that something listens on there.
        type: int
        required: true
      host:
        description: The other host's name in the inventory; only for the reader.
        type: str
  timeout_s:
    description: How long to wait for a connection.
    type: float
    default: 3
author: Plantline
"""

EXAMPLES = r"""
- name: Try the way to other hosts
  preflight_connect:
    targets: [{address: 192.0.2.12, port: 9092}]
"""

RETURN = r"""
unreached:
  description: Targets that did not take a connection, each with address, port and the reason.
  type: list
  elements: dict
  returned: always
"""


def main() -> None:
    target = {
        "address": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "host": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "targets": {"type": "list", "elements": "dict", "required": True, "options": target},
            "timeout_s": {"type": "float", "default": 3.0},
        },
        supports_check_mode=True,
    )
    timeout_s: float = module.params["timeout_s"]

    def tried(target: dict[str, Any]) -> dict[str, Any]:
        address, port = target["address"], target["port"]
        return {"address": address, "port": port, "reason": _refusal(address, port, timeout_s)}

    with ThreadPoolExecutor(32) as pool:
        unreached = [one for one in pool.map(tried, module.params["targets"]) if one["reason"]]
    module.exit_json(changed=False, unreached=unreached)


def _refusal(address: str, port: int, timeout_s: float) -> str:
    """Why no connection came about; empty if one did."""
    try:
        socket.create_connection((address, port), timeout_s).close()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return str(error.strerror or error).lower()
    return ""


if __name__ == "__main__":
    main()
