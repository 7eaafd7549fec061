"""Makes the access rules of a Kafka cluster what they are declared to be."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_acl_plan import CLUSTER_NAME, OPERATIONS, Acl, plan_acls
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
module: kafka_acls
short_description: Adds and takes away access rules
description:
  - >-
    Takes all declared rules, reads the cluster once and changes only what differs. What is not
    allowed by a rule is refused by Kafka, but to its super users.
  - In check mode, where Kafka is not there yet, all rules count as to be created.
options:
  acls:
    description: All declared rules.
    type: list
    elements: dict
    required: true
    suboptions:
      principal:
        description: Who, as kind and name; V(User:*) is everybody who logged in.
        type: str
        required: true
      operations:
        description: What they may do, in Kafka's words; read and write include describe.
        type: list
        elements: str
        required: true
      resource:
        description: Kind of resource.
        type: str
        required: true
        choices: [topic, group, cluster, transactional_id]
      name:
        description: Name of the resource, or the beginning of it; V(*) is every one.
        type: str
        default: kafka-cluster
      pattern:
        description: Whether O(acls[].name) is the whole name or its beginning.
        type: str
        choices: [literal, prefixed]
        default: literal
      host:
        description: Address they come from; V(*) is any.
        type: str
        default: "*"
      permission:
        description: Kind of rule. One that denies goes before all that allow.
        type: str
        choices: [allow, deny]
        default: allow
  record:
    description: File on the host that remembers what was declared here.
    type: path
    required: true
  prune:
    description: Whether rules are deleted that were declared here before and are not any more.
    type: bool
    default: false
author: Plantline
extends_documentation_fragment: kafka_client
"""

EXAMPLES = r"""
- name: Declare the access rules
  kafka_acls:
    bootstrap_servers: node1:9096,node2:9096
    tls: {ca: /etc/plantline/pki/ca.pem, certificate: /etc/plantline/pki/kafka/bundle.pem}
    record: /var/lib/plantline/kafka/acls.json
    acls:
      - {principal: User:gateway-hall-a, operations: [write], resource: topic, name: telemetry.pump}
"""

RETURN = r"""
created:
  description: Rules that were added.
  type: list
  elements: str
  returned: always
deleted:
  description: Rules that were taken away.
  type: list
  elements: str
  returned: always
no_longer_declared:
  description: Rules that were declared here before, and were kept.
  type: list
  elements: str
  returned: always
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec=OPTIONS
        | {
            "acls": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "principal": {"type": "str", "required": True},
                    "operations": {"type": "list", "elements": "str", "required": True},
                    "resource": {"type": "str", "required": True, "choices": list(OPERATIONS)},
                    "name": {"type": "str", "default": CLUSTER_NAME},
                    "pattern": {
                        "type": "str",
                        "choices": ["literal", "prefixed"],
                        "default": "literal",
                    },
                    "host": {"type": "str", "default": "*"},
                    "permission": {
                        "type": "str",
                        "choices": ["allow", "deny"],
                        "default": "allow",
                    },
                },
            },
        },
        supports_check_mode=True,
    )
    declared = [
        Acl(**{name: value for name, value in rule.items() if name != "operations"}, operation=one)
        for rule in module.params["acls"]
        for one in rule["operations"]
    ]

    def work(client: KafkaAdminClient | None, earlier: Items) -> Outcome:
        plan_again = partial(
            plan_acls, declared, earlier=list(earlier), prune=module.params["prune"]
        )
        plan = plan_again(_read(client) if client else [])
        refuse(plan.refused)
        if client and not module.check_mode:
            # Added before any is taken away: who has another rule in its place is never without.
            _create(client, plan.create)
            _delete(client, plan.delete)
        if client and plan.changed and not module.check_mode:
            wait_for_brokers(client, lambda node: not plan_again(_read(client, node)).changed)
        created, deleted = list(map(str, plan.create)), list(map(str, plan.delete))
        return Outcome(
            changed=plan.changed,
            items=dict.fromkeys([*map(str, declared), *plan.rest]),
            rest=plan.rest,
            before={"acls": deleted} if deleted else {},
            after={"acls": created} if created else {},
            facts={"created": created, "deleted": deleted},
        )

    run(module, work, kind="rules", remedy="They still hold. -e kafka_prune=true deletes them")


def _read(client: KafkaAdminClient, node: int | None = None) -> list[Acl]:
    """All rules, as a broker knows them."""
    from kafka.admin import (
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ResourceType,
    )
    from kafka.protocol.admin import DescribeAclsRequest

    everything = DescribeAclsRequest(
        resource_type_filter=ResourceType.ANY,
        resource_name_filter=None,
        pattern_type_filter=ACLResourcePatternType.ANY,
        principal_filter=None,
        host_filter=None,
        operation=ACLOperation.ANY,
        permission_type=ACLPermissionType.ANY,
    )
    return [
        Acl(
            principal=acl.principal,
            operation=ACLOperation(acl.operation).name.lower(),
            resource=ResourceType(resource.resource_type).name.lower(),
            name=resource.resource_name,
            pattern=ACLResourcePatternType(resource.pattern_type).name.lower(),
            host=acl.host,
            permission=ACLPermissionType(acl.permission_type).name.lower(),
        )
        for resource in send(client, everything, node).resources
        for acl in resource.acls
    ]


def _create(client: KafkaAdminClient, acls: Sequence[Acl]) -> None:
    """Raises RejectedError. Sent by hand: kafka-python's method keeps Kafka's reasons to itself."""
    from kafka.protocol.admin import CreateAclsRequest

    for batch in batches(acls):
        codes = map(_codes, batch)
        creations = [
            CreateAclsRequest.AclCreation(
                resource_type=code.resource,
                resource_name=acl.name,
                resource_pattern_type=code.pattern,
                principal=acl.principal,
                host=acl.host,
                operation=code.operation,
                permission_type=code.permission,
            )
            for acl, code in zip(batch, codes, strict=True)
        ]
        answer = send(client, CreateAclsRequest(creations=creations))
        reject(
            f"{acl}: {result.error_message}"
            for acl, result in zip(batch, answer.results, strict=True)
            if result.error_code
        )


def _delete(client: KafkaAdminClient, acls: Sequence[Acl]) -> None:
    """Raises RejectedError."""
    from kafka.protocol.admin import DeleteAclsRequest

    for batch in batches(acls):
        codes = map(_codes, batch)
        filters = [
            DeleteAclsRequest.DeleteAclsFilter(
                resource_type_filter=code.resource,
                resource_name_filter=acl.name,
                pattern_type_filter=code.pattern,
                principal_filter=acl.principal,
                host_filter=acl.host,
                operation=code.operation,
                permission_type=code.permission,
            )
            for acl, code in zip(batch, codes, strict=True)
        ]
        answer = send(client, DeleteAclsRequest(filters=filters))
        reject(
            f"{acl}: {result.error_message}"
            for acl, result in zip(batch, answer.filter_results, strict=True)
            if result.error_code
        )


class _Codes(NamedTuple):
    """The numbers of a rule's words in Kafka's protocol."""

    resource: int
    pattern: int
    operation: int
    permission: int


def _codes(acl: Acl) -> _Codes:
    from kafka.admin import (
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ResourceType,
    )

    return _Codes(
        resource=ResourceType[acl.resource.upper()],
        pattern=ACLResourcePatternType[acl.pattern.upper()],
        operation=ACLOperation[acl.operation.upper()],
        permission=ACLPermissionType[acl.permission.upper()],
    )


if __name__ == "__main__":
    main()
