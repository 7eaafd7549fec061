"""Makes the quotas of a Kafka cluster what they are declared to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_quota_plan import (
    LIMITS,
    Entity,
    Quota,
    QuotaPlan,
    plan_quotas,
)
from ansible.module_utils.kafka_resources import (
    OPTIONS,
    Items,
    Outcome,
    batches,
    refuse,
    reject,
    run,
    send,
    wait_for_brokers,
)

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

DOCUMENTATION = r"""
module: kafka_quotas
short_description: Sets and takes away quotas
description:
  - Takes all declared quotas, reads the cluster once and changes only what differs.
  - >-
    In check mode the brokers validate the changes. Where Kafka is not there yet, all quotas count
    as to be set.
options:
  quotas:
    description:
      - All declared quotas. Each is for a user, a client id, both together, or an address.
      - V(<default>) in place of a name is all that have no quota of their own.
    type: list
    elements: dict
    required: true
    suboptions:
      user:
        description: Name of the user.
        type: str
      client_id:
        description: The id by which the client names itself.
        type: str
      ip:
        description: Address that connections come from.
        type: str
      producer_byte_rate:
        description: Bytes that a broker takes in a second before it slows the client down.
        type: float
      consumer_byte_rate:
        description: Bytes that a broker hands out in a second before it slows the client down.
        type: float
      request_percentage:
        description: Share of a broker's thread time, in percent; each thread has 100.
        type: float
      controller_mutation_rate:
        description: Partitions created and deleted in a second.
        type: float
      connection_creation_rate:
        description: Connections that a broker takes in a second, for an address.
        type: float
  record:
    description: File on the host that remembers what was declared here.
    type: path
    required: true
  prune:
    description: Whether quotas are deleted that were declared here before and are not any more.
    type: bool
    default: false
author: Plantline
extends_documentation_fragment: kafka_client
"""

EXAMPLES = r"""
- name: Declare the quotas
  kafka_quotas:
    bootstrap_servers: node1:9096,node2:9096
    tls: {ca: /etc/plantline/pki/ca.pem, certificate: /etc/plantline/pki/kafka/bundle.pem}
    record: /var/lib/plantline/kafka/quotas.json
    quotas:
      - {user: historian, consumer_byte_rate: 10000000}
"""

RETURN = r"""
altered:
  description: Entities whose quotas changed.
  type: list
  elements: str
  returned: always
deleted:
  description: Entities that lost all their quotas.
  type: list
  elements: str
  returned: always
no_longer_declared:
  description: Entities that were declared here before, and kept their quotas.
  type: list
  elements: str
  returned: always
"""

ENTITY = ("user", "client_id", "ip")


def main() -> None:
    module = AnsibleModule(
        argument_spec=OPTIONS
        | {
            "quotas": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    **{part: {"type": "str"} for part in ENTITY},
                    **{limit: {"type": "float"} for limit in LIMITS},
                },
            },
        },
        supports_check_mode=True,
    )
    declared = [
        Quota(
            Entity(**{part: quota[part] for part in ENTITY}),
            {limit: quota[limit] for limit in sorted(LIMITS) if quota[limit] is not None},
        )
        for quota in module.params["quotas"]
    ]

    def work(client: KafkaAdminClient | None, earlier: Items) -> Outcome:
        plan_again = partial(
            plan_quotas, declared, earlier=list(earlier), prune=module.params["prune"]
        )
        found = _read(client) if client else {}
        plan = plan_again(found)
        refuse(plan.refused)
        if client:
            _carry_out(client, plan, validate_only=module.check_mode)
        if client and plan.changed and not module.check_mode:
            wait_for_brokers(client, lambda node: not plan_again(_read(client, node)).changed)
        return _outcome(declared, found, plan)

    run(module, work, kind="quotas of", remedy="They still hold. -e kafka_prune=true deletes them")


def _read(client: KafkaAdminClient, node: int | None = None) -> dict[Entity, dict[str, float]]:
    """All quotas, as a broker knows them."""
    from kafka.protocol.admin import DescribeClientQuotasRequest

    answer = send(client, DescribeClientQuotasRequest(components=[], strict=False), node)
    return {
        Entity.of({part.entity_type: part.entity_name for part in entry.entity}): {
            limit.key: limit.value for limit in entry.values
        }
        for entry in answer.entries
    }


def _carry_out(client: KafkaAdminClient, plan: QuotaPlan, *, validate_only: bool) -> None:
    """Sends the plan in batches; raises RejectedError."""
    from kafka.protocol.admin import AlterClientQuotasRequest

    entry = AlterClientQuotasRequest.EntryData
    for batch in batches(list(plan.alter.items())):
        request = AlterClientQuotasRequest(
            entries=[
                entry(
                    entity=[
                        entry.EntityData(entity_type=kind, entity_name=name)
                        for kind, name in entity.parts().items()
                    ],
                    ops=[
                        entry.OpData(key=limit, value=value or 0.0, remove=value is None)
                        for limit, value in changes.items()
                    ],
                )
                for entity, changes in batch
            ],
            validate_only=validate_only,
        )
        reject(
            f"quota of {entity}: {result.error_message}"
            for (entity, _), result in zip(batch, send(client, request).entries, strict=True)
            if result.error_code
        )


def _outcome(
    declared: Sequence[Quota], found: Mapping[Entity, Mapping[str, float]], plan: QuotaPlan
) -> Outcome:
    wanted = {quota.entity: dict(quota.limits) for quota in declared}
    return Outcome(
        changed=plan.changed,
        items=dict.fromkeys([*map(str, wanted), *plan.rest]),
        rest=plan.rest,
        before={str(entity): found[entity] for entity in plan.alter if entity in found},
        after={str(entity): wanted[entity] for entity in plan.alter if entity in wanted},
        facts={
            "altered": [str(entity) for entity in plan.alter if entity in wanted],
            "deleted": list(plan.delete),
        },
    )


if __name__ == "__main__":
    main()
