"""An upgrade keeps a job's state where it fits; where it does not, nothing is lost or doubled.

Nor is it where the state itself is lost.
"""

import json
import re
import shutil
import subprocess
import time
from collections import Counter

import pytest
from exactly_once import balance, windows_of
from kafka import KafkaAdminClient

from flink_jobs import contracts, resume
from flink_jobs.plant import load_plant
from flink_jobs.tools.kafka import Publisher, read_all
from flink_jobs.tools.stream import clock_reading, close_ts, event_time, free_start
from tests.live.conftest import (
    INVENTORY,
    ROOT,
    eventually,
    note,
    on,
    operator_context,
    playbook,
    rest,
    run,
    tool,
)

JOB = "plantline-anomaly-pump"
CHANNEL = "oil_pressure"
STATE = "/srv/plantline/flink"
# More than commissioning takes, so that some windows are scored and the last ones are open.
HALF = 600
# Features of a machine that is well are then those of one that is not.
OTHER_CODE = """
_of = Features.of
Features.of = lambda *given: 2 * _of(*given)
"""


def upgrade(*arguments, inventory=INVENTORY):
    """Run playbooks/jobs.yml; returns what it says of the pumps' job."""
    command = ["ansible-playbook", "playbooks/jobs.yml", "-i", inventory, *arguments]
    said = " ".join(run(*command, stdin=subprocess.DEVNULL).stdout.split())
    [told] = re.findall(rf"{JOB}: (.+?)(?='? (?:ok: |skipping: |TASK \[)|$)", said)
    note(told)
    return told


def running():
    """Flink's id of the pumps' job."""
    jobs = rest("/jobs/overview")["jobs"]
    [found] = [j["jid"] for j in jobs if j["name"] == JOB and j["state"] == "RUNNING"]
    return found


def left_open(client):
    """The transactions of the pumps' job that nobody has ended."""
    servers, who = client["bootstrap.servers"], operator_context()
    with KafkaAdminClient(
        bootstrap_servers=servers, security_protocol="SSL", ssl_context=who
    ) as admin:
        return resume.open_transactions(admin, JOB)


class Pump:
    """A machine of its own that sends each second, behind all that was sent before."""

    def __init__(self, client, kind):
        self.began = time.time_ns() // 1_000_000
        self.id = f"upgrade-{self.began}"
        self._client, self._kind = client, kind
        self._topic = contracts.telemetry_topic(kind.name)
        self._start = free_start(event_time(client, kind), kind, 0)
        self._sent = []

    def send(self, first, stop, kind=None, *, close=False):
        """Readings number first to stop and one that is refused; `kind` says of which channels."""
        names = [channel.name for channel in (kind or self._kind).channels]
        key = self.id.encode()
        with Publisher(self._client) as publisher:
            for number in range(first, stop):
                ts = self._start + number * 1000
                values = dict.fromkeys(names, 10 + number * 37 % 100 / 100)
                reading = contracts.Reading(self.id, ts, values)
                publisher.send(self._topic, key, contracts.encode_reading(reading))
                self._sent.append((self.id, ts))
            publisher.send(self._topic, key, b"refused")
            if close:
                end = clock_reading(close_ts(ts, self._kind))
                for partition in range(self._kind.partitions):
                    publisher.send(self._topic, contracts.CLOCK.encode(), end, partition)

    def send_until_scored(self):
        """The first half, until all windows but the open ones are predicted, and some have a score.

        Returns the end of the first open one.
        """
        self.send(0, HALF)
        first_open = self._start + HALF * 1000
        closed = {end for _, end in windows_of(self._sent, self._kind) if end < first_open}

        def predicted():
            return closed <= {prediction.window_end for prediction in self.predictions()}

        eventually("windows of the first half", predicted, 180)
        last = self.predictions()[-1]
        assert last.window_end < first_open
        assert last.score is not None
        return first_open

    def predictions(self):
        """What was predicted of it, in the order of time."""
        values = (m.value() for m in read_all(self._client, contracts.PREDICTIONS, self.began))
        found = [p for p in map(contracts.parse_prediction, values) if p.machine_id == self.id]
        return sorted(found, key=lambda prediction: prediction.window_end)

    def assert_whole(self, refused):
        """Each window is predicted once with all its readings, and scored if one before it was.

        So many dead letters. Returns the predictions with a score.
        """
        result = balance(self._client, windows_of(self._sent, self._kind), within_s=900)
        note(f"{self.id}: {result}")
        assert result.exact, str(result)
        found = self.predictions()
        held = Counter(end for one in self._sent for _, end in windows_of([one], self._kind))
        assert {prediction.window_end: prediction.readings for prediction in found} == held
        scored = [prediction.score is not None for prediction in found]
        assert any(scored)
        assert scored == sorted(scored), "commissioned twice"
        letters = read_all(self._client, contracts.DLQ, self.began)
        sources = [
            dict(letter.headers())["dlq.source"]
            for letter in letters
            if letter.key() == self.id.encode()
        ]
        assert len(sources) == len(set(sources)) == refused
        return [prediction for prediction in found if prediction.score is not None]


@pytest.fixture
def pump(client, kind):
    return Pump(client, kind)


@pytest.fixture
def reworked(plant, tmp_path):
    """A copy of the project's package with other code of features; then all is as before."""
    leave_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "flink_jobs", tmp_path / "flink_jobs", ignore=leave_out)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "flink_jobs" / "features.py").open("a", encoding="utf-8") as file:
        file.write(OTHER_CODE)
    yield tmp_path
    playbook("playbooks/jobs.yml")


@pytest.fixture
def edited(plant, client, kind, tmp_path):
    """A copy of the inventory with a channel more, and a model of it; then all is as before."""
    inventory = tmp_path / INVENTORY.name
    shutil.copytree(ROOT / INVENTORY, inventory)
    file = inventory / "group_vars" / "all" / "plant.yml"
    begin = "      channels:\n"
    channel = f"        {CHANNEL}: {{unit: bar, valid: [0, 16]}}\n"
    text = file.read_text("utf-8").replace(begin, begin + channel, 1)
    file.write_text(text, "utf-8")
    normal, model = tmp_path / "normal.csv", tmp_path / "pump-anomaly.onnx"
    tool(
        *("simulate", "--plant", file, "--type", "pump", "--machines", 6, "--seed", 1),
        *("--readings", 9_000, "--faults", "none", "--out", normal),
        *("--truth", tmp_path / "truth.jsonl"),
    )
    run(
        *(ROOT / ".venv-train" / "bin" / "python", "-m", "flink_jobs.tools.train"),
        *("--type", "pump", "--plant", file, "--data", normal, "--out", model),
    )
    yield file, ("-e", json.dumps({"plant_models": {"pump": str(model)}}))
    playbook("playbooks/jobs.yml")
    # It has read all again, and scores as ever.
    after = Pump(client, kind)
    after.send(0, HALF, close=True)
    after.assert_whole(refused=1)


def test_other_code_goes_on_with_the_state(pump, reworked):
    first_open = pump.send_until_scored()
    told = upgrade("-e", f"flink_jobs_source_dir={reworked}")
    assert told.startswith("upgraded. stopped with ")
    assert "started from /" in told
    assert "changed: code" in told
    pump.send(HALF, HALF + 300, close=True)
    scored = pump.assert_whole(refused=2)
    by_other_code = [prediction.window_end >= first_open for prediction in scored]
    assert [prediction.is_alert for prediction in scored] == by_other_code


def test_with_another_channel_it_starts_anew_and_emits_what_was_not(pump, edited):
    file, model = edited
    first_open = pump.send_until_scored()
    before = running()
    told = upgrade("--check", *model, inventory=file.parents[2])
    assert "would be upgraded WITHOUT ITS STATE" in told
    assert "state-version" in told
    assert running() == before

    told = upgrade(*model, inventory=file.parents[2])
    assert told.startswith("upgraded. stopped with ")
    assert "WITHOUT ITS STATE" in told
    assert re.search(r"windows up to \S+Z are not emitted again", told)
    pump.send(HALF, 2 * HALF, load_plant(file).machine_types["pump"], close=True)
    scored = pump.assert_whole(refused=2)
    old, new = (
        {p.model_version for p in scored if (p.window_end >= first_open) is is_new}
        for is_new in (False, True)
    )
    assert len(old) == len(new) == 1
    assert old != new


def test_without_its_state_it_ends_what_it_left_open(client, pump):
    pump.send_until_scored()
    # Nobody completes a checkpoint any more: what is written from now on stays uncommitted.
    on("node1", "systemctl stop flink-jobs.timer && systemctl kill -s STOP flink-jobmanager")
    pump.send(HALF, HALF + 300, close=True)
    eventually("windows that no checkpoint holds", lambda: left_open(client), 8)
    # First all stand still: whoever saw another one die would abort what is open.
    for signal in ("STOP", "KILL"):
        for host in ("node1", "node2", "node3"):
            on(host, f"systemctl kill -s {signal} 'flink-*manager.service'")
    on("node1", f"rm -r {STATE}/checkpoints/{JOB} && rm -rf {STATE}/savepoints/{JOB}")
    left = left_open(client)
    assert left
    eventually("the JobManager is back", lambda: rest("/jobs/overview", check=False), 120)

    # Where the heartbeat's job has left something open too, this one comes second.
    told = upgrade()
    assert "started without state" in told
    assert f"aborted now: {len(left)}" in told
    assert not set(left) & set(left_open(client))
    # Behind the readings that closed the windows.
    pump.send(HALF + 400, 2 * HALF, close=True)
    pump.assert_whole(refused=3)
