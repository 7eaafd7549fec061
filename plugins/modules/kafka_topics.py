"""Makes the topics of a Kafka cluster what they are declared to be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_client import NotAnsweringError, admin
from ansible.module_utils.kafka_topic_plan import (
    Topic,
    TopicPlan,
    batches,
    config_text,
    plan_topics,
)

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

DOCUMENTATION = r"""
module: kafka_topics
short_description: Creates, changes and grows topics
description:
  - Takes all declared topics, reads the cluster once and changes only what differs.
  - >-
    Never deletes a topic, a partition or a record; what would need that fails with its reason,
    before anything is changed.
  - >-
    In check mode the brokers validate the changes. Where Kafka is not there yet, all topics count
    as to be created.
options:
  bootstrap_servers:
    description: Brokers to ask, C(host:port) separated by commas.
    type: str
    required: true
  topics:
    description: The declared topics.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the topic.
        type: str
        required: true
      partitions:
        description: Number of partitions; if not given, the cluster's default at creation.
        type: int
      replication_factor:
        description: Replicas of each partition; if not given, the cluster's default at creation.
        type: int
      config:
        description: Settings of the topic; one that is not given here is the cluster's default.
        type: dict
        default: {}
author: Plantline
"""

EXAMPLES = r"""
- name: Declare the topics
  kafka_topics:
    bootstrap_servers: node1:9092,node2:9092
    topics:
      - {name: telemetry.pump, partitions: 6, config: {message.timestamp.type: LogAppendTime}}
      - {name: models, partitions: 1, config: {cleanup.policy: compact}}
"""

RETURN = r"""
created:
  description: Names of the topics that were created.
  type: list
  elements: str
  returned: always
altered:
  description: Names of the topics whose settings or number of partitions changed.
  type: list
  elements: str
  returned: always
"""


# A batch of thousands of partitions on busy disks.
REQUEST_S = 60.0


class RefusedError(Exception):
    """A broker refused changes; one line for each."""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "bootstrap_servers": {"type": "str", "required": True},
            "topics": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "partitions": {"type": "int"},
                    "replication_factor": {"type": "int"},
                    "config": {"type": "dict", "default": {}},
                },
            },
        },
        supports_check_mode=True,
    )
    declared = [_declared(topic) for topic in module.params["topics"]]
    try:
        with admin(module.params["bootstrap_servers"], REQUEST_S) as client:
            found = _read(client, {topic.name for topic in declared})
            plan = plan_topics(declared, found)
            if plan.refused:
                module.fail_json(msg="Nothing was changed: " + "; ".join(plan.refused))
            _carry_out(client, plan, validate_only=module.check_mode)
    except NotAnsweringError as error:
        if not module.check_mode:
            module.fail_json(msg=str(error))
        found, plan = {}, plan_topics(declared, {})
    except RefusedError as error:
        module.fail_json(msg=f"Kafka refused:\n{error}")
    created = [topic.name for topic in plan.create]
    altered = sorted({*plan.grow, *plan.alter})
    module.exit_json(
        changed=plan.changed,
        created=created,
        altered=altered,
        diff=_diff(found, declared, {*created, *altered}),
    )


def _declared(topic: dict[str, Any]) -> Topic:
    return Topic(
        name=topic["name"],
        partitions=topic["partitions"],
        replication_factor=topic["replication_factor"],
        config={name: config_text(value) for name, value in topic["config"].items()},
    )


def _read(client: KafkaAdminClient, names: set[str]) -> dict[str, Topic]:
    """Those of the named topics that exist, with the settings made on the topic itself."""
    from kafka.admin import ConfigResource  # noqa: PLC0415

    present = [topic for topic in client.describe_topics() if topic["name"] in names]
    if not present:
        return {}
    resources = [ConfigResource("TOPIC", topic["name"]) for topic in present]
    configs = client.describe_configs(resources)["topic"]
    return {
        topic["name"]: Topic(
            name=topic["name"],
            partitions=len(topic["partitions"]),
            replication_factor=len(topic["partitions"][0]["replica_nodes"]),
            config={name: entry["value"] for name, entry in configs[topic["name"]].items()},
        )
        for topic in present
    }


def _carry_out(client: KafkaAdminClient, plan: TopicPlan, *, validate_only: bool) -> None:
    """Sends the plan in batches; raises RefusedError with all that a batch's brokers refused."""
    from kafka.admin import ConfigResource  # noqa: PLC0415

    for batch in batches(plan.create):
        answer = client.create_topics(
            {
                topic.name: {
                    "num_partitions": topic.partitions or -1,
                    "replication_factor": topic.replication_factor or -1,
                    "configs": topic.config,
                }
                for topic in batch
            },
            validate_only=validate_only,
            raise_errors=False,
        )
        _refuse(
            f"{topic['name']}: {topic['error_message']}"
            for topic in answer["topics"]
            if topic["error_code"]
        )
    if plan.alter:
        answer = client.alter_configs(
            [
                ConfigResource(
                    "TOPIC",
                    name,
                    {
                        setting: ("DELETE", None) if value is None else ("SET", value)
                        for setting, value in changes.items()
                    },
                )
                for name, changes in plan.alter.items()
            ],
            validate_only=validate_only,
            raise_on_unknown=False,
        )
        _refuse(f"{name}: {result}" for name, result in answer["topic"].items() if result != "OK")
    if plan.grow:
        answer = client.create_partitions(
            dict(plan.grow), validate_only=validate_only, raise_errors=False
        )
        _refuse(
            f"{topic.name}: {topic.error_message}" for topic in answer.results if topic.error_code
        )
    # Whoever comes next may produce at once.
    if not validate_only:
        client.wait_for_topics([topic.name for topic in plan.create])


def _refuse(problems: Iterable[str]) -> None:
    if lines := list(problems):
        raise RefusedError("\n".join(lines))


def _diff(found: dict[str, Topic], declared: list[Topic], changed: set[str]) -> dict[str, Any]:
    return {
        "before": {name: found[name].described() for name in sorted(changed & set(found))},
        "after": {
            topic.name: {
                **(found[topic.name].described() if topic.name in found else {}),
                **topic.described(),
            }
            for topic in sorted(declared, key=lambda topic: topic.name)
            if topic.name in changed
        },
    }


if __name__ == "__main__":
    main()
