"""Waits until a Kafka cluster works, or until one of its nodes may be restarted."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_client import (
    TLS_OPTION,
    NotAnsweringError,
    poll,
    read_cluster,
    tls_of,
)
from ansible.module_utils.kafka_roller import (
    MAX_VOTER_LAG_MS,
    Cluster,
    listed,
    restart_blockers,
    restart_costs,
    restart_order,
    shortcomings,
)

DOCUMENTATION = r"""
module: kafka_health
short_description: Waits until a Kafka cluster works, or until a node may be restarted
description:
  - Asks the cluster itself, through any of its brokers, until the condition holds.
  - The rules are written in C(plugins/module_utils/kafka_roller.py).
  - Changes nothing. In check mode it looks once and never fails.
options:
  until:
    description:
      - >-
        C(working) means that the quorum has a leader, I(brokers) are registered and
        I(controllers) follow the leader.
      - C(replicated) means C(working), and no partition of the cluster misses a replica.
      - C(restartable) means that I(node) may be restarted now.
    type: str
    required: true
    choices: [working, replicated, restartable]
  node_ids:
    description: Node id of each Kafka host, by host name.
    type: dict
    required: true
  brokers:
    description: Hosts that must be registered as brokers.
    type: list
    elements: str
    default: []
  controllers:
    description: Hosts that must follow the leader as controllers, or be it.
    type: list
    elements: str
    default: []
  node:
    description: The host to be restarted.
    type: str
  stale:
    description: Hosts to put in the order of their restarts.
    type: list
    elements: str
    default: []
  timeout_s:
    description: Longest time to wait, in seconds.
    type: int
    required: true
author: Plantline
extends_documentation_fragment: kafka_client
"""

EXAMPLES = r"""
- name: Wait until Kafka works
  kafka_health:
    until: working
    bootstrap_servers: node1:9092,node2:9092
    node_ids: {node1: 1, node2: 2}
    brokers: [node1, node2]
    controllers: [node1]
    timeout_s: 120
"""

RETURN = r"""
fulfilled:
  description: Whether the condition holds; false only in check mode.
  type: bool
  returned: always
leader:
  description: Host of the active controller.
  type: str
  returned: when the cluster answered
restart_order:
  description: The hosts of I(stale) in the order in which to restart them.
  type: list
  elements: str
  returned: always
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "until": {
                "type": "str",
                "required": True,
                "choices": ["working", "replicated", "restartable"],
            },
            "bootstrap_servers": {"type": "str", "required": True},
            "tls": TLS_OPTION,
            "node_ids": {"type": "dict", "required": True},
            "brokers": {"type": "list", "elements": "str", "default": []},
            "controllers": {"type": "list", "elements": "str", "default": []},
            "node": {"type": "str"},
            "stale": {"type": "list", "elements": "str", "default": []},
            "timeout_s": {"type": "int", "required": True},
        },
        required_if=[("until", "restartable", ["node"])],
        supports_check_mode=True,
    )
    params: dict[str, Any] = module.params
    ids = {host: int(node) for host, node in params["node_ids"].items()}
    names = {node: host for host, node in ids.items()}
    seen: Cluster | None = None
    problems: list[str] = []
    silence: str | None = None
    # Until then the leader counts a controller as following that has just gone.
    settled = time.monotonic() + (
        MAX_VOTER_LAG_MS / 1000 if params["until"] == "replicated" and not module.check_mode else 0
    )

    def lacking(cluster: Cluster) -> list[str]:
        lack: list[str]
        if params["until"] == "restartable":
            lack = restart_blockers(cluster, ids[params["node"]], names)
            return lack
        lack = shortcomings(
            cluster,
            [ids[host] for host in params["brokers"]],
            [ids[host] for host in params["controllers"]],
            names,
            replicated=params["until"] == "replicated",
        )
        return lack

    def attempt() -> Cluster | None:
        nonlocal seen, problems, silence
        try:
            seen = read_cluster(params["bootstrap_servers"], tls_of(params["tls"]))
        except NotAnsweringError as error:
            silence = str(error)
            return None
        problems, silence = lacking(seen), None
        return None if problems or time.monotonic() < settled else seen

    fulfilled = poll(attempt, 0 if module.check_mode else params["timeout_s"]) is not None
    if not fulfilled and not module.check_mode:
        module.fail_json(msg=_failure(params, problems + ([silence] if silence else [])))
    if seen and params["until"] == "restartable":
        costs = restart_costs(seen, ids[params["node"]])
        if costs:
            module.warn(
                f"while {params['node']} restarts, producers with acks=all wait for "
                f"{len(costs)} partition(s) without a replica to spare: {listed(costs)}"
            )
    module.exit_json(
        changed=False,
        fulfilled=fulfilled,
        leader=names.get(seen.leader) if seen and seen.leader is not None else None,
        restart_order=[
            names[node] for node in restart_order(seen, (ids[host] for host in params["stale"]))
        ]
        if seen
        else sorted(params["stale"]),
    )


def _failure(params: dict[str, Any], problems: list[str]) -> str:
    state = f"after {params['timeout_s']} s: {'; '.join(problems)}."
    look = "`journalctl -u kafka` on the named hosts says why"
    if params["until"] == "restartable":
        return (
            f"{params['node']} was not restarted, because this was still so {state} {look}. "
            "Bring them back and run again: the restarts go on where they stopped"
        )
    if params["until"] == "replicated":
        return (
            f"The restarts stop here, because this was still so {state} {look}. Bring them back "
            "and run again: the restarts go on where they stopped"
        )
    return (
        f"Kafka does not work {state} {look}. If no broker answers, because of a setting that is "
        "wrong on all hosts, correct it, stop Kafka on all of them and run again: stopped nodes "
        "start together"
    )


if __name__ == "__main__":
    main()
