"""The anomaly job without Python: its own stream and SQL, with constants for what Python says.

    flink run --python plain_sql.py --config JOB.config.json --output TOPIC

Every machine's reference is one byte, and every window's score the same, so this is the speed that
Python is measured against. Consumer group, login and transactional ids are the job's own, since the
two never run at the same time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flink_jobs.jobs import anomaly_sql

TOPIC = "'topic' = 'predictions'"
SCORE = "score(machine_reference, packed) AS s"
REFERENCES = "SELECT machine_id, X'00' FROM first_readings"


def statements(config: Mapping[str, Any], output: str) -> tuple[list[str], list[str]]:
    """Definitions, and inserts; ValueError where the job's SQL is not as above."""
    definitions, inserts = anomaly_sql.statements(config, "none", "none", 1.0)
    said = {TOPIC: f"'topic' = '{output}'", SCORE: "packed AS s"}
    for column in anomaly_sql.score_columns(config):
        value = "1" if "cause" in column else "CAST(0.5 AS DOUBLE)"
        said[f"s.{column} AS"] = f"{value} AS"
    for part, instead in said.items():
        if sum(part in text for text in definitions) != 1:
            raise ValueError(f"the job's SQL has not {part} in one definition")
        definitions = [text.replace(part, instead) for text in definitions]
    return definitions, inserts


def run(config: Mapping[str, Any], output: str) -> None:
    """As flink_jobs.jobs.anomaly does it."""
    from flink_jobs.jobs import anomaly  # noqa: PLC0415 - pyflink is on the plant's hosts only

    environment, stream = anomaly.begin(config)
    definitions, inserts = statements(config, output)
    stream.commission(REFERENCES)
    for statement in definitions:
        environment.execute_sql(statement)
    stream.follow("SELECT * FROM scored")
    together = environment.create_statement_set()
    for statement in inserts:
        together.add_insert_sql(statement)
    together.execute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the job's configuration, JSON")
    parser.add_argument("--output", required=True, help="topic of the predictions")
    arguments = parser.parse_args()
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    run(config, arguments.output)


if __name__ == "__main__":
    main()
