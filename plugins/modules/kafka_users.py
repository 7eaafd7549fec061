"""Makes the users of a Kafka cluster what they are declared to be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule
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
from ansible.module_utils.kafka_user_plan import (
    MECHANISM,
    Fingerprint,
    User,
    UserPlan,
    new_iterations,
    plan_users,
)

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

DOCUMENTATION = r"""
module: kafka_users
short_description: Creates users, sets their passwords and deletes users
description:
  - >-
    Takes all declared users with their SCRAM-SHA-512 passwords, reads the cluster once and changes
    only what differs. A password that somebody else changed is set back.
  - >-
    Kafka does not tell passwords. How a changed one is known, and what is kept for that, is said in
    plugins/module_utils/kafka_user_plan.py.
  - In check mode, where Kafka is not there yet, all users count as to be created.
options:
  users:
    description: All declared users.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the user; letters, digits, and C(. _ @ -).
        type: str
        required: true
      password:
        description: The password, at least 8 characters.
        type: str
        required: true
  reserved:
    description: Names of super users, who must not have a password.
    type: list
    elements: str
    default: []
  record:
    description: File on the host that remembers users and their passwords' fingerprints.
    type: path
    required: true
  prune:
    description: Whether users are deleted that were declared here before and are not any more.
    type: bool
    default: false
author: Plantline
extends_documentation_fragment: kafka_client
"""

EXAMPLES = r"""
- name: Declare the users
  kafka_users:
    bootstrap_servers: node1:9096,node2:9096
    tls: {ca: /etc/plantline/pki/ca.pem, certificate: /etc/plantline/pki/kafka/bundle.pem}
    record: /var/lib/plantline/kafka/users.json
    users:
      - {name: gateway-hall-a, password: "{{ vault_kafka_passwords['gateway-hall-a'] }}"}
"""

RETURN = r"""
set_password:
  description: Why a password was set, by user.
  type: dict
  returned: always
deleted:
  description: Names of the users that were deleted.
  type: list
  elements: str
  returned: always
no_longer_declared:
  description: Names of users that were declared here before, and were kept.
  type: list
  elements: str
  returned: always
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec=OPTIONS
        | {
            "users": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                },
            },
            "reserved": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    declared = [User(user["name"], user["password"]) for user in module.params["users"]]

    def work(client: KafkaAdminClient | None, earlier: Items) -> Outcome:
        marks = {name: Fingerprint(**facts) for name, facts in earlier.items()}
        found = _read(client) if client else {}
        plan = plan_users(
            declared,
            found,
            marks,
            reserved=module.params["reserved"],
            prune=module.params["prune"],
        )
        refuse(plan.refused)
        if client and not module.check_mode:
            marks |= _set_passwords(client, declared, plan, found)
            _delete(client, plan)
        if client and plan.changed and not module.check_mode:
            wanted = {name: marks[name].iterations for name in plan.set_password}
            wait_for_brokers(client, lambda node: _has(_read(client, node), wanted, plan.delete))
        return _outcome(declared, found, plan, marks)

    run(
        module, work, kind="users", remedy="They can still log in. -e kafka_prune=true deletes them"
    )


def _read(client: KafkaAdminClient, node: int | None = None) -> dict[str, int]:
    """The users that have a password of the mechanism, and its iterations, as a broker knows."""
    from kafka.admin import ScramMechanism
    from kafka.protocol.admin import DescribeUserScramCredentialsRequest

    answer = send(client, DescribeUserScramCredentialsRequest(users=None), node)
    return {
        user.user: credential.iterations
        for user in answer.results
        for credential in user.credential_infos
        if ScramMechanism(credential.mechanism) is ScramMechanism.SCRAM_SHA_512
    }


def _has(found: Mapping[str, int], wanted: Mapping[str, int], gone: Collection[str]) -> bool:
    return wanted.items() <= found.items() and not found.keys() & set(gone)


def _set_passwords(
    client: KafkaAdminClient, declared: Sequence[User], plan: UserPlan, found: Mapping[str, int]
) -> dict[str, Fingerprint]:
    """Sets what the plan says, and returns the fingerprints. Raises RejectedError."""
    from kafka.admin import UserScramCredentialUpsertion

    marks: dict[str, Fingerprint] = {}
    for users in batches([user for user in declared if user.name in plan.set_password]):
        changes = []
        for user in users:
            iterations = new_iterations(found.get(user.name))
            marks[user.name] = Fingerprint.of(user.password, iterations)
            changes.append(
                UserScramCredentialUpsertion(user.name, MECHANISM, user.password, iterations)
            )
        _alter(client, changes)
    return marks


def _delete(client: KafkaAdminClient, plan: UserPlan) -> None:
    from kafka.admin import UserScramCredentialDeletion

    for names in batches(plan.delete):
        _alter(client, [UserScramCredentialDeletion(name, MECHANISM) for name in names])


def _alter(client: KafkaAdminClient, changes: Sequence[object]) -> None:
    answer = client.alter_user_scram_credentials(changes)
    reject(f"{name}: {problem}" for name, problem in answer.items() if problem)


def _outcome(
    declared: Sequence[User],
    found: Mapping[str, int],
    plan: UserPlan,
    marks: Mapping[str, Fingerprint],
) -> Outcome:
    known = {user.name for user in declared} | set(plan.rest)
    return Outcome(
        changed=plan.changed,
        items={name: mark.facts() for name, mark in marks.items() if name in known},
        rest=plan.rest,
        before={
            name: plan.set_password.get(name, "no longer declared")
            for name in sorted([*plan.set_password, *plan.delete])
            if name in found
        },
        after=dict.fromkeys(sorted(plan.set_password), "the declared password"),
        facts={"set_password": dict(plan.set_password), "deleted": list(plan.delete)},
    )


if __name__ == "__main__":
    main()
