"""What the commands share: their common options, one line per error, one line of progress."""

from __future__ import annotations

import argparse
import datetime as dt
import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from flink_jobs.plant import PlantError
from flink_jobs.tools.datasets import DatasetError, parse_time
from flink_jobs.tools.kafka import ToolError

DEFAULT_CONFIG = Path("out/client.conf")
DEFAULT_PLANT = Path("inventories/demo/group_vars/all/plant.yml")

_REFRESH_TTY_S = 0.2
_REFRESH_PLAIN_S = 10.0


def parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """A parser with --config and --plant, named as the user calls it."""
    result = argparse.ArgumentParser(
        prog=f"python -m flink_jobs.tools.{command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--config", type=Path, default=DEFAULT_CONFIG, help="client file (default %(default)s)"
    )
    result.add_argument(
        "--plant", type=Path, default=DEFAULT_PLANT, help="plant model (default %(default)s)"
    )
    return result


def run(command: Callable[[], int]) -> int:
    """The exit code of a command; what the user can mend is one line, not a traceback."""
    # A supervisor's TERM ends a run as Ctrl-C does: what is queued is still delivered.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return command()
    except (ToolError, DatasetError, PlantError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def time_argument(text: str) -> int:
    """An ISO time or epoch number as epoch milliseconds, for argparse."""
    try:
        return parse_time(text)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time") from error


def positive(text: str) -> float:
    """A number above zero, for argparse."""
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number


def shown_time(ts: int) -> str:
    """Epoch milliseconds as ISO text in UTC, to the second."""
    return dt.datetime.fromtimestamp(ts / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Progress:
    """One line that is rewritten on a terminal and repeated now and then elsewhere."""

    def __init__(self, what: str, total: int | None = None, *, quiet: bool = False) -> None:
        self._what = what
        self._total = total
        self._begin = time.monotonic()
        self._tty = sys.stderr.isatty()
        self._every = _REFRESH_TTY_S if self._tty else _REFRESH_PLAIN_S
        self._next = math.inf if quiet else self._begin + self._every

    def show(self, done: int, note: str = "", *, last: bool = False) -> None:
        """Show the count where it is time to; always when `last`."""
        now = time.monotonic()
        if now < self._next and not (last and self._next < math.inf):
            return
        self._next = now + self._every
        rate = done / max(now - self._begin, 1e-9)
        of = f" of {self._total:,}" if self._total else ""
        text = f"{self._what}: {done:,}{of}, {rate:,.0f}/s{', ' if note else ''}{note}"
        if self._tty:
            print(f"\r\x1b[K{text}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
