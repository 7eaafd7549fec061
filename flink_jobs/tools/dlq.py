"""Dead letters: what was refused and why, and once the cause is mended, back to where it came from.

    python -m flink_jobs.tools.dlq list   [--config out/client.conf] [--since TIME]
    python -m flink_jobs.tools.dlq show   [--reason R ...] [--machine GLOB ...] [--limit N]
    python -m flink_jobs.tools.dlq replay --reason R ... [--machine GLOB ...] [--dry-run]

`replay` sends each dead letter, key and value untouched, to the topic it was refused on, and marks
it with a header, so that no dead letter is replayed twice. One that is refused again (as `late`
where its window is over) becomes another dead letter, which is left out unless `--again` is given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice

from confluent_kafka import Message
from rich.console import Console
from rich.table import Table

from flink_jobs import contracts
from flink_jobs.tools import cli
from flink_jobs.tools.kafka import Config, Publisher, read_all, read_config

# On a replayed record: the dead letter it was.
REPLAY_HEADER = "dlq.replay"

_SHOWN_BYTES = 200


@dataclass(frozen=True)
class DeadLetter:
    """A record of topic `dlq`. `place` is its own `partition/offset`, appended epoch ms."""

    place: str
    appended: int
    key: bytes | None
    value: bytes | None
    source: str
    reason: str
    detail: str

    @property
    def topic(self) -> str | None:
        """The Kafka topic it was refused on; None where it came another way."""
        kind, _, rest = self.source.partition(":")
        topic, _, _ = rest.partition("/")
        return topic if kind == "kafka" and topic else None


def dead_letter(message: Message) -> DeadLetter:
    """A dead letter from its record; headers that are missing are empty."""
    headers = _headers(message)
    return DeadLetter(
        place=f"{message.partition()}/{message.offset()}",
        appended=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        source=headers.get("dlq.source", ""),
        reason=headers.get("dlq.reason", ""),
        detail=headers.get("dlq.detail", ""),
    )


def dead_letters(
    config: Config, since: int | None, reasons: list[str], machines: list[str]
) -> Iterator[DeadLetter]:
    """Those of the given reasons and machines (globs over the key), all where none are given."""
    for message in read_all(config, contracts.DLQ, since):
        one = dead_letter(message)
        key = _text(one.key)
        if (not reasons or one.reason in reasons) and (
            not machines or any(fnmatchcase(key, glob) for glob in machines)
        ):
            yield one


def replayed(config: Config, topic: str, since: int) -> dict[str, str]:
    """The places of the dead letters that were sent to a topic again: where they lie there now."""
    return {
        headers[REPLAY_HEADER]: f"kafka:{topic}/{message.partition()}/{message.offset()}"
        for message in read_all(config, topic, since)
        if REPLAY_HEADER in (headers := _headers(message))
    }


def summary(letters: Iterable[DeadLetter]) -> Table:
    """How many there are of each reason and source, the newest of each, and its detail."""
    counts: dict[tuple[str, str], int] = {}
    newest: dict[tuple[str, str], DeadLetter] = {}
    for one in letters:
        kind = (one.reason, one.topic or one.source)
        counts[kind] = counts.get(kind, 0) + 1
        if kind not in newest or one.appended >= newest[kind].appended:
            newest[kind] = one
    table = Table("reason", "from", "count", "newest", "its detail", box=None)
    for kind, count in sorted(counts.items(), key=lambda item: -item[1]):
        one = newest[kind]
        table.add_row(*kind, f"{count:,}", cli.shown_time(one.appended), one.detail)
    return table


def shown(one: DeadLetter) -> str:
    """A dead letter for people, on three lines."""
    value = one.value
    return (
        f"{one.place} {cli.shown_time(one.appended)} {one.reason}: {one.detail}\n"
        f"  from {one.source or 'nowhere said'}, key {_printable(one.key)}\n"
        f"  {_printable(value)}"
    )


def replay(
    config: Config, letters: list[DeadLetter], *, again: bool = False, dry_run: bool = False
) -> str:
    """Sends dead letters to their topics again; says what became of them. Raises ToolError.

    `again` for those, too, that came of an earlier replay.
    """
    by_topic: dict[str, list[DeadLetter]] = {}
    for one in letters:
        by_topic.setdefault(one.topic or "", []).append(one)
    elsewhere = len(by_topic.pop("", []))
    sent = before = in_vain = 0
    # With one more header than the broker took it with.
    size = {"message.max.bytes": str(2 * contracts.MAX_RAW_BYTES)}
    with Publisher({**config, **size}) as publisher:
        for topic, its_letters in by_topic.items():
            known = replayed(config, topic, min(one.appended for one in its_letters))
            places = set(known.values())
            for one in its_letters:
                if one.place in known:
                    before += 1
                    continue
                if one.source in places and not again:
                    in_vain += 1
                    continue
                sent += 1
                if not dry_run:
                    header: list[tuple[str, str | bytes | None]] = [(REPLAY_HEADER, one.place)]
                    publisher.send(topic, one.key, one.value, headers=header)
    lines = [
        f"{sent} {'would be sent' if dry_run else 'sent'} to {', '.join(by_topic) or 'no topic'}"
    ]
    if before:
        lines.append(f"{before} left out: they were replayed before")
    if in_vain:
        lines.append(f"{in_vain} left out: they were refused again after a replay; see --again")
    if elsewhere:
        lines.append(f"{elsewhere} left out: they did not come from a Kafka topic")
    return "\n".join(lines)


def _headers(message: Message) -> dict[str, str]:
    headers = message.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return {name: _text(value) for name, value in pairs}


def _text(raw: bytes | str | None) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""


def _printable(raw: bytes | None) -> str:
    """Bytes as text where they are text, else as Python writes them; long ones are cut."""
    if raw is None:
        return "null"
    cut = raw[:_SHOWN_BYTES]
    try:
        text = cut.decode()
    except UnicodeDecodeError:
        text = repr(cut)
    text = text if text.isprintable() else repr(text)
    return text if len(raw) <= _SHOWN_BYTES else f"{text} … ({len(raw):,} bytes)"


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = cli.parser("dlq", __doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("list", "how many of each reason"),
        ("show", "each of them"),
        ("replay", "send them again to where they came from"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument(
            "--reason",
            nargs="+",
            default=[],
            required=name == "replay",
            help="only of these reasons",
        )
        command.add_argument("--machine", nargs="+", default=[], help="only of these keys (globs)")
        command.add_argument(
            "--since", type=cli.time_argument, help="only what was refused since this time"
        )
        if name == "show":
            command.add_argument("--limit", type=int, default=20, help="at most (%(default)s)")
        if name == "replay":
            command.add_argument("--dry-run", action="store_true", help="say what would be sent")
            command.add_argument(
                "--again", action="store_true", help="also what was refused again after a replay"
            )
    options = parser.parse_args(arguments)
    return cli.run(lambda: _command(options))


def _command(options: argparse.Namespace) -> int:
    config = read_config(options.config)
    letters = dead_letters(config, options.since, options.reason, options.machine)
    if options.command == "list":
        Console().print(summary(letters))
    elif options.command == "show":
        for one in islice(letters, options.limit):
            print(shown(one))
    else:
        print(replay(config, list(letters), again=options.again, dry_run=options.dry_run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
