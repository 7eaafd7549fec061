"""Tell topic `machines` what the plant model declares; what it says already is not said again.

    python -m flink_jobs.registry --machines machines.json --kafka kafka.json [--check]

The files hold a list of registrations and librdkafka's settings. Prints {"registered": [machine
ids]} as JSON; with --check only what it would do.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from flink_jobs import contracts
from flink_jobs.tools.kafka import Config, Publisher, ToolError, read_all


def unregistered(config: Config, machines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The registrations that topic `machines` does not hold.

    A machine that the topic knows only since later than its `valid_from` here is one of them.
    Raises ToolError where the topic cannot be read.
    """
    known: dict[str, dict[str, Any]] = {}
    for message in read_all(config, contracts.MACHINES):
        record = orjson.loads(message.value() or b"{}")
        known[record["machine_id"]] = record
    return [machine for machine in machines if not _says(known.get(machine["machine_id"]), machine)]


def register(config: Config, publisher: Publisher, machines: Iterable[dict[str, Any]]) -> None:
    """Queue the registrations that topic `machines` does not hold. Raises ToolError as above."""
    for machine in unregistered(config, machines):
        key = machine["machine_id"].encode()
        publisher.send(contracts.MACHINES, key, orjson.dumps(machine))


def _says(record: dict[str, Any] | None, machine: dict[str, Any]) -> bool:
    if record is None or record["valid_from"] > machine["valid_from"]:
        return False
    return record | {"valid_from": machine["valid_from"]} == machine


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--machines", type=Path, required=True, help="JSON list of registrations")
    parser.add_argument("--kafka", type=Path, required=True, help="JSON object of client settings")
    parser.add_argument("--check", action="store_true", help="only tell what is missing")
    options = parser.parse_args()
    config = json.loads(options.kafka.read_text("utf-8"))
    machines = json.loads(options.machines.read_text("utf-8"))
    try:
        missing = unregistered(config, machines)
        if missing and not options.check:
            with Publisher(config) as publisher:
                register(config, publisher, missing)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"registered": [machine["machine_id"] for machine in missing]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
