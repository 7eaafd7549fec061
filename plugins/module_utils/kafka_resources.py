"""What the modules kafka_topics, kafka_users, kafka_acls and kafka_quotas have in common.

Each takes the whole declared set, and nothing is deleted that was not declared here before. What
was is kept in a record: a file on the broker that the modules run on, one for each kind of
resource. It goes with the broker's disk and names its cluster, so it never speaks of another one.
Where it is lost, nothing is deleted and passwords are set once more: to forget is harmless.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ansible.module_utils.kafka_client import TLS_OPTION, NotAnsweringError, admin, poll, tls_of

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule
    from kafka.admin import KafkaAdminClient

# The controller writes at most 10,000 records for a request.
BATCH = 1000
# A batch of thousands of partitions on busy disks.
REQUEST_S = 60.0
NAMED = 10
Item = TypeVar("Item")
Items = Mapping[str, Any]

# Options that all four modules have.
OPTIONS: dict[str, Any] = {
    "bootstrap_servers": {"type": "str", "required": True},
    "tls": TLS_OPTION,
    "record": {"type": "path", "required": True},
    "prune": {"type": "bool", "default": False},
}


class RefusedError(Exception):
    """What is declared cannot be; one line for each reason. Nothing was changed."""


class RejectedError(Exception):
    """A broker rejected changes; one line for each."""


@dataclass(frozen=True)
class Outcome:
    """What a module did, or in check mode would do.

    items: for the record: by name, what is to be remembered of each.
    rest: names that are no longer declared, and were kept.
    facts: what the module returns beside `changed` and `diff`.
    """

    changed: bool
    items: Items
    rest: Sequence[str] = ()
    before: Items = field(default_factory=dict)
    after: Items = field(default_factory=dict)
    facts: Items = field(default_factory=dict)


def run(
    module: AnsibleModule,
    work: Callable[[KafkaAdminClient | None, Items], Outcome],
    *,
    kind: str,
    remedy: str,
) -> None:
    """Ends the module with what `work` makes of a client and the items of the record.

    The client is None in check mode where Kafka is not there yet. `work` may raise RefusedError
    and RejectedError. kind, remedy: for the warning of what is no longer declared.
    """
    params = module.params
    file = Path(params["record"])
    try:
        try:
            with admin(params["bootstrap_servers"], REQUEST_S, tls_of(params["tls"])) as client:
                cluster_id = str(client.describe_cluster()["cluster_id"])
                outcome = work(client, load_record(file, cluster_id))
                if not module.check_mode:
                    save_record(file, cluster_id, outcome.items)
        except NotAnsweringError:
            if not module.check_mode:
                raise
            outcome = work(None, {})
    except NotAnsweringError as error:
        module.fail_json(msg=str(error))
    except RefusedError as error:
        module.fail_json(msg=f"Nothing was changed:\n{error}")
    except RejectedError as error:
        module.fail_json(msg=f"Kafka refused:\n{error}")
    if rest := outcome.rest:
        more = f" and {len(rest) - NAMED} more" if len(rest) > NAMED else ""
        named = ", ".join(rest[:NAMED]) + more
        module.warn(f"No longer declared, and still there: {kind} {named}. {remedy}")
    module.exit_json(
        changed=outcome.changed,
        diff={"before": outcome.before, "after": outcome.after},
        no_longer_declared=list(outcome.rest),
        **outcome.facts,
    )


def load_record(file: Path, cluster_id: str) -> Items:
    """The items that were declared here before; none in a record of another cluster."""
    if not file.is_file():
        return {}
    content = json.loads(file.read_text("utf-8"))
    return dict(content["items"]) if content["cluster_id"] == cluster_id else {}


def save_record(file: Path, cluster_id: str, items: Items) -> None:
    """Writes it where it differs, readable for root alone, whole or not at all."""
    text = json.dumps({"cluster_id": cluster_id, "items": items}, indent=1, sort_keys=True) + "\n"
    if file.is_file() and file.read_text("utf-8") == text:
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)


def batches(items: Sequence[Item], size: int = BATCH) -> Iterator[Sequence[Item]]:
    """The items in groups small enough for one request each."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def send(client: KafkaAdminClient, request: Any, node: int | None = None) -> Any:  # noqa: ANN401 - a message
    """The answer to one of kafka-python's messages, by any broker or a certain one.

    For what it has no method for, or one that does not let choose the broker or hides errors.
    Raises KafkaError where the answer as a whole is one.
    """
    from kafka.errors import for_code

    answer = client._manager.run(client._manager.send, request, node)
    if code := getattr(answer, "error_code", 0):
        raise for_code(code)(answer.error_message)
    return answer


def wait_for_brokers(client: KafkaAdminClient, is_known: Callable[[int], bool]) -> None:
    """Waits until every broker knows of a change, so that whoever comes next finds it.

    The controller has written it when it answers; the brokers follow, each when it has done what
    was written before. Raises NotAnsweringError.
    """
    from kafka.errors import KafkaError

    def follows(node: int) -> bool | None:
        try:
            return is_known(node) or None
        except KafkaError:
            # It is away, and learns of the change when it is back.
            return True

    for broker in client._manager.cluster.brokers():
        if poll(lambda node=broker.node_id: follows(node), REQUEST_S) is None:
            raise NotAnsweringError(
                f"broker {broker.node_id} does not follow the controller: after {REQUEST_S:.0f} s "
                "it does not know what was changed. `journalctl -u kafka` there says why"
            )


def refuse(problems: Iterable[str]) -> None:
    """Raises RefusedError if there are any."""
    if lines := list(problems):
        raise RefusedError("\n".join(lines))


def reject(problems: Iterable[str]) -> None:
    """Raises RejectedError if there are any."""
    if lines := list(problems):
        raise RejectedError("\n".join(lines))
