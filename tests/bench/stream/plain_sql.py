"""The anomaly job's SQL as far as it goes without Python: decoder, dead letters, packed windows.

    flink run --python plain_sql.py --config JOB.config.json --output TOPIC

Each window becomes a prediction without a score, so this is the speed that Python is measured
against. The statements are the job's own; so are consumer group, login and transactional ids, since
the two never run at the same time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyflink.table import EnvironmentSettings, StatementSet, TableEnvironment

from flink_jobs.jobs import anomaly_sql

LAST = "CREATE TEMPORARY VIEW windows AS"
KEPT = "INSERT INTO dlq"
TOPIC = "'topic' = 'predictions'"

INSERT = """
INSERT INTO predictions
SELECT
  machine_id,
  '{machine_type}',
  1000 * (EXTRACT(EPOCH FROM window_time) + 1) - {window_ms},
  1000 * (EXTRACT(EPOCH FROM window_time) + 1),
  'anomaly',
  'none',
  'none',
  0,
  CAST(NULL AS DOUBLE),
  CAST(NULL AS DOUBLE),
  FALSE,
  CAST(NULL AS DOUBLE),
  CAST(NULL AS STRING),
  CAST(NULL AS INT),
  n,
  ARRAY_SLICE(ARRAY[ROW(CAST(NULL AS STRING), CAST(NULL AS DOUBLE))], 2, 1)
FROM windows
"""


def statements(config: Mapping[str, Any], output: str) -> list[str]:
    """Tables and views first, then the inserts; ValueError where the job's SQL is not as above."""
    whole = anomaly_sql.statements(config, "none", "none")
    last = [place for place, text in enumerate(whole) if text.startswith(LAST)]
    inserts = [text for text in whole if text.startswith(KEPT)]
    if len(last) != 1 or len(inserts) != 1:
        raise ValueError(
            f"the job's SQL has {len(last)} times {LAST!r}, {len(inserts)} times {KEPT!r}"
        )
    tables = [text for text in whole[: last[0] + 1] if not text.startswith("INSERT")]
    if sum(TOPIC in text for text in tables) != 1:
        raise ValueError(f"the job's SQL has not one table with {TOPIC}")
    insert = INSERT.format(machine_type=config["machine_type"], window_ms=1000 * config["window_s"])
    tables = [text.replace(TOPIC, f"'topic' = '{output}'") for text in tables]
    return [*tables, insert.strip(), *inserts]


def assemble(config: Mapping[str, Any], output: str) -> StatementSet:
    """As flink_jobs.jobs.anomaly does it."""
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for key, value in {
        "table.local-time-zone": "UTC",
        "table.exec.source.idle-timeout": "0 ms",
        "table.optimizer.agg-phase-strategy": "TWO_PHASE",
    }.items():
        environment.get_config().set(key, value)
    inserts = environment.create_statement_set()
    for statement in statements(config, output):
        if statement.startswith("INSERT"):
            inserts.add_insert_sql(statement)
        else:
            environment.execute_sql(statement)
    return inserts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the job's configuration, JSON")
    parser.add_argument("--output", required=True, help="topic of the predictions")
    arguments = parser.parse_args()
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    assemble(config, arguments.output).execute()


if __name__ == "__main__":
    main()
