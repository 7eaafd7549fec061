"""The stream's benchmark: what is sent, the yardstick's own work, and how results are judged."""

import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from flink_jobs import commissioning, contracts, plant, scoring, windows
from flink_jobs.cleaning import Rules
from flink_jobs.commissioning import FIELDS
from flink_jobs.features import Features, feature_names
from flink_jobs.jobs import anomaly_sql
from flink_jobs.model import Scores
from flink_jobs.tools.kafka import Publisher, partition_of, read_all
from tests.bench.stream import loop, plain_sql, report, results, usage, workload
from tests.bench.stream.contestants import PROGRAMS
from tests.bench.stream.decoders import Decoding
from tests.bench.stream.runs import LEAST_WINDOWS, Lane, Size, Throughput
from tests.bench.stream.workload import CHANNELS, START_MS, WINDOW_S, Workload

VALID = dict.fromkeys(CHANNELS, (0.0, 100.0))
KIND = plant.MachineType(
    workload.MACHINE_TYPE,
    channels=tuple(plant.Channel(name, "1", 0.0, 100.0) for name in CHANNELS),
    window_s=WINDOW_S,
    slide_s=WINDOW_S,
    commissioning_readings=workload.COMMISSIONING_READINGS,
    partitions=workload.PARTITIONS,
)
JOB = plant.job_config(
    plant.Plant("bench", "accept", {KIND.name: KIND}, (), heartbeat=False), KIND.name
)
NOW_MS = START_MS + 86_400_000


class Model:
    """Any model would do: a score is how far the means are from the reference, in scales."""

    name, version, threshold = "bench-anomaly", "1", 3.0
    channels = CHANNELS
    features = Features(feature_names(CHANNELS), CHANNELS, KIND.name)

    def score(self, features, references):
        mean, location, scale = (
            np.split(features, 3, axis=1)[0],
            np.split(references, len(FIELDS), axis=1)[0],
            np.split(references, len(FIELDS), axis=1)[1],
        )
        away = np.abs(mean - location) / scale
        return Scores(away.max(axis=1), away / away.sum(axis=1, keepdims=True))


def records(machines, seconds):
    """(partition, value) of a workload, in the order in which they are sent."""
    readings = workload.Readings(machines, workload.PARTITIONS)
    for second in range(seconds):
        ts = np.full(machines, START_MS + 1000 * second)
        yield from zip(readings.partitions, readings.at(slice(None), ts, second), strict=True)


def clock(ts):
    reading = contracts.Reading(contracts.CLOCK, ts, {})
    return [(p, contracts.encode_reading(reading)) for p in range(workload.PARTITIONS)]


def scored(stream, batch):
    """Refusals of a batch, and {(machine, window end): (readings, score)} that is due then."""
    partitions = np.array([partition for partition, _ in batch])
    refused = stream.add([value for _, value in batch], partitions, NOW_MS)
    found = {}
    for one in stream.due():
        rows = zip(one.machines.tolist(), one.readings.tolist(), one.score.tolist(), strict=True)
        for machine, readings, score in rows:
            found[stream.names[machine], one.end] = (readings, score)
    return refused, found


def expected(values):
    """The same windows by the functions that the job calls."""
    machines = {}
    for value in values:
        reading = contracts.parse_reading(value, CHANNELS, VALID)
        machines.setdefault(reading.machine_id, []).append(
            (reading.ts, [reading.values[name] for name in CHANNELS])
        )
    found = {}
    for machine_id, rows in machines.items():
        ts = np.array([ts for ts, _ in rows])
        table = np.array([row for _, row in rows], dtype=np.float64)
        kept_ts, kept = windows.distinct(ts, table)
        first = kept_ts < kept_ts[0] + 20_000
        packed = [windows.pack(kept_ts[first], kept[first])]
        (normal,) = scoring.machine_references(packed, [Rules()] * 4, 20, 10, 10)
        ends, cut = windows.cut(kept_ts, kept, 10, 10, partial=True)
        parts = [windows.pack(cut.ts[rows], cut.values[rows]) for rows in slices(cut)]
        normal = commissioning.pack(normal)
        references = [None if end < START_MS + 20_000 else normal for end in ends]
        scores = scoring.score_windows(Model(), [Rules()] * 4, references, parts, 3)
        for end, n, score in zip(ends, cut.rows, scores.columns["score"], strict=True):
            found[machine_id, int(end)] = (int(n), score)
    return found


def slices(cut):
    return [slice(a, a + n) for a, n in zip(cut.starts, cut.rows, strict=True)]


def same(one, other):
    assert one.keys() == other.keys()
    for window, (readings, score) in one.items():
        assert other[window][0] == readings
        np.testing.assert_allclose(other[window][1], score, rtol=1e-9, err_msg=str(window))


@pytest.fixture
def stream():
    return loop.Stream(JOB, Model(), range(workload.PARTITIONS))


# What is sent


def test_records_are_readings_of_about_130_bytes_on_the_partitions_of_their_machines():
    readings = workload.Readings(2_000, workload.PARTITIONS)
    ts = START_MS + np.arange(2_000)
    values = readings.at(slice(0, 2_000), ts, 7)
    for number, value in enumerate(values):
        assert 120 <= len(value) <= 140
        reading = contracts.parse_reading(value, CHANNELS, VALID)
        assert reading.machine_id.encode() == readings.keys[number]
        assert reading.ts == ts[number]
        assert reading.unknown_fields == 0
        assert max(reading.values.values()) < workload.LIMIT
        assert readings.partitions[number] == partition_of(readings.keys[number], 4)
    again = workload.Readings(2_000, workload.PARTITIONS).at(slice(0, 2_000), ts, 7)
    assert values == again
    assert values != readings.at(slice(0, 2_000), ts, 7)


def test_only_the_chosen_readings_are_above_the_limit():
    readings = workload.Readings(50, workload.PARTITIONS)
    values = readings.at(slice(10, 30), np.full(20, START_MS), 0, np.array([3, 5]))
    found = [contracts.parse_reading(value, CHANNELS, VALID) for value in values]
    above = [one.machine_id for one in found if one.values["pressure"] > workload.LIMIT]
    assert above == ["bench-0000013", "bench-0000015"]


def test_machines_that_cross_the_limit_stay_above_it_for_a_window(mock_kafka, monkeypatch):
    monkeypatch.setattr(workload, "WINDOW_S", 0.3)  # three readings of a machine
    config = {"bootstrap.servers": mock_kafka}
    with Publisher(config) as publisher:  # makes the topic
        publisher.send("telemetry.bench", b"_clock", clock(START_MS)[0][1], 0)
    sent = workload.pace(config, KIND, 1_000, 10_000, 1, lambda: None)
    readings = [
        contracts.parse_reading(message.value(), CHANNELS)
        for message in read_all(config, "telemetry.bench")
        if message.key() != contracts.CLOCK.encode()
    ]
    assert len(readings) == 10_000
    machines = {}
    for one in readings:
        is_above = one.values["pressure"] > workload.LIMIT
        machines.setdefault(one.machine_id, []).append((one.ts, is_above))
    stays = []
    for machine, rows in machines.items():
        for is_above, group in itertools.groupby(rows, lambda row: row[1]):
            if is_above:
                first, *others = (ts for ts, _ in group)
                assert (machine, first) in sent.crossings
                stays.append(1 + len(others))
    assert len(stays) == len(sent.crossings) == 25
    # The last ones are cut off.
    assert set(stays) == {1, 2, 3}
    assert stays.count(3) >= 19


def test_a_workload_has_whole_windows_and_enough_of_them():
    assert Workload.of(20_000_000, 10_000, LEAST_WINDOWS) == Workload(10_000, 2_000)
    assert Workload.of(20_000_000, 1_000_000, LEAST_WINDOWS).slices == LEAST_WINDOWS


# The loop


def test_the_loop_computes_what_the_job_does(stream):
    sent = list(records(30, 60))
    found = {}
    for begin in range(0, len(sent), 400):
        refused, windows_due = scored(stream, sent[begin : begin + 400])
        assert refused == []
        found |= windows_due
    found |= scored(stream, clock(START_MS + 76_000))[1]
    wanted = expected(value for _, value in sent)
    assert len(wanted) == 30 * 6
    same(wanted, found)
    assert any(np.isfinite(score) for _, score in found.values())


def test_the_order_within_the_allowed_disorder_and_duplicates_do_not_matter(stream):
    # Values of a duplicate are the same, as those of a record that was sent twice.
    sent = list(records(10, 40))
    shuffled = sent + random.Random(1).sample(sent, 50)  # noqa: S311  (no secret)
    place = {id(one): index for index, one in enumerate(sent)}
    random.Random(2).shuffle(shuffled)  # noqa: S311
    shuffled.sort(key=lambda one: place[id(one)] // 40)  # within four seconds
    found = {}
    for begin in range(0, len(shuffled), 64):
        refused, windows_due = scored(stream, shuffled[begin : begin + 64])
        assert refused == []
        found |= windows_due
    found |= scored(stream, clock(START_MS + 60_000))[1]
    same(expected(value for _, value in sent), found)


def test_what_is_no_good_reading_is_refused_with_the_reason_of_the_contract(stream):
    good = [value for _, value in records(4, 1)]
    ahead = good[0].replace(b"1704067200000", b"%d" % (NOW_MS + 400_000))
    bad = {
        b"": "not_json",
        b"[]": "not_an_object",
        good[0].replace(b'"bench-0000000"', b"7"): "bad_machine_id",
        good[0].replace(b'"ts":1', b'"ts":true,"x":1'): "bad_ts",
        good[0].replace(b'"seq":1', b'"seq":0.1'): "bad_seq",
        good[0].replace(b'"pressure":', b'"pressure":true,"x":'): "bad_value",
        good[0].replace(b'"pressure":', b'"pressure":1'): "out_of_range",
        ahead: "clock_ahead",
    }
    assert len(bad) == 8
    batch = [(0, value) for pair in zip(bad, good * 2, strict=True) for value in pair]
    refused, _ = scored(stream, batch)
    assert {batch[one.place][1]: one.reason for one in refused} == bad
    scored(stream, clock(START_MS + 20_000))
    refused, _ = scored(stream, [(0, good[0]), (0, b"{}"), (1, good[1])])
    assert [(one.place, one.reason) for one in refused] == [
        (1, "bad_machine_id"),
        (0, "late"),
        (2, "late"),
    ]


def test_a_missing_value_is_missing_and_not_refused(stream):
    sent = [
        (p, value.replace(b'"current":', b'"current":null,"x":') if n % 7 == 0 else value)
        for n, (p, value) in enumerate(records(5, 30))
    ]
    found = {}
    for begin in range(0, len(sent), 25):
        refused, windows_due = scored(stream, sent[begin : begin + 25])
        assert refused == []
        found |= windows_due
    found |= scored(stream, clock(START_MS + 46_000))[1]
    same(expected(value for _, value in sent), found)


def test_predictions_are_those_of_the_contract(stream):
    values = list(records(3, 30))
    stream.add([v for _, v in values], np.array([p for p, _ in values]), NOW_MS)
    stream.add([v for _, v in clock(START_MS + 46_000)], np.arange(4), NOW_MS)
    found = [
        contracts.parse_prediction(value)
        for one in stream.due()
        for _, value in loop.predictions(one, stream.names, JOB, Model())
    ]
    assert len(found) == 9
    assert {one.window_end - one.window_start for one in found} == {10_000}
    assert {one.readings for one in found} == {10}
    for one in found:
        assert (one.score is None) == (one.window_end == START_MS + 10_000)
        assert len(one.top_channels) == (0 if one.score is None else 3)
        assert one.is_alert == (one.score is not None and one.score > 3)


def settings_for(kafka, tmp_path, transactional):
    file = tmp_path / "settings.json"
    file.write_text(
        json.dumps(
            {
                "kafka": {"bootstrap.servers": kafka},
                "job": JOB,
                "model_file": "",
                "group": "loop",
                "output": "bench.loop",
                "refused": "bench.refused",
                "commit_s": 0.2,
                "partitions": list(range(workload.PARTITIONS)),
                "transactional_id": "loop" if transactional else None,
            }
        )
    )
    return json.loads(file.read_text())


@pytest.mark.parametrize("transactional", [False, True])
def test_the_loop_reads_and_writes_kafka_and_its_results_stand_the_check(
    mock_kafka, tmp_path, monkeypatch, transactional
):
    monkeypatch.setattr(loop.Detector, "load", lambda _path: Model())
    config = {"bootstrap.servers": mock_kafka}
    # Times are nothing that the mock could look records up by.
    monkeypatch.setattr(results, "read_all", lambda config, topic, _: read_all(config, topic))
    with Publisher(config) as publisher:  # makes the topic
        publisher.send("telemetry.bench", b"_clock", clock(START_MS)[0][1], 0)
    work = Workload(40, 100)
    workload.fill(config, KIND, work)
    one = loop.Loop(settings_for(mock_kafka, tmp_path, transactional))
    deadline = time.monotonic() + 30
    written = [0]
    produce = one._produce

    def counted(topic, *arguments, **options):
        written[0] += topic == "bench.loop"
        produce(topic, *arguments, **options)

    monkeypatch.setattr(one, "_produce", counted)
    one.run(lambda: written[0] >= 400 or time.monotonic() > deadline)
    found = results.read(config, "bench.loop", 0, work)
    results.check(found, work, is_whole=True)
    assert found.complete == 10
    assert results.compare(found, found) == 0
    passed = results.passed(config, "telemetry.bench", 0, 5000)
    assert set(passed) == {START_MS + 10_000 * k for k in range(12)}  # `_clock` passes the last two


# Judging results


def made(machines=3, slices=10):
    """Results without a fault, a slice per second."""
    shape = (machines, slices)
    score = np.arange(machines * slices, dtype=np.float64).reshape(shape) + 1
    score[:, 0] = np.nan
    return results.Results(
        seen=np.ones(shape, np.int16),
        readings=np.full(shape, WINDOW_S, np.int32),
        score=score,
        appended=1000 * np.arange(1, slices + 1),
        first=500,
        strangers=0,
    )


WORK = Workload(3, 100)


def test_right_results_pass():
    results.check(made(), WORK, is_whole=True)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda r: r.seen.__setitem__((1, 4), 0), "1 of 30 windows missing"),
        (lambda r: r.seen.__setitem__((1, 4), 2), "1 windows twice"),
        (lambda r: r.readings.__setitem__((2, 2), 9), "299 readings in the windows, and not 300"),
    ],
)
def test_a_window_that_is_missing_doubled_or_short_is_an_error(fault, message):
    found = made()
    fault(found)
    with pytest.raises(results.WrongError, match=message):
        results.check(found, WORK, is_whole=True)


def test_predictions_of_somebody_else_are_an_error():
    with pytest.raises(results.WrongError, match="2 predictions of machines or times"):
        results.check(replace(made(), strangers=2), WORK, is_whole=True)


def test_a_contestant_that_was_stopped_is_judged_on_what_it_completed():
    found = made()
    found.seen[0, 7:] = 0
    found.readings[0, 7:] = 0
    assert found.complete == 7
    results.check(found, WORK, is_whole=False)
    with pytest.raises(results.WrongError, match="missing"):
        results.check(found, WORK, is_whole=True)


def test_scores_may_differ_by_a_millionth():
    found, other = made(), made()
    other.score[1, 5] *= 1 + 5e-7
    assert 0 < results.compare(found, other) < 1e-6
    other.score[1, 5] *= 1.01
    with pytest.raises(results.WrongError, match="scores differ"):
        results.compare(found, other)
    other.score[1, 5] = np.nan
    with pytest.raises(results.WrongError, match="one of the two only"):
        results.compare(found, other)


def test_speed_is_that_of_the_middle():
    # Slow at both ends, which must not count.
    found = made()
    found.appended[:] = [100, 200, 300, 400, 500, 600, 700, 800, 5_000, 9_000]
    speed = results.speed(found, WORK)
    assert (speed.begin, speed.end) == (300, 800)
    assert speed.windows_per_s == pytest.approx(3 * 5 / 0.5)
    assert speed.readings_per_s == pytest.approx(10 * speed.windows_per_s)


def test_few_slices_are_not_measured():
    with pytest.raises(results.TooFewError, match="too few"):
        results.speed(made(slices=3), WORK)


# Processes


def test_a_process_is_seen_with_what_it_started():
    program = "import os\nos.fork()\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program], start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 30
            while not usage.descendants(process.pid) and time.monotonic() < deadline:
                time.sleep(0.05)  # until it has forked
            assert len(usage.descendants(process.pid)) == 1
            begin = time.time() * 1000
            with usage.Sampler(lambda: {process.pid}, {os.getpid()}) as sampler:
                own = usage.Taken(0, 0)
                while own.cpu_s <= 0.1 and time.monotonic() < deadline:
                    time.sleep(0.1)  # while it works and is looked at
                    with contextlib.suppress(ValueError):  # nobody has looked yet
                        own, _ = sampler.taken(begin, time.time() * 1000)
            assert own.cpu_s > 0.1
            assert own.rss_mb > 5
            assert usage.running([process.pid], "os.fork") == {process.pid}
        finally:
            os.killpg(process.pid, 9)


# The job's SQL


def test_the_sql_without_python_is_the_jobs_own_with_one_score_for_all():
    config = JOB | {
        "job_name": "plantline-anomaly-bench",
        "kafka": {"bootstrap.servers": "localhost"},
        "model_file": "",
        "machines_file": "",
        "severity": "warning",
    }
    definitions, inserts = plain_sql.statements(config, "bench.sql_without_python")
    its_own, its_inserts = anomaly_sql.statements(config, "none", "none", 1.0)
    changed = [text for text, own in zip(definitions, its_own, strict=True) if text != own]
    assert [text.split()[3] for text in changed] == ["predictions", "scored"]
    assert "'topic' = 'bench.sql_without_python'" in changed[0]
    assert "score(" not in changed[1]
    assert inserts == its_inserts


# The tables


def row(contestant, readings_per_s, processes=1, machines=10_000, whole=True):
    return Throughput(
        contestant=contestant,
        processes=processes,
        machines=machines,
        readings_per_s=readings_per_s,
        windows_per_s=readings_per_s / 10,
        cpu_s=50.0,
        rss_mb=300.0,
        broker_cpu_s=10.0,
        measured_s=60.0,
        startup_s=3.0,
        state_mb=1.5,
        whole=whole,
    )


def test_of_each_contestant_the_fastest_run_counts():
    rows = [row("loop", 200_000.0), row("loop", 220_000.0, 2), row("plantline", 250_000.0)]
    assert report.best(rows) == rows[1:]


def test_the_table_says_how_the_job_compares():
    rows = [
        row("loop_transactional", 100_000.0),
        row("quixstreams", 20_000.0, whole=False),
        row("plantline", 150_000.0),
    ]
    lane = Lane("plantline", "limit_alert", results.Latency(900, (4.0, 7.0, 12.0)))
    text = report.tables(rows, [lane], [], [Decoding("ours", 201.4)])
    lines = text.splitlines()
    assert len({len(line) for line in lines if "loop_transactional |" in line}) == 1
    assert "plantline is 1.50 times loop_transactional (target 1.25), 7.50 times" in text
    assert "| quixstreams *" in text
    assert "stopped before the end" in text
    assert "| ours |            201 |" in text
    assert "| plantline, limit alert |   4 |   7 |  12 |      900 |" in text


def test_the_table_of_ever_more_machines_says_what_was_set_for_them(monkeypatch, tmp_path):
    size = Size(1_000_000, 30_000, taskmanager_memory_mb=7_000, host_memory_mb=20_480)
    assert size.settings == {
        "flink_checkpoint_interval_ms": 30_000,
        "flink_taskmanager_memory_mb": 7_000,
        "host_memory_mb": 20_480,
    }
    assert Size(10_000).settings == {}
    row_of_many = replace(row("plantline", 200_000.0), machines=1_000_000)
    found = [(Size(10_000), row("plantline", 250_000.0)), (size, row_of_many)]
    [_, few, many, _, fall] = report.tables([], [], found, []).splitlines()[-5:]
    assert few.count("default") == 2
    assert "1,000,000 |                  30 |           7,000 |    200,000" in many
    assert fall.endswith("throughput changes by -20 % (target -30 %).")
    assert "changes" not in report.tables([], [], found[:1], [])

    monkeypatch.setattr(report, "FILE", tmp_path / "bench.json")
    monkeypatch.setattr(report, "about", dict)
    report.write_json([], [], found, [])
    [_, written] = json.loads(report.FILE.read_text(encoding="utf-8"))["scale"]
    assert written["machines"] == 1_000_000
    assert written["checkpoint_interval_ms"] == 30_000
    assert written["readings_per_s"] == 200_000


def test_figures_stand_between_the_markers_of_the_page():
    page = report.PAGE.read_text(encoding="utf-8")
    once = report.inserted(page, "| a |")
    assert "| a |" in once
    assert report.inserted(once, "| b |") == report.inserted(page, "| b |")
    with pytest.raises(ValueError, match="has no"):
        report.inserted("# A page", "| a |")


def test_every_program_of_the_bench_exists():
    for module in PROGRAMS.values():
        assert (report.ROOT / (module.replace(".", "/") + ".py")).is_file()
