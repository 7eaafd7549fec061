"""What has to be done so that the topics of a cluster are as declared.

1. Topics are created, their settings changed and their partitions added. A declared topic has
   exactly the declared settings: others go back to the cluster's defaults.
2. A topic that was declared here before and is not any more is deleted only where that is asked
   for, by `prune` or by its name. One that was never declared here is not touched.
3. What would lose records, or their order, is refused with the reason unless the topic is empty or
   named in `confirmed`:
   - A key's partition follows from the number of partitions. With more of them most keys move, and
     a reader may see what a machine sent after the change before what it sent earlier.
   - A shorter retention, or another cleanup policy, deletes what it no longer covers.
   - A topic that is deleted takes its records along.
4. Some things cannot be done at all: to take partitions away, to move replicas by declaration, and
   to add partitions to a compacted topic, where the last value that a key has on its old partition
   would be kept beside the new one for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

# Set by partition reassignments while they run, not by whoever declares topics.
FOREIGN_SETTINGS = frozenset(
    {"leader.replication.throttled.replicas", "follower.replication.throttled.replicas"}
)
RETENTION = ("retention.ms", "retention.bytes")
CLEANUP = "cleanup.policy"
# The controller writes at most 10,000 records per request, one for each partition and setting.
BATCH_RECORDS = 5000


@dataclass(frozen=True)
class Topic:
    """A topic, declared or found. None: left to the cluster's default.

    config: settings made on the topic itself.
    keyed: declared that the records of a key must stay in order.
    effective: found values of settings, wherever they come from; those that `RETENTION` and
        `CLEANUP` name are needed.
    """

    name: str
    partitions: int | None = None
    replication_factor: int | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    keyed: bool = True
    effective: Mapping[str, str] = field(default_factory=dict)

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
    delete: names. rest: no longer declared, and kept. refused: one sentence for each declaration
    that cannot be met."""

    create: tuple[Topic, ...]
    grow: Mapping[str, int]
    alter: Mapping[str, Mapping[str, str | None]]
    delete: tuple[str, ...]
    rest: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.create or self.grow or self.alter or self.delete)


@dataclass(frozen=True)
class Wishes:
    """What is allowed beside the declaration itself.

    earlier: names declared here before. prune: delete those of them that are not any more.
    confirmed: names of topics whose records, or their order, may be lost.
    """

    earlier: Collection[str] = ()
    prune: bool = False
    confirmed: Collection[str] = ()


def at_stake(
    declared: Sequence[Topic], found: Mapping[str, Topic], wishes: Wishes = Wishes()
) -> list[str]:
    """Names of the topics of which the plan must know whether they hold records."""
    changed = {
        topic.name
        for topic in declared
        if (present := found.get(topic.name))
        and (_losses(topic, present) or _splits_keys(topic, present))
    }
    return sorted(changed | set(_unwanted(declared, found, wishes)))


def plan_topics(
    declared: Sequence[Topic],
    found: Mapping[str, Topic],
    records: Mapping[str, int] | None = None,
    wishes: Wishes = Wishes(),
) -> TopicPlan:
    """Compares the declared topics with those of the cluster.

    records: how many each topic of `at_stake` holds.
    """
    records = records or {}
    create: list[Topic] = []
    grow: dict[str, int] = {}
    alter: dict[str, dict[str, str | None]] = {}
    names = [topic.name for topic in declared]
    refused = [f"{name} is declared twice" for name in sorted(set(names)) if names.count(name) > 1]
    for topic in declared:
        present = found.get(topic.name)
        if present is None:
            create.append(topic)
            continue
        held = records.get(topic.name, 0)
        refused += _impossible(topic, present, held)
        if held and topic.name not in wishes.confirmed:
            refused += [_unconfirmed(topic.name, held, loss) for loss in _losses(topic, present)]
        if _grows(topic, present):
            grow[topic.name] = topic.partitions or 0
        if changes := _config_changes(topic.config, present.config):
            alter[topic.name] = changes
    delete = _unwanted(declared, found, wishes)
    refused += [
        _unconfirmed(name, records[name], "it is no longer declared, and would be deleted")
        for name in delete
        if records.get(name) and name not in wishes.confirmed
    ]
    strange = (set(wishes.confirmed) & set(found)) - set(names) - set(wishes.earlier)
    refused += [
        f"{name} was never declared here, so it is not deleted here; Kafka's own tools can"
        for name in sorted(strange)
    ]
    rest = [name for name in _gone(declared, found, wishes) if name not in delete]
    return TopicPlan(tuple(create), grow, alter, tuple(delete), tuple(rest), tuple(refused))


def topic_batches(topics: Sequence[Topic]) -> Iterator[list[Topic]]:
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


def _impossible(topic: Topic, present: Topic, held: int) -> Iterator[str]:
    """What no confirmation makes possible."""
    if topic.partitions is not None and topic.partitions < (present.partitions or 0):
        yield (
            f"{topic.name} has {present.partitions} partitions, {topic.partitions} are "
            "declared: taking partitions away would delete their records; declare "
            f"{present.partitions}, or move to a topic of another name"
        )
    if topic.replication_factor not in (None, present.replication_factor):
        yield (
            f"{topic.name} has replication factor {present.replication_factor}, "
            f"{topic.replication_factor} is declared: replicas of an existing topic are moved "
            "by a partition reassignment, not by its declaration"
        )
    if held and _splits_keys(topic, present):
        yield (
            f"{topic.name} has {present.partitions} partitions, {topic.partitions} are declared: "
            "it is compacted, and a key that moves would keep its old value on its old partition "
            f"for ever; declare {present.partitions}, or move to a topic of another name"
        )


def _losses(topic: Topic, present: Topic) -> list[str]:
    """What records of the topic, if there are any, would suffer from its declaration."""
    losses = []
    if _grows(topic, present) and topic.keyed and not _splits_keys(topic, present):
        losses.append(
            f"with {topic.partitions} partitions in place of {present.partitions} most keys "
            "move to another one, and readers may see a machine's new records before its old ones"
        )
    changes = _config_changes(topic.config, present.config)
    for setting in RETENTION:
        if setting in changes and _shorter(changes[setting], present.effective.get(setting)):
            losses.append(
                f"{setting} would go from {present.effective.get(setting, 'the default')} to "
                f"{changes[setting] or 'the default'}, and what is older deleted"
            )
    if CLEANUP in changes and set((changes[CLEANUP] or "").split(",")) != _policy(present):
        losses.append(
            f"{CLEANUP} would go from {','.join(sorted(_policy(present)))} to "
            f"{changes[CLEANUP] or 'the default'}, and what that does not keep deleted"
        )
    return losses


def _unconfirmed(name: str, held: int, loss: str) -> str:
    return (
        f"{name} holds up to {held} records: {loss}. If that may be, name it for this run: "
        f"-e kafka_confirmed_topics={name}"
    )


def _unwanted(declared: Sequence[Topic], found: Mapping[str, Topic], wishes: Wishes) -> list[str]:
    """Topics to delete, if they are empty or confirmed."""
    gone = _gone(declared, found, wishes)
    return [name for name in gone if wishes.prune or name in wishes.confirmed]


def _gone(declared: Sequence[Topic], found: Mapping[str, Topic], wishes: Wishes) -> list[str]:
    """Topics that were declared here before, are not any more, and are still there."""
    return sorted((set(wishes.earlier) & set(found)) - {topic.name for topic in declared})


def _grows(topic: Topic, present: Topic) -> bool:
    return topic.partitions is not None and topic.partitions > (present.partitions or 0)


def _splits_keys(topic: Topic, present: Topic) -> bool:
    """Whether keys of a compacted topic would come to have values on two partitions."""
    return _grows(topic, present) and "compact" in _policy(present)


def _policy(present: Topic) -> set[str]:
    return set(present.effective.get(CLEANUP, "delete").split(","))


def _shorter(new: str | None, old: str | None) -> bool:
    """Whether less is kept than before; -1 is no limit, and what is not known counts as less."""
    if old is None:
        return new != "-1"
    if old == "-1":
        return new != "-1"
    return new is None or 0 <= int(new) < int(old)


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
