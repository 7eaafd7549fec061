"""Makes the topics of a Kafka cluster what they are declared to be."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_resources import (
    OPTIONS,
    REQUEST_S,
    Items,
    Outcome,
    batches,
    refuse,
    reject,
    run,
)
from ansible.module_utils.kafka_topic_plan import (
    CLEANUP,
    RETENTION,
    Topic,
    TopicPlan,
    Wishes,
    at_stake,
    config_text,
    plan_topics,
    topic_batches,
)

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

DOCUMENTATION = r"""
module: kafka_topics
short_description: Creates, changes, grows and deletes topics
description:
  - Takes all declared topics, reads the cluster once and changes only what differs.
  - >-
    What would lose records or their order fails with its reason, before anything is changed,
    unless the topic is empty or named in O(confirmed). The rules are in
    plugins/module_utils/kafka_topic_plan.py.
  - >-
    In check mode the brokers validate the changes. Where Kafka is not there yet, all topics count
    as to be created.
options:
  topics:
    description: All declared topics.
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
      keyed:
        description: Whether the records of a key must stay in order.
        type: bool
        default: true
  record:
    description: File on the host that remembers what was declared here.
    type: path
    required: true
  prune:
    description: Whether topics are deleted that were declared here before and are not any more.
    type: bool
    default: false
  confirmed:
    description:
      - Names of topics whose records, or their order, may be lost by what is declared now.
      - One that is no longer declared is deleted, also without O(prune).
    type: list
    elements: str
    default: []
author: Plantline
extends_documentation_fragment: kafka_client
"""

EXAMPLES = r"""
- name: Declare the topics
  kafka_topics:
    bootstrap_servers: node1:9092,node2:9092
    record: /var/lib/plantline/kafka/topics.json
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
deleted:
  description: Names of the topics that were deleted.
  type: list
  elements: str
  returned: always
no_longer_declared:
  description: Names of topics that were declared here before, and were kept.
  type: list
  elements: str
  returned: always
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec=OPTIONS
        | {
            "topics": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "partitions": {"type": "int"},
                    "replication_factor": {"type": "int"},
                    "config": {"type": "dict", "default": {}},
                    "keyed": {"type": "bool", "default": True},
                },
            },
            "confirmed": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    declared = [
        Topic(
            name=topic["name"],
            partitions=topic["partitions"],
            replication_factor=topic["replication_factor"],
            config={name: config_text(value) for name, value in topic["config"].items()},
            keyed=topic["keyed"],
        )
        for topic in module.params["topics"]
    ]

    def work(client: KafkaAdminClient | None, earlier: Items) -> Outcome:
        wishes = Wishes(earlier.keys(), module.params["prune"], module.params["confirmed"])
        names = {topic.name for topic in declared}
        found = _read(client, {*names, *earlier, *wishes.confirmed}) if client else {}
        stakes = at_stake(declared, found, wishes)
        records = _count(client, {name: found[name] for name in stakes}) if client else {}
        plan = plan_topics(declared, found, records, wishes)
        refuse(plan.refused)
        if client:
            _carry_out(client, plan, validate_only=module.check_mode)
        return _outcome(declared, found, plan)

    run(
        module,
        work,
        kind="topics",
        remedy="-e kafka_confirmed_topics=NAME deletes one, -e kafka_prune=true all that are empty",
    )


def _read(client: KafkaAdminClient, names: Collection[str]) -> dict[str, Topic]:
    """Those of the named topics that exist."""
    from kafka.admin import ConfigResource

    present = [topic for topic in client.describe_topics() if topic["name"] in names]
    if not present:
        return {}
    resources = [ConfigResource("TOPIC", topic["name"]) for topic in present]
    configs = client.describe_configs(resources, config_filter="all")["topic"]
    return {
        topic["name"]: Topic(
            name=topic["name"],
            partitions=len(topic["partitions"]),
            replication_factor=len(topic["partitions"][0]["replica_nodes"]),
            config={
                name: entry["value"]
                for name, entry in configs[topic["name"]].items()
                if entry["config_source"] == "DYNAMIC_TOPIC_CONFIG"
            },
            effective={
                name: configs[topic["name"]][name]["value"]
                for name in (*RETENTION, CLEANUP)
                if name in configs[topic["name"]]
            },
        )
        for topic in present
    }


def _count(client: KafkaAdminClient, topics: Mapping[str, Topic]) -> dict[str, int]:
    """How many records each topic holds at most: offsets that nothing stands at count as well."""
    from kafka import TopicPartition
    from kafka.admin import OffsetSpec

    places = [
        TopicPartition(name, index)
        for name, topic in topics.items()
        for index in range(topic.partitions or 0)
    ]
    if not places:
        return {}
    first = client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))
    end = client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
    held = dict.fromkeys(topics, 0)
    for place in places:
        held[place.topic] += end[place].offset - first[place].offset
    return held


def _carry_out(client: KafkaAdminClient, plan: TopicPlan, *, validate_only: bool) -> None:
    """Sends the plan in batches; raises RejectedError with all that a batch's brokers rejected."""
    from kafka.admin import ConfigResource

    for topics in topic_batches(plan.create):
        answer = client.create_topics(
            {
                topic.name: {
                    "num_partitions": topic.partitions or -1,
                    "replication_factor": topic.replication_factor or -1,
                    "configs": topic.config,
                }
                for topic in topics
            },
            validate_only=validate_only,
            raise_errors=False,
        )
        reject(
            f"{topic['name']}: {topic['error_message']}"
            for topic in answer["topics"]
            if topic["error_code"]
        )
    for changes in batches(list(plan.alter.items())):
        answer = client.alter_configs(
            [
                ConfigResource(
                    "TOPIC",
                    name,
                    {
                        setting: ("DELETE", None) if value is None else ("SET", value)
                        for setting, value in settings.items()
                    },
                )
                for name, settings in changes
            ],
            validate_only=validate_only,
            raise_on_unknown=False,
        )
        reject(f"{name}: {result}" for name, result in answer["topic"].items() if result != "OK")
    if plan.grow:
        answer = client.create_partitions(
            dict(plan.grow), validate_only=validate_only, raise_errors=False
        )
        reject(
            f"{topic.name}: {topic.error_message}" for topic in answer.results if topic.error_code
        )
    # There is no way to have the brokers validate what follows.
    if validate_only:
        return
    for names in batches(plan.delete):
        answer = client.delete_topics(list(names), raise_errors=False)
        reject(
            f"{topic['name']}: {topic['error_message']}"
            for topic in answer["topics"]
            if topic["error_code"]
        )
    # Whoever comes next may produce at once.
    client.wait_for_topics([topic.name for topic in plan.create], timeout_ms=int(REQUEST_S * 1000))


def _outcome(declared: Sequence[Topic], found: Mapping[str, Topic], plan: TopicPlan) -> Outcome:
    created = [topic.name for topic in plan.create]
    altered = sorted({*plan.grow, *plan.alter})
    wanted = {topic.name: topic for topic in declared}
    return Outcome(
        changed=plan.changed,
        items=dict.fromkeys([*wanted, *plan.rest]),
        rest=plan.rest,
        before={name: found[name].described() for name in [*altered, *plan.delete]},
        after={
            name: (found[name].described() if name in found else {}) | wanted[name].described()
            for name in sorted([*created, *altered])
        },
        facts={"created": created, "altered": altered, "deleted": list(plan.delete)},
    )


if __name__ == "__main__":
    main()
