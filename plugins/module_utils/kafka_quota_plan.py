"""What has to be done so that the quotas of a cluster are as declared.

A quota belongs to an entity: a user, a client id, both together, or an address. A declared entity
has exactly the declared limits, as a declared topic has its settings. One that was not declared
here before is not touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# What Kafka's tools and its documents call the quota of all that have none of their own.
DEFAULT = "<default>"
OF_CLIENTS = frozenset(
    {"producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate"}
)
OF_ADDRESSES = frozenset({"connection_creation_rate"})
LIMITS = OF_CLIENTS | OF_ADDRESSES


@dataclass(frozen=True)
class Entity:
    """Whom a quota is for; a part is None where it does not matter, and `DEFAULT` for all that have
    no quota of their own."""

    user: str | None = None
    client_id: str | None = None
    ip: str | None = None

    def parts(self) -> dict[str, str | None]:
        """As Kafka's protocol names them: kind → name, None for the default."""
        given = {"user": self.user, "client-id": self.client_id, "ip": self.ip}
        return {
            kind: None if name == DEFAULT else name
            for kind, name in given.items()
            if name is not None
        }

    @classmethod
    def of(cls, parts: Mapping[str, str | None]) -> Entity:
        """The reverse of `parts`."""
        names = {
            kind.replace("-", "_"): DEFAULT if name is None else name
            for kind, name in parts.items()
        }
        return cls(**names)

    def __str__(self) -> str:
        given = {"user": self.user, "client id": self.client_id, "address": self.ip}
        return ", ".join(f"{kind} {name}" for kind, name in given.items() if name is not None)


@dataclass(frozen=True)
class Quota:
    """The limits of an entity, by Kafka's name; rates are per broker and second."""

    entity: Entity
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class QuotaPlan:
    """alter: entity → limit → value, None to unset. delete: entities that lose all limits, as
    text. rest: no longer declared, and kept. refused: one sentence for each declaration that
    cannot be met."""

    alter: Mapping[Entity, Mapping[str, float | None]]
    delete: tuple[str, ...]
    rest: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.alter)


def plan_quotas(
    declared: Sequence[Quota],
    found: Mapping[Entity, Mapping[str, float]],
    earlier: Sequence[str],
    *,
    prune: bool = False,
) -> QuotaPlan:
    """Compares the declared quotas with those of the cluster.

    earlier: entities declared here before, as text.
    """
    names = [str(quota.entity) for quota in declared]
    present = {str(entity): entity for entity in found}
    refused = [
        f"a quota of {name} is declared twice"
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    refused += [problem for quota in declared if (problem := _problem(quota))]
    alter = {
        quota.entity: changes
        for quota in declared
        if (changes := _changes(quota.limits, found.get(quota.entity, {})))
    }
    gone = sorted((set(earlier) & set(present)) - set(names))
    delete, rest = (gone, []) if prune else ([], gone)
    alter |= {present[name]: dict.fromkeys(found[present[name]]) for name in delete}
    return QuotaPlan(alter, tuple(delete), tuple(rest), tuple(refused))


def _changes(declared: Mapping[str, float], found: Mapping[str, float]) -> dict[str, float | None]:
    changes: dict[str, float | None] = {
        limit: value for limit, value in declared.items() if found.get(limit) != value
    }
    return changes | dict.fromkeys(found.keys() - declared.keys())


def _problem(quota: Quota) -> str | None:
    entity = quota.entity
    if not entity.parts():
        return "a quota names neither user, client_id nor ip"
    if entity.ip is not None and len(entity.parts()) > 1:
        return f"quota of {entity}: an address stands alone"
    known = OF_CLIENTS if entity.ip is None else OF_ADDRESSES
    if wrong := sorted(quota.limits.keys() - known):
        return f"quota of {entity}: no {', '.join(wrong)} there; use {', '.join(sorted(known))}"
    if wrong := sorted(limit for limit, value in quota.limits.items() if value <= 0):
        return (
            f"quota of {entity}: {', '.join(wrong)} must be more than 0; leave it out for no limit"
        )
    if not quota.limits:
        return f"quota of {entity}: no limit is given; leave the quota out"
    return None
