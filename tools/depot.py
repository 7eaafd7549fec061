"""Fill the depot, the folder from which everything on the plant's hosts is installed.

    python tools/depot.py fill [--only NAME...] [--group GROUP...] [--refresh]
    python tools/depot.py verify | list | lock

`depot.yml` declares the artifacts, each with sources in order of preference. `fill` makes one file
per artifact in `depot/`, verified, and records it in `depot/manifest.json`, which the role
`artifact` reads:

    {"artifacts": {"kafka": {"version": "3.8.1", "file": …, "sha512": …, "source": …, …}, …}}

Work in progress lives in `depot/.tmp` and enters the depot by rename: whatever interrupts a fill,
the depot holds whole files only.

Exit codes: 0 done, perhaps without artifacts that are optional; 1 an artifact could not be had, or
is damaged; 2 depot.yml or the command line is wrong; 130, 143 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from depotlib.declaration import DeclarationError
from depotlib.store import Depot
from depotlib.work import DepotError, megabytes, reporter
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent

REMEDY = """\
What is complete stays, and the next fill goes on from there: `make depot`.
No network here? Fill the depot on a machine that has one, and copy its depot/ folder.
A wrong checksum that stays means a damaged or exchanged file: learn why before you change a pin."""


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.code = 128 + signum


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; its exit code."""
    options = parse(arguments)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _interrupt)
    try:
        depot = Depot(options.root)
        code: int = options.run(depot, options)
    except DeclarationError as error:
        print(error, file=sys.stderr)
        return 2
    except DepotError as error:
        print(error, file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        print("Interrupted; the next fill goes on from here.", file=sys.stderr, flush=True)
        # Not by return: that would wait for a thread that waits for a silent server.
        os._exit(interrupted.code)
    return code


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Options of the command line; `run` is the command."""
    parser = argparse.ArgumentParser(
        description="Fill and check the depot, from which the plant's hosts are installed."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    fill = commands.add_parser("fill", help="bring what is not there: all, or what is named")
    fill.set_defaults(run=_fill)
    fill.add_argument(
        "--refresh", action="store_true", help="bring it anew, also if it is there (updates)"
    )
    lock = commands.add_parser("lock", help="pin the jars that Maven resolves now in depot.lock")
    lock.set_defaults(run=_lock)
    for command in (fill, lock):
        command.add_argument("--only", nargs="+", default=[], metavar="NAME", help="artifacts")
        command.add_argument("--group", nargs="+", default=[], metavar="GROUP", help="all of it")
    verify = commands.add_parser("verify", help="hash every file of the depot")
    verify.set_defaults(run=_verify)
    show = commands.add_parser("list", help="show what is declared and what is there")
    show.set_defaults(run=_list)
    for command in (fill, lock, verify, show):
        command.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _interrupt(signum: int, _frame: object) -> None:
    raise Interrupted(signum)


def _fill(depot: Depot, options: argparse.Namespace) -> int:
    artifacts = depot.select(options.only, options.group)
    with reporter() as news:
        outcome = depot.fill(artifacts, news, refresh=options.refresh, needed=options.only)
    if not outcome.failed:
        return 0
    print("", *outcome.failed.values(), "", REMEDY, sep="\n", file=sys.stderr)
    return 1


def _lock(depot: Depot, options: argparse.Namespace) -> int:
    with reporter() as news:
        depot.relock(depot.select(options.only, options.group), news)
    return 0


def _verify(depot: Depot, _options: argparse.Namespace) -> int:
    troubles = depot.verify()
    for name, trouble in troubles.items():
        print(f"{name}: {trouble or 'ok'}")
    damaged = [name for name, trouble in troubles.items() if trouble]
    if not damaged:
        return 0
    again = f"python tools/depot.py fill --refresh --only {' '.join(damaged)}"
    print(f"To bring it anew: {again}", file=sys.stderr)
    return 1


def _list(depot: Depot, _options: argparse.Namespace) -> int:
    table = Table("artifact", "version", "group", "licence", "in the depot", box=None)
    for artifact in depot.artifacts.values():
        there = "no"
        if depot.present(artifact):
            entry = depot.entries[artifact.name]
            there = f"{megabytes(entry['size'])} from {entry['source']}"
        table.add_row(artifact.name, artifact.version, artifact.group, artifact.licence, there)
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
