"""The anomaly job as far as it goes without Python: decoder, dead letters, packed windows.

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

from flink_jobs.jobs import anomaly_sql

KEPT = "INSERT INTO dlq"
TOPIC = "'topic' = 'predictions'"

INSERT = """
INSERT INTO predictions
SELECT
  machine_id,
  '{machine_type}',
  window_end - {window_ms},
  window_end,
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


def statements(config: Mapping[str, Any], output: str) -> tuple[list[str], list[str]]:
    """Tables, and inserts; ValueError where the job's SQL is not as above."""
    definitions, inserts = anomaly_sql.statements(config, "none", "none", 0.0)
    tables = [text for text in definitions if text.startswith("CREATE TEMPORARY TABLE")]
    inserts = [text for text in inserts if text.startswith(KEPT)]
    if len(inserts) != 1 or sum(TOPIC in text for text in tables) != 1:
        raise ValueError(f"the job's SQL has not one {KEPT!r}, and one table with {TOPIC}")
    insert = INSERT.format(machine_type=config["machine_type"], window_ms=1000 * config["window_s"])
    tables = [text.replace(TOPIC, f"'topic' = '{output}'") for text in tables]
    return tables, [insert.strip(), *inserts]


def run(config: Mapping[str, Any], output: str) -> None:
    """As flink_jobs.jobs.anomaly does it."""
    from flink_jobs.jobs import anomaly  # noqa: PLC0415 - pyflink is on the plant's hosts only

    environment, _ = anomaly.begin(config)
    tables, inserts = statements(config, output)
    for statement in tables:
        environment.execute_sql(statement)
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
