"""The job `anomaly` of one machine type: where Flink is assembled.

    flink run -d -py anomaly.py --config /etc/plantline/jobs/plantline-anomaly-pump.config.json

Who starts it says with `--fresh` that there is no state (flink_jobs/deploy.py). The job then reads
its topic from the beginning, and emits what it never has (flink_jobs/resume.py).

The path is SQL (anomaly.sql.j2) with a few functions in Java (flink_java); Python sees whole
windows in Arrow batches, and the first readings of a machine once, when it is commissioned.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from pyflink.table import DataTypes, EnvironmentSettings, StatementSet, TableEnvironment
from pyflink.table.udf import udf

from flink_jobs import resume
from flink_jobs.cleaning import Rules
from flink_jobs.jobs import anomaly_sql
from flink_jobs.jobs.anomaly_udfs import Reference, Score, is_number
from flink_jobs.model import Detector


def assemble(config: Mapping[str, Any], emitted: anomaly_sql.Emitted | None = None) -> StatementSet:
    """The job's statements in a table environment of their own."""
    environment = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    options = {
        "pipeline.name": config["job_name"],
        # Window bounds are computed in session time; everything of ours is UTC.
        "table.local-time-zone": "UTC",
        # Idle partitions are kept moving in the log itself (flink_jobs.clock): to leave one out
        # while it is read would make its backlog late.
        "table.exec.source.idle-timeout": "0 ms",
        # Readings are packed before they cross the network; the order of arrival does not matter.
        "table.optimizer.agg-phase-strategy": "TWO_PHASE",
    }
    for key, value in options.items():
        environment.get_config().set(key, value)

    model_file = Path(config["model_file"])
    detector = Detector.load(model_file)
    channels = anomaly_sql.channel_names(config)
    if list(detector.channels) != channels:
        raise SystemExit(
            f"{model_file}: the model knows the channels {list(detector.channels)}, machine type "
            f"{config['machine_type']!r} has {channels}; train it again"
        )
    rules = [Rules.of(channel) for channel in config["channels"]]
    columns = anomaly_sql.score_columns(config)
    environment.create_temporary_function(
        "reference",
        udf(
            Reference(
                rules, config["commissioning_readings"], config["window_s"], config["slide_s"]
            ),
            result_type=DataTypes.ARRAY(DataTypes.DOUBLE()),
        ),
    )
    environment.create_temporary_function(
        "score",
        udf(
            Score(model_file.read_bytes(), rules, columns, config["machines_file"]),
            result_type=DataTypes.ROW(
                [
                    DataTypes.FIELD(
                        column,
                        DataTypes.DOUBLE() if is_number(column) else DataTypes.STRING(),
                    )
                    for column in columns
                ]
            ),
            func_type="pandas",
        ),
    )
    inserts = environment.create_statement_set()
    for statement in anomaly_sql.statements(config, detector.name, detector.version, emitted):
        if statement.startswith("INSERT"):
            inserts.add_insert_sql(statement)
        else:
            environment.execute_sql(statement)
    return inserts


def look_back(config: Mapping[str, Any], file: Path) -> None:
    """Keep what the job has emitted in the file, and say it; or end the program, and say why."""
    try:
        found = resume.find(config, time.time_ns() // 1_000_000)
    except (resume.ResumeError, KafkaException, OSError) as error:
        raise SystemExit(f"what was emitted before is not known: {error}") from error
    resume.save(file, found.emitted)
    print(f"plantline: {found}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the job's configuration, JSON")
    parser.add_argument(
        "--emitted", type=Path, help="file that keeps what was emitted before the state was lost"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="there is no state: ask Kafka, and write that file"
    )
    parser.add_argument("--explain", action="store_true", help="print the plan, run nothing")
    arguments = parser.parse_args()
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    emitted = None
    if arguments.emitted:
        if arguments.fresh:
            look_back(config, arguments.emitted)
        emitted = resume.load(arguments.emitted)
    statements = assemble(config, emitted)
    if arguments.explain:
        print(statements.explain())
    else:
        statements.execute()


if __name__ == "__main__":
    main()
