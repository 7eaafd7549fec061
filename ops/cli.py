"""The command line of ops: which plant, and which of the three looks."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ops import collect, probe, status
from ops.fleet import connected
from ops.plant import Plant, PlantError

# Something is wrong with the plant, as opposed to 1: the question could not be asked.
EXIT_WRONG = 3


def main(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    arguments = parse_arguments(argv)
    begin = time.monotonic()
    try:
        plant = Plant(arguments.inventory)
        with connected(plant) as fleet:
            match arguments.command:
                case "status":
                    view = status.look(plant, fleet)
                    print(status.screen(view, datetime.now(), time.monotonic() - begin))
                    return EXIT_WRONG if status.problems(view) else 0
                case "collect":
                    print(collect.collect(plant, fleet, arguments.out, datetime.now()))
                    return 0
                case _:
                    results = probe.measure(plant, fleet, arguments.port)
                    print(probe.report(results))
                    return EXIT_WRONG if probe.bad(results) else 0
    except PlantError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # `| head` has seen enough; Python would complain once more when it closes the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ops",
        description="Quick looks at a plant. Nothing on the hosts is changed.",
        epilog="exit code: 0 well, 1 the question could not be asked, 3 something is wrong",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, about in (
        ("status", "one screen: is the plant well?"),
        ("collect", "logs, settings and states of all hosts in one archive, without secrets"),
        ("probe", "disks, and network and clocks between all pairs of hosts"),
    ):
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument(
            "--inventory", type=Path, default=Path("inventories/demo"), metavar="FOLDER"
        )
    commands.choices["collect"].add_argument(
        "--out", type=Path, default=Path("out"), metavar="FOLDER", help="where the archive goes"
    )
    commands.choices["probe"].add_argument(
        "--port", type=int, default=probe.PORT, help="free port on the hosts, for the test itself"
    )
    return parser.parse_args(argv)
