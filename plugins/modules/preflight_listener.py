"""Listens for a moment on ports that nobody serves yet: other hosts try the way to them."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: preflight_listener
short_description: Listens on ports of services that do not run yet
description:
  - Before a service is installed, nothing tells a closed firewall from a closed port. A process of
    this module accepts connections and closes them, until it is told to end or its time is up.
  - Leaves nothing behind and changes no file, so that it runs in check mode, too.
options:
  ports:
    description: Ports to listen on; those that are taken in the meantime are left out.
    type: list
    elements: int
    default: []
  lifetime_s:
    description: After how many seconds the process ends by itself.
    type: int
    default: 60
  pid:
    description: Ends the process that an earlier call started, in place of starting one.
    type: int
author: Plantline
"""

EXAMPLES = r"""
- name: Listen
  preflight_listener:
    ports: [9092, 9093]
  register: listener

- name: Listen no more
  preflight_listener:
    pid: "{{ listener.pid }}"
"""

RETURN = r"""
pid:
  description: The process that listens.
  type: int
  returned: when it was started
"""

NAME = "preflight"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "default": []},
            "lifetime_s": {"type": "int", "default": 60},
            "pid": {"type": "int"},
        },
        supports_check_mode=True,
    )
    if module.params["pid"] is not None:
        _end(module.params["pid"])
        module.exit_json(changed=False)
    listeners = [found for port in module.params["ports"] if (found := _listen(port))]
    pid = os.fork()
    if pid == 0:
        _serve(listeners, module.params["lifetime_s"])
    module.exit_json(changed=False, pid=pid)


def _listen(port: int) -> socket.socket | None:
    with contextlib.suppress(OSError):
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=socket.has_dualstack_ipv6()
        )
    with contextlib.suppress(OSError):
        return socket.create_server(("", port))
    return None


def _serve(listeners: list[socket.socket], lifetime_s: float) -> None:
    """Accepts and closes connections; never returns."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # else the login that started us would not end
        os.dup2(null, stream)
    Path("/proc/self/comm").write_text(NAME, encoding="ascii")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    deadline = time.monotonic() + lifetime_s
    with selectors.DefaultSelector() as selector:
        for listener in listeners:
            selector.register(listener, selectors.EVENT_READ, listener.accept)
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                with contextlib.suppress(OSError):
                    key.data()[0].close()
    os._exit(0)


def _end(pid: int) -> None:
    """Ends the process, unless the number is another one's by now."""
    with contextlib.suppress(OSError):
        if Path("/proc", str(pid), "comm").read_text(encoding="utf-8").strip() == NAME:
            os.kill(pid, signal.SIGTERM)


if __name__ == "__main__":
    main()
