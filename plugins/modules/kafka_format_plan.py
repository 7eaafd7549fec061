"""Decides which Kafka hosts are formatted, and with which cluster id."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_formatting import (
    FormatError,
    NodeState,
    new_cluster_id,
    plan_formatting,
)

DOCUMENTATION = r"""
module: kafka_format_plan
short_description: Decides which Kafka hosts are to be formatted, and with which cluster id
description:
  - Changes nothing. The rules are written in C(plugins/module_utils/kafka_formatting.py).
options:
  node_ids:
    description: Declared node id of each Kafka host, by host name.
    type: dict
    required: true
  states:
    description: Answer of M(kafka_node_info) of each Kafka host that was asked, by host name.
    type: dict
    required: true
  controllers:
    description: Hosts that are controllers.
    type: list
    elements: str
    required: true
author: Plantline
"""

EXAMPLES = r"""
- name: Decide which hosts are formatted
  kafka_format_plan:
    node_ids: {node1: 1, node2: 2}
    states:
      node1: "{{ hostvars.node1.state_of_kafka }}"
      node2: "{{ hostvars.node2.state_of_kafka }}"
    controllers: [node1]
"""

RETURN = r"""
cluster_id:
  description: The cluster's id; a new one if there is no cluster yet.
  type: str
  returned: always
to_format:
  description: Hosts to format with it.
  type: list
  elements: str
  returned: always
rejoin:
  description: Hosts to start only when the others work.
  type: list
  elements: str
  returned: always
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "node_ids": {"type": "dict", "required": True},
            "states": {"type": "dict", "required": True},
            "controllers": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    states: dict[str, dict[str, Any]] = module.params["states"]
    nodes = {
        host: _node_state(int(node_id), states[host]) if states.get(host) else None
        for host, node_id in module.params["node_ids"].items()
    }
    try:
        plan = plan_formatting(nodes, module.params["controllers"], new_cluster_id())
    except FormatError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=False,
        cluster_id=plan.cluster_id,
        to_format=list(plan.to_format),
        rejoin=list(plan.rejoin),
    )


def _node_state(node_id: int, answer: dict[str, Any]) -> NodeState:
    return NodeState(
        node_id=node_id,
        cluster_ids=frozenset(answer["cluster_ids"]),
        node_ids=frozenset(answer["node_ids"]),
        kept_cluster_id=answer["kept_cluster_id"],
        formatted=answer["formatted"],
        has_metadata_log=answer["has_metadata_log"],
    )


if __name__ == "__main__":
    main()
