"""Watch scored windows and alerts as they come.

    python -m flink_jobs.tools.watch --config out/client.conf [--since beginning|TIME]
        [--seconds S] [--until-idle S] [--expect N]

On a terminal a live table of the machines, elsewhere one line for each alert and now and then one
for the windows. Only committed predictions are shown, and none of the plant's own machines, such as
`_heartbeat`. Ends with a summary.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Message
from rich.console import Group
from rich.live import Live
from rich.table import Table

from flink_jobs import contracts
from flink_jobs.contracts import Alert, ContractError, Prediction
from flink_jobs.tools import cli
from flink_jobs.tools.kafka import Tail, read_config

_POLL_S = 0.25
_ROWS: Final = 20
_ALERTS: Final = 8
_LINE_EVERY_S = 5.0
_COMMISSIONING = "commissioning"


@dataclass
class MachineState:
    """What is known of one machine: its newest window and how many there were."""

    newest: Prediction
    windows: int = 0
    scored: int = 0
    flagged: int = 0


@dataclass
class Board:
    """All that was seen since the start. Latency is of windows near the wall clock only, in ms."""

    machines: dict[str, MachineState] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    raised: set[str] = field(default_factory=set)
    predictions: int = 0
    unreadable: int = 0
    latencies: list[int] = field(default_factory=list)

    def add(self, message: Message) -> Prediction | Alert | None:
        """Take a record of `predictions` or `alerts`; returns what it was, if it is to be shown."""
        raw = message.value() or b""
        found: Prediction | Alert
        try:
            if message.topic() == contracts.ALERTS:
                found = contracts.parse_alert(raw)
            else:
                found = contracts.parse_prediction(raw)
        except ContractError:
            self.unreadable += 1
            return None
        if contracts.is_reserved(found.machine_id):
            return None
        if isinstance(found, Alert):
            self._alert(found)
        else:
            self._prediction(found, message.timestamp()[1])
        return found

    def _prediction(self, prediction: Prediction, appended: int) -> None:
        state = self.machines.setdefault(prediction.machine_id, MachineState(prediction))
        if prediction.window_end >= state.newest.window_end:
            state.newest = prediction
        state.windows += 1
        state.scored += prediction.score is not None
        state.flagged += prediction.is_alert
        self.predictions += 1
        # In accelerated or old data the wall clock says nothing about delay.
        latency = appended - prediction.window_end
        if 0 <= latency < 60_000:  # noqa: PLR2004  (a minute: beyond, it is not live)
            self.latencies.append(latency)

    def _alert(self, alert: Alert) -> None:
        self.alerts.append(alert)
        self.alerts = self.alerts[-1000:]
        if alert.state == "raised":
            self.raised.add(alert.alert_id)

    def summary(self) -> str:
        """The figures at the end, on two or three lines."""
        scored = sum(state.scored for state in self.machines.values())
        flagged = sum(state.flagged for state in self.machines.values())
        lines = [
            f"{len(self.machines)} machines, {self.predictions:,} windows: {scored:,} scored"
            f" ({flagged:,} anomalous), {self.predictions - scored:,} while commissioning",
            f"{len(self.raised)} alerts raised",
        ]
        if self.latencies:
            p50, p99 = (quantile(self.latencies, q) for q in (0.5, 0.99))
            lines.append(f"window end to prediction on Kafka: p50 {p50} ms, p99 {p99} ms")
        if self.unreadable:
            lines.append(f"{self.unreadable} records could not be read")
        return "\n".join(lines)


def quantile(values: list[int], q: float) -> int:
    """The smallest value that a share q of the values does not exceed."""
    return sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]


def verdict(prediction: Prediction) -> str:
    """A prediction in a few words."""
    if prediction.score is None:
        return _COMMISSIONING
    causes = ", ".join(f"{s.channel} {s.share:.0%}" for s in prediction.top_channels[:2])
    return f"ANOMALY ({causes})" if prediction.is_alert else "normal"


def alert_line(alert: Alert) -> str:
    """An alert on one line."""
    return (
        f"{cli.shown_time(alert.ts)} {alert.state:<7} {alert.machine_id} {alert.rule}"
        f" [{alert.severity}] {alert.message}"
    )


def table(board: Board) -> Group:
    """The live view: machines with an anomaly first, then the newest alerts."""
    view = Table(title=f"{board.predictions:,} windows of {len(board.machines)} machines")
    view.add_column("machine", no_wrap=True)
    view.add_column("window end", no_wrap=True)
    view.add_column("windows", justify="right")
    view.add_column("score / limit", justify="right")
    view.add_column("state")
    states = sorted(
        board.machines.values(), key=lambda s: (not s.newest.is_alert, s.newest.machine_id)
    )
    for state in states[:_ROWS]:
        newest = state.newest
        view.add_row(
            newest.machine_id,
            cli.shown_time(newest.window_end),
            f"{state.windows:,}",
            "" if newest.score is None else f"{newest.score:.3g} / {_figure(newest.threshold)}",
            verdict(newest),
            style="bold red" if newest.is_alert else None,
        )
    if len(states) > _ROWS:
        view.caption = f"and {len(states) - _ROWS} more machines"
    newest_alerts = [alert_line(alert) for alert in board.alerts[-_ALERTS:]]
    return Group(view, *newest_alerts)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def newest_line(board: Board) -> str:
    """Where the run stands, with the machine that scores worst now."""
    newest = max(state.newest.window_end for state in board.machines.values())
    text = (
        f"{cli.shown_time(newest)} {board.predictions:,} windows of {len(board.machines)} machines"
    )
    current = [state.newest for state in board.machines.values()]
    scored = [one for one in current if one.score is not None and one.threshold]
    if not scored:
        return f"{text}, {_COMMISSIONING}"
    worst = max(scored, key=lambda one: (one.score or 0.0) / (one.threshold or 1.0))
    return (
        f"{text}, worst {worst.machine_id}: score {_figure(worst.score)},"
        f" threshold {_figure(worst.threshold)}, {verdict(worst)}"
    )


class _View:
    """The board as rich draws it, anew at each refresh."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __rich__(self) -> Group:
        return table(self._board)


def _follow(board: Board, tail: Tail, options: argparse.Namespace) -> Iterator[Alert]:
    """Reads into the board until it is time to end; yields the alerts."""
    begin = time.monotonic()
    newest: float | None = None
    due, told = begin, 0
    while True:
        for message in tail.read(_POLL_S):
            found = board.add(message)
            if found is not None:
                newest = time.monotonic()
            if isinstance(found, Alert):
                yield found
        now = time.monotonic()
        if board.predictions > told and now >= due and not options.table:
            due, told = now + _LINE_EVERY_S, board.predictions
            print(newest_line(board), flush=True)
        if options.seconds is not None and now - begin >= options.seconds:
            return
        if options.until_idle is not None and newest and now - newest >= options.until_idle:
            return
        if options.expect is not None and board.predictions >= options.expect:
            return


def watch(options: argparse.Namespace) -> int:
    """Show what comes until it is time to end; 1 if fewer predictions came than expected."""
    board = Board()
    topics = [contracts.PREDICTIONS, contracts.ALERTS]
    with Tail(read_config(options.config), topics, options.since) as tail:
        try:
            if options.table:
                with Live(_View(board), refresh_per_second=4):
                    for _ in _follow(board, tail, options):
                        pass
            else:
                for alert in _follow(board, tail, options):
                    print(alert_line(alert), flush=True)
        except KeyboardInterrupt:
            pass
    print(board.summary())
    if options.expect is not None and board.predictions < options.expect:
        print(f"error: {options.expect:,} predictions were expected", file=sys.stderr)
        return 1
    return 0


def _since(text: str) -> int | str:
    return text if text in {"beginning", "end"} else cli.time_argument(text)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser("watch", __doc__)
    parser.add_argument(
        "--since", type=_since, default="end", metavar="TIME", help="beginning, end or a time"
    )
    parser.add_argument("--seconds", type=cli.positive, help="end after so long")
    parser.add_argument(
        "--until-idle",
        type=cli.positive,
        help="end when nothing came for so long, once something has",
    )
    parser.add_argument("--expect", type=int, help="end after so many predictions; 1 if fewer came")
    options = parser.parse_args(argv)
    options.table = sys.stdout.isatty()
    return cli.run(lambda: watch(options))


if __name__ == "__main__":
    sys.exit(main())
