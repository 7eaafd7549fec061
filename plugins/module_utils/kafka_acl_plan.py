"""What has to be done so that the access rules of a cluster are as declared.

Rules are added and taken away, never changed: two that differ in anything are two rules. One that
was not declared here before stays, whoever made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# What Kafka checks on each kind of resource; another operation there would never take effect.
OPERATIONS: Mapping[str, frozenset[str]] = {
    "topic": frozenset(
        {
            "read",
            "write",
            "create",
            "delete",
            "alter",
            "describe",
            "describe_configs",
            "alter_configs",
        }
    ),
    "group": frozenset({"read", "describe", "delete"}),
    "cluster": frozenset(
        {
            "create",
            "cluster_action",
            "describe",
            "alter",
            "describe_configs",
            "alter_configs",
            "idempotent_write",
        }
    ),
    "transactional_id": frozenset({"describe", "write"}),
}
ALL = "all"
CLUSTER_NAME = "kafka-cluster"


@dataclass(frozen=True)
class Acl:
    """One rule, in the words of Kafka's own tools: `User:x` may do this to that."""

    principal: str
    operation: str
    resource: str
    name: str
    pattern: str = "literal"
    host: str = "*"
    permission: str = "allow"

    def __str__(self) -> str:
        return (
            f"{self.permission} {self.principal} {self.operation} on {self.resource} "
            f"{self.pattern} {self.name} from {self.host}"
        )


@dataclass(frozen=True)
class AclPlan:
    """create, delete: rules. rest: no longer declared, and kept, as text. refused: one sentence
    for each declaration that cannot be met."""

    create: tuple[Acl, ...]
    delete: tuple[Acl, ...]
    rest: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.create or self.delete)


def plan_acls(
    declared: Sequence[Acl],
    found: Sequence[Acl],
    earlier: Sequence[str],
    *,
    prune: bool = False,
) -> AclPlan:
    """Compares the declared rules with those of the cluster.

    Rules may be declared more than once: what two programs of one user need may overlap.
    earlier: rules declared here before, as text.
    """
    wanted = list(dict.fromkeys(declared))
    present = {str(acl): acl for acl in found}
    create = tuple(acl for acl in wanted if str(acl) not in present)
    gone = sorted((set(earlier) & set(present)) - set(map(str, wanted)))
    return AclPlan(
        create=create,
        delete=tuple(present[text] for text in gone) if prune else (),
        rest=() if prune else tuple(gone),
        refused=tuple(problem for acl in wanted if (problem := _problem(acl))),
    )


def _problem(acl: Acl) -> str | None:
    kind, _, name = acl.principal.partition(":")
    if not (kind and name):
        return f"{acl}: the principal must be a kind and a name, such as User:{acl.principal}"
    if acl.operation != ALL and acl.operation not in OPERATIONS[acl.resource]:
        known = ", ".join(sorted({*OPERATIONS[acl.resource], ALL}))
        return f"{acl}: Kafka knows no such operation there; use one of {known}"
    if acl.resource == "cluster" and acl.name != CLUSTER_NAME:
        return f"{acl}: the cluster's name is {CLUSTER_NAME}"
    if not acl.name:
        return f"{acl}: the resource has no name; * is every one"
    return None
