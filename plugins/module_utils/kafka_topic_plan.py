"""What has to be done so that the topics of a cluster are as declared.

Topics are created, their settings changed and their partitions added; a topic that is not declared
is not touched. A declared topic has exactly the declared settings: others go back to the cluster's
defaults. What cannot be done without losing or moving records is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

# Set by partition reassignments while they run, not by whoever declares topics.
FOREIGN_SETTINGS = frozenset(
    {"leader.replication.throttled.replicas", "follower.replication.throttled.replicas"}
)
# The controller writes at most 10,000 records per request, one for each partition and setting.
BATCH_RECORDS = 5000


@dataclass(frozen=True)
class Topic:
    """A topic, declared or found. None: left to the cluster's default."""

    name: str
    partitions: int | None = None
    replication_factor: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)

    def described(self) -> dict[str, object]:
        """For a diff: what is known of it."""
        facts = {
            "partitions": self.partitions,
            "replication_factor": self.replication_factor,
            "config": dict(sorted(self.config.items())),
        }
        return {name: fact for name, fact in facts.items() if fact is not None}


@dataclass(frozen=True)
class TopicPlan:
    """create: new topics. grow: name → partitions. alter: name → setting → value, None to unset.
    refused: one sentence for each declaration that cannot be met."""

    create: tuple[Topic, ...]
    grow: Mapping[str, int]
    alter: Mapping[str, Mapping[str, str | None]]
    refused: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.create or self.grow or self.alter)


def plan_topics(declared: Sequence[Topic], found: Mapping[str, Topic]) -> TopicPlan:
    """Compares the declared topics with those of the cluster."""
    create: list[Topic] = []
    grow: dict[str, int] = {}
    alter: dict[str, dict[str, str | None]] = {}
    refused: list[str] = []
    names = [topic.name for topic in declared]
    refused += [f"{name} is declared twice" for name in sorted(set(names)) if names.count(name) > 1]
    for topic in declared:
        present = found.get(topic.name)
        if present is None:
            create.append(topic)
            continue
        if topic.partitions is not None and present.partitions is not None:
            if topic.partitions > present.partitions:
                grow[topic.name] = topic.partitions
            elif topic.partitions < present.partitions:
                refused.append(
                    f"{topic.name} has {present.partitions} partitions, {topic.partitions} are "
                    "declared: taking partitions away would delete their records; declare "
                    f"{present.partitions}, or move to a topic of another name"
                )
        if topic.replication_factor not in (None, present.replication_factor):
            refused.append(
                f"{topic.name} has replication factor {present.replication_factor}, "
                f"{topic.replication_factor} is declared: replicas of an existing topic are moved "
                "by a partition reassignment, not by its declaration"
            )
        if changes := _config_changes(topic.config, present.config):
            alter[topic.name] = changes
    return TopicPlan(tuple(create), grow, alter, tuple(refused))


def batches(topics: Sequence[Topic]) -> Iterator[list[Topic]]:
    """The topics in groups small enough for one request each."""
    batch: list[Topic] = []
    records = 0
    for topic in topics:
        size = 1 + (topic.partitions or 1) + len(topic.config)
        if batch and records + size > BATCH_RECORDS:
            yield batch
            batch, records = [], 0
        batch.append(topic)
        records += size
    if batch:
        yield batch


def config_text(value: object) -> str:
    """A setting as Kafka writes it, from what YAML made of it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(config_text, value))
    return str(value)


def _config_changes(
    declared: Mapping[str, str], present: Mapping[str, str]
) -> dict[str, str | None]:
    changes: dict[str, str | None] = {
        name: value for name, value in declared.items() if present.get(name) != value
    }
    changes.update(
        {name: None for name in present if name not in declared and name not in FOREIGN_SETTINGS}
    )
    return changes
