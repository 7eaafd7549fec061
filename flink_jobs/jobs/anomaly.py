"""The job `anomaly` of one machine type: where Flink is assembled.

    flink run -d -py anomaly.py --config /etc/plantline/jobs/plantline-anomaly-pump.config.json

Who starts it says with `--fresh` that there is no state (flink_jobs/deploy.py). The job then reads
its topic from the beginning, and emits what it never has (flink_jobs/resume.py).

Readings become windows in Java (flink_java/plantline/Stream.java), the rest of the path is SQL
(anomaly.sql.j2). Python sees Arrow batches: of whole windows, and of the first readings of
machines, once when they are commissioned.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.table import DataTypes, EnvironmentSettings, StatementSet, StreamTableEnvironment
from pyflink.table.udf import udf

from flink_jobs import resume
from flink_jobs.cleaning import Rules
from flink_jobs.jobs import anomaly_sql
from flink_jobs.jobs.anomaly_udfs import Reference, Score
from flink_jobs.model import Detector


def begin(
    config: Mapping[str, Any], emitted: anomaly_sql.Emitted | None = None
) -> tuple[StreamTableEnvironment, Any]:
    """A table environment with the views of the job's stream, and that stream, a Java object."""
    streams = StreamExecutionEnvironment.get_execution_environment()
    # Rows are handed on as they are: who keeps one gets it from the network, and for itself.
    streams.get_config().enable_object_reuse()
    tables = StreamTableEnvironment.create(streams, EnvironmentSettings.in_streaming_mode())
    tables.get_config().set("pipeline.name", config["job_name"])
    # What is shown of times is UTC.
    tables.get_config().set("table.local-time-zone", "UTC")
    stream = get_gateway().jvm.plantline.Stream(
        streams._j_stream_execution_environment,
        tables._j_tenv,
        anomaly_sql.stream_settings(config, emitted),
    )
    return tables, stream


def assemble(config: Mapping[str, Any], emitted: anomaly_sql.Emitted | None = None) -> StatementSet:
    """The job's statements in a table environment of their own."""
    environment, stream = begin(config, emitted)
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
            result_type=DataTypes.BYTES(),
            func_type="pandas",
        ),
    )
    environment.create_temporary_function(
        "score",
        udf(
            Score(model_file.read_bytes(), rules, columns),
            result_type=DataTypes.ROW(
                [
                    DataTypes.FIELD(
                        column, DataTypes.INT() if "cause" in column else DataTypes.DOUBLE()
                    )
                    for column in columns
                ]
            ),
            func_type="pandas",
        ),
    )
    stream.commission(anomaly_sql.references_query())
    definitions, inserts = anomaly_sql.statements(
        config, detector.name, detector.version, detector.threshold, emitted
    )
    for statement in definitions:
        environment.execute_sql(statement)
    stream.follow("SELECT * FROM scored")
    together = environment.create_statement_set()
    for statement in inserts:
        together.add_insert_sql(statement)
    return together


def look_back(config: Mapping[str, Any], file: Path) -> None:
    """Keep what the job has emitted in the file, and say it; or end the program, and say why."""

    def tell(text: str) -> None:
        print(f"plantline: {text}")

    try:
        emitted = resume.find(config, time.time_ns() // 1_000_000, tell)
    except (resume.ResumeError, KafkaException, OSError) as error:
        raise SystemExit(f"what was emitted before is not known: {error}") from error
    resume.save(file, emitted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the job's configuration, JSON")
    parser.add_argument(
        "--emitted", type=Path, help="file that keeps what was emitted before the state was lost"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="there is no state: ask Kafka, and write that file"
    )
    arguments = parser.parse_args()
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    emitted = None
    if arguments.emitted:
        if arguments.fresh:
            look_back(config, arguments.emitted)
        emitted = resume.load(arguments.emitted)
    assemble(config, emitted).execute()


if __name__ == "__main__":
    main()
