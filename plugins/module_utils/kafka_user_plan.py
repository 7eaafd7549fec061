"""What has to be done so that the users of a cluster have the declared SCRAM-SHA-512 passwords.

Kafka keeps a password as salted iterations of a hash, and tells only how many iterations. So:

1. With each password that is set a fingerprint of it is kept: a salted hash as slow as Kafka's own,
   with a salt of its own, so that it is of no use to log in with. It lies with the record of the
   modules, readable for root on one broker; who can read it there can read Kafka's own as well.
2. The iterations are drawn anew each time, and never those that Kafka's tools take. Where the
   cluster tells another number than the one kept, somebody else has set the password since, and
   the declared one is set again.
3. A user of whom no fingerprint is kept gets the declared password. Setting the same password once
   more disturbs nobody: connections stay, and new ones log in as before.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

MECHANISM = "SCRAM-SHA-512"
# Kafka allows 4096 to 16384 iterations, and its tools take the least.
ITERATIONS = range(4097, 8193)
# Of the fingerprint: as many as Kafka's least.
FINGERPRINT_ITERATIONS = 4096
SHORTEST_PASSWORD = 8

# Users come into file names, ACLs and JAAS settings.
_NAME = re.compile(r"[A-Za-z0-9._@-]+")


@dataclass(frozen=True)
class User:
    """A declared user. The password stays out of every text made of it."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Fingerprint:
    """What tells whether a password is the one that was set; salt and digest in hex."""

    salt: str
    digest: str
    iterations: int

    @classmethod
    def of(cls, password: str, iterations: int) -> Fingerprint:
        """The fingerprint of a password that is set with so many iterations."""
        salt = secrets.token_bytes(16)
        return cls(salt.hex(), _digest(password, salt), iterations)

    def facts(self) -> dict[str, Any]:
        """For the record of the modules."""
        return asdict(self)

    def matches(self, password: str) -> bool:
        return hmac.compare_digest(self.digest, _digest(password, bytes.fromhex(self.salt)))


@dataclass(frozen=True)
class UserPlan:
    """set_password: name → why. delete: names. rest: no longer declared, and kept. refused: one
    sentence for each declaration that cannot be met."""

    set_password: Mapping[str, str]
    delete: tuple[str, ...]
    rest: tuple[str, ...]
    refused: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.set_password or self.delete)


def plan_users(
    declared: Sequence[User],
    found: Mapping[str, int],
    earlier: Mapping[str, Fingerprint],
    *,
    reserved: Collection[str] = (),
    prune: bool = False,
) -> UserPlan:
    """Compares the declared users with those of the cluster.

    found: iterations by name. earlier: users declared here before, and the password that was set.
    reserved: names of super users; a password for one would open everything.
    """
    names = [user.name for user in declared]
    refused = [f"{name} is declared twice" for name in sorted(set(names)) if names.count(name) > 1]
    refused += [problem for user in declared if (problem := _problem(user))]
    refused += [
        f"{name} is a super user, who comes by certificate and not by password; use another name"
        for name in sorted(set(names) & set(reserved))
    ]
    set_password = {
        user.name: reason
        for user in declared
        if (reason := _reason(user, found.get(user.name), earlier.get(user.name)))
    }
    gone = sorted((set(earlier) & set(found)) - set(names))
    delete, rest = (gone, []) if prune else ([], gone)
    return UserPlan(set_password, tuple(delete), tuple(rest), tuple(refused))


def new_iterations(before: int | None) -> int:
    """How many iterations to set a password with, other than before."""
    return secrets.choice([number for number in ITERATIONS if number != before])


def _reason(user: User, iterations: int | None, mark: Fingerprint | None) -> str | None:
    """Why the password has to be set; None if it is the declared one."""
    if iterations is None:
        return "new"
    if mark is None:
        return "its password is not known here"
    if mark.iterations != iterations:
        return "its password was changed by somebody else"
    if not mark.matches(user.password):
        return "another password is declared"
    return None


def _problem(user: User) -> str | None:
    if not _NAME.fullmatch(user.name):
        return f"{user.name!r} is no name for a user; use letters, digits, and . _ @ -"
    if len(user.password) < SHORTEST_PASSWORD:
        return f"the password of {user.name} has fewer than {SHORTEST_PASSWORD} characters"
    return None


def _digest(password: str, salt: bytes) -> str:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, FINGERPRINT_ITERATIONS).hex()
