"""flink_jobs.deploy against a small Flink: a REST server on loopback and a stand-in for `flink`."""

from __future__ import annotations

import json
import stat
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flink_jobs import deploy

NAME = "plantline-anomaly-pump"
MODULE = "flink_jobs.deploy"  # any module that can be imported


class FakeFlink:
    """Jobs as Flink's REST interface shows them.

    `outcome` is what becomes of the next submitted job: "healthy", "restarting" or "failed". Each
    submission also leaves a checkpoint below the job's checkpoint folder, each stop a savepoint.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.outcome = "healthy"
        self.savepoints_fail = False
        self.busy_answers = 0
        self.submissions: list[list[str]] = []
        self.calls: list[str] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"{}")
                status, answer = fake.handle(self.command, self.path, body)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            do_GET = do_POST = do_PATCH = _answer  # noqa: N815 - the library's names

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, name: str, state: str, labels: dict[str, str], **more: object) -> str:
        job_id = f"{len(self.jobs) + 1:032x}"
        self.jobs[job_id] = {
            "jid": job_id,
            "name": name,
            "state": state,
            "start-time": len(self.jobs),
            "end-time": -1,
            "tasks": {"total": 2, "running": 2, "failed": 0},
            "labels": labels,
            "checkpointed": state == "RUNNING",
            **more,
        }
        return job_id

    def handle(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.busy_answers and path.endswith("/checkpoints"):
            self.busy_answers -= 1
            return 500, {"errors": ["Internal server error."]}
        if method != "GET":
            self.calls.append(f"{method} {path}")
        parts = path.partition("?")[0].strip("/").split("/")
        job = self.jobs.get(parts[1], {}) if len(parts) > 1 else {}
        answer: dict[str, Any] = {}
        match method, *parts:
            case _, "submit":
                answer = {"job": self._submit(body["arguments"])}
            case _, "overview":
                answer = {"slots-available": 0, "slots-total": 6}
            case _, "jobs", "overview":
                answer = {"jobs": list(self.jobs.values())}
            case "PATCH", "jobs", _:
                job["state"] = "CANCELED"
            case _, "jobs", _, "config":
                answer = {"execution-config": {"user-config": job["labels"]}}
            case _, "jobs", _, "checkpoints":
                restored = {"restore_timestamp": 10, "external_path": "file:/somewhere"}
                completed = {"latest_ack_timestamp": 20 if job["checkpointed"] else 5}
                answer = {"latest": {"completed": completed, "restored": restored}}
            case _, "jobs", _, "exceptions":
                trace = "java.lang.RuntimeException: first\n\tat x\nCaused by: StateMigration"
                entries = [] if job["state"] == "RUNNING" else [{"stacktrace": trace}]
                answer = {"exceptionHistory": {"entries": entries}}
            case _, "jobs", _, "stop":
                answer = {"request-id": self._stop(job, body["targetDirectory"])}
            case _, "jobs", _, "savepoints", location:
                cause = {"stack-trace": "CheckpointException: not all tasks are running"}
                failed = location == "failed"
                answer = {
                    "status": {"id": "COMPLETED"},
                    "operation": {"failure-cause": cause} if failed else {"location": location},
                }
        return 200, answer

    def _submit(self, arguments: list[str]) -> str:
        self.submissions.append(arguments)
        options = dict(a[2:].split("=", 1) for a in arguments if a.startswith("-D"))
        labels = dict(p.split(":") for p in options["pipeline.global-job-parameters"].split(","))
        state = {"healthy": "RUNNING", "restarting": "RESTARTING", "failed": "FAILED"}
        job_id = self.add(options["pipeline.name"], state[self.outcome], labels)
        checkpoints = Path(options["state.checkpoints.dir"].removeprefix("file://"))
        write_state(checkpoints / job_id / "chk-1")
        return job_id

    def _stop(self, job: dict[str, Any], directory: str) -> str:
        if self.savepoints_fail:
            return "failed"
        job["state"] = "FINISHED"
        write_state(Path(directory.removeprefix("file://"), f"savepoint-{job['jid'][-6:]}"))
        return f"savepoint-{job['jid'][-6:]}"


def write_state(folder: Path, *, complete: bool = True) -> Path:
    folder.mkdir(parents=True)
    if complete:
        (folder / "_metadata").write_text("state")
    time.sleep(0.002)  # the next one is newer, whatever the file system's clock resolves
    return folder


class Cluster:
    """The declaration's folders, the fake Flink, and what is declared."""

    def __init__(self, folder: Path, flink: FakeFlink, command: Path) -> None:
        self.flink = flink
        self.command = command
        self.checkpoints, self.savepoints = folder / "checkpoints", folder / "savepoints"
        self.job: dict[str, Any] = {
            "name": NAME,
            "module": MODULE,
            "parallelism": 2,
            "config": {"window_s": 60},
            "files": ["model.onnx"],
            "state_version": "v1",
            "healthy_within_s": 20,
        }
        self.document: dict[str, Any] = {
            "checkpoints": str(self.checkpoints),
            "savepoints": str(self.savepoints),
            "config_dir": "/etc/plantline/jobs",
            "inputs": {"code": "1", "runtime": "1"},
            "files": {"model.onnx": "abc"},
            "jobs": [self.job],
        }

    def text(self) -> str:
        return json.dumps(self.document)

    def deployer(self) -> deploy.Deployer:
        declaration = deploy.parse_declaration(self.text())
        return deploy.Deployer(
            declaration, deploy.Rest(self.flink.url, lambda: None), self.command, poll_s=0.01
        )

    def apply(self, *, check: bool = False) -> deploy.Outcome:
        (outcome,) = self.deployer().apply(check=check)
        return outcome

    def states(self) -> list[str]:
        return [job["state"] for job in self.flink.jobs.values()]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    flink = FakeFlink()
    command = tmp_path / "flink"
    command.write_text(
        f"#!{sys.executable}\n"
        "import json, sys, urllib.request\n"
        "body = json.dumps({'arguments': sys.argv[1:]}).encode()\n"
        f"request = urllib.request.Request('{flink.url}/submit', data=body)\n"
        "job = json.load(urllib.request.urlopen(request))['job']\n"
        "if '--fresh' in sys.argv:\n"
        "    print('plantline: windows up to noon are not emitted again')\n"
        "print('Job has been submitted with JobID', job)\n"
    )
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    yield Cluster(tmp_path, flink, command)
    flink.server.shutdown()
    flink.server.server_close()


def argument(arguments: list[str], option: str) -> str | None:
    return arguments[arguments.index(option) + 1] if option in arguments else None


# apply: what is not running


def test_a_job_that_never_ran_is_started_without_state(cluster: Cluster) -> None:
    outcome = cluster.apply()
    assert outcome.action == "started"
    assert "without state" in outcome.message
    (arguments,) = cluster.flink.submissions
    assert arguments[:4] == ["run", "--detached", "--parallelism", "2"]
    assert argument(arguments, "--fromSavepoint") is None
    assert arguments[arguments.index("--python") :] == [
        "--python",
        deploy.__file__,
        "--config",
        f"/etc/plantline/jobs/{NAME}.config.json",
        "--emitted",
        f"{cluster.checkpoints}/{NAME}/v1/emitted.json",
        "--fresh",
    ]
    assert f"-Dstate.checkpoints.dir=file://{cluster.checkpoints}/{NAME}/v1" in arguments


def test_only_a_start_without_state_has_time_to_read_what_was_emitted(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "PATIENCE_S", 0.001)
    assert cluster.apply().action == "started"
    cluster.flink.jobs.clear()
    outcome = cluster.apply()
    assert outcome.action == "failed"
    assert "`flink run` has not ended within 0.001 s" in outcome.message


def test_a_lost_job_is_started_from_its_newest_complete_checkpoint(cluster: Cluster) -> None:
    run = cluster.checkpoints / NAME / "v1" / ("a" * 32)
    write_state(run / "chk-1")
    newest = write_state(run / "chk-2")
    write_state(run / "chk-3", complete=False)
    cluster.apply()
    assert argument(cluster.flink.submissions[0], "--fromSavepoint") == newest.as_uri()


def test_a_savepoint_newer_than_all_checkpoints_is_taken(cluster: Cluster) -> None:
    write_state(cluster.checkpoints / NAME / "v1" / ("a" * 32) / "chk-7")
    savepoint = write_state(cluster.savepoints / NAME / "v1" / "savepoint-1")
    cluster.apply()
    assert argument(cluster.flink.submissions[0], "--fromSavepoint") == savepoint.as_uri()


def test_newest_state_of_another_version_is_not_restored_nor_older_state_that_would_fit(
    cluster: Cluster,
) -> None:
    write_state(cluster.savepoints / NAME / "v1" / "savepoint-1")
    write_state(cluster.savepoints / NAME / "v2" / "savepoint-2")
    outcome = cluster.apply()
    assert "WITHOUT ITS STATE" in outcome.message
    assert argument(cluster.flink.submissions[0], "--fromSavepoint") is None


def test_a_job_is_told_whether_it_starts_without_state_and_the_answer_has_what_it_says(
    cluster: Cluster,
) -> None:
    def fresh(outcome: deploy.Outcome) -> bool:
        arguments = cluster.flink.submissions[-1]
        version = cluster.job["state_version"]
        kept = f"{cluster.checkpoints}/{NAME}/{version}/emitted.json"
        assert argument(arguments, "--emitted") == kept
        said = "; windows up to noon are not emitted again;" in outcome.message
        assert said == (deploy.READS_ALL in outcome.message) == ("--fresh" in arguments)
        return said

    assert fresh(cluster.apply())
    cluster.job["args"] = ["--fast"]
    assert not fresh(cluster.apply())
    cluster.job["state_version"] = "v2"
    assert fresh(cluster.apply())
    cluster.flink.jobs.clear()
    (recovered,) = cluster.deployer().recover(1e6)
    assert not fresh(recovered)


def test_a_job_keeps_what_it_emitted_when_its_earlier_runs_are_shed(cluster: Cluster) -> None:
    kept = cluster.checkpoints / NAME / "v1" / "emitted.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    cluster.apply()
    cluster.job["args"] = ["--fast"]
    cluster.apply()
    assert kept.exists()


def test_other_jobs_state_is_never_taken(cluster: Cluster) -> None:
    write_state(cluster.savepoints / f"{NAME}-2" / "v1" / "savepoint-1")
    cluster.apply()
    assert argument(cluster.flink.submissions[0], "--fromSavepoint") is None


def test_a_stopped_job_that_does_not_run_is_unchanged(cluster: Cluster) -> None:
    cluster.job["state"] = "stopped"
    assert cluster.apply().action == "unchanged"
    assert cluster.flink.submissions == []


# apply: what is running


def test_a_job_that_runs_as_declared_is_left_alone(cluster: Cluster) -> None:
    cluster.apply()
    assert cluster.apply().action == "unchanged"
    assert len(cluster.flink.submissions) == 1
    assert [call for call in cluster.flink.calls if call != "POST /submit"] == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"args": ["--fast"]}, "arguments"),
        ({"config": {"window_s": 30}}, "config"),
        ({"parallelism": 3}, "settings"),
        ({"flink_config": {"pipeline.object-reuse": True}}, "settings"),
    ],
)
def test_a_changed_job_is_upgraded_with_a_savepoint(
    cluster: Cluster, change: dict[str, Any], named: str
) -> None:
    cluster.apply()
    cluster.job |= change
    outcome = cluster.apply()
    assert outcome.action == "upgraded"
    assert f"changed: {named}" in outcome.message
    savepoint = next((cluster.savepoints / NAME / "v1").iterdir())
    assert argument(cluster.flink.submissions[1], "--fromSavepoint") == savepoint.as_uri()
    assert cluster.states() == ["FINISHED", "RUNNING"]


@pytest.mark.parametrize("where", ["inputs", "files"])
def test_changed_code_and_models_are_changes_too(cluster: Cluster, where: str) -> None:
    cluster.apply()
    cluster.document[where] = dict.fromkeys(cluster.document[where], "other")
    assert cluster.apply().action == "upgraded"


def test_a_changed_limit_of_patience_is_no_change_of_the_job(cluster: Cluster) -> None:
    cluster.apply()
    cluster.job["healthy_within_s"] = 1
    assert cluster.apply().action == "unchanged"


def test_another_state_version_starts_without_state_and_says_so(cluster: Cluster) -> None:
    cluster.apply()
    cluster.job["state_version"] = "v2"
    outcome = cluster.apply()
    assert outcome.action == "upgraded"
    assert "WITHOUT ITS STATE" in outcome.message
    assert argument(cluster.flink.submissions[1], "--fromSavepoint") is None
    assert list((cluster.savepoints / NAME / "v1").iterdir()), "its state is kept"


def test_a_job_that_gives_no_savepoint_is_upgraded_from_its_last_checkpoint(
    cluster: Cluster,
) -> None:
    cluster.apply()
    cluster.flink.savepoints_fail = True
    cluster.job["args"] = ["--fast"]
    outcome = cluster.apply()
    assert "no savepoint could be had" in outcome.message
    assert cluster.states() == ["CANCELED", "RUNNING"]
    restored = argument(cluster.flink.submissions[1], "--fromSavepoint")
    assert restored is not None
    assert restored.endswith("/chk-1")


def test_stopped_means_a_savepoint_and_running_again_starts_from_it(cluster: Cluster) -> None:
    cluster.apply()
    cluster.job["state"] = "stopped"
    assert cluster.apply().action == "stopped"
    assert cluster.states() == ["FINISHED"]
    cluster.job["state"] = "running"
    cluster.apply()
    restored = argument(cluster.flink.submissions[1], "--fromSavepoint")
    assert restored is not None
    assert "/savepoint-" in restored


def test_a_job_that_runs_twice_is_an_error_that_names_both(cluster: Cluster) -> None:
    ids = [cluster.flink.add(NAME, "RUNNING", {}) for _ in range(2)]
    outcome = cluster.apply()
    assert outcome.action == "failed"
    assert all(job_id in outcome.message for job_id in ids)
    assert cluster.states() == ["RUNNING", "RUNNING"]


def test_somebody_elses_job_of_that_name_is_not_touched(cluster: Cluster) -> None:
    cluster.flink.add(NAME, "RUNNING", {"theirs": "1"})
    assert cluster.apply().action == "failed"
    assert cluster.states() == ["RUNNING"]


def test_what_is_no_longer_declared_is_stopped_and_what_never_was_is_not(
    cluster: Cluster,
) -> None:
    cluster.apply()
    cluster.flink.add("adhoc", "RUNNING", {})
    cluster.document["jobs"] = []
    (outcome,) = cluster.deployer().apply()
    assert (outcome.job, outcome.action) == (NAME, "stopped")
    assert cluster.states() == ["FINISHED", "RUNNING"]


# health


def test_an_accepted_job_that_only_restarts_is_cancelled_and_its_cause_named(
    cluster: Cluster,
) -> None:
    savepoint = write_state(cluster.savepoints / NAME / "v1" / "savepoint-1")
    cluster.flink.outcome = "restarting"
    cluster.job["healthy_within_s"] = 0.3
    outcome = cluster.apply()
    assert outcome.action == "failed"
    assert "StateMigration" in outcome.message
    assert cluster.states() == ["CANCELED"]
    assert (savepoint / "_metadata").exists()


def test_a_job_without_a_checkpoint_since_its_restore_is_not_healthy(cluster: Cluster) -> None:
    cluster.apply()
    next(iter(cluster.flink.jobs.values()))["checkpointed"] = False
    cluster.job["healthy_within_s"] = 0.3
    outcome = cluster.apply()
    assert outcome.action == "failed"
    assert "no checkpoint" in outcome.message
    assert "0 of 6 slots" in outcome.message
    assert cluster.states() == ["RUNNING"], "Flink may still bring it back"


def test_errors_while_a_job_is_being_initialised_are_waited_out(cluster: Cluster) -> None:
    cluster.flink.busy_answers = 3
    assert cluster.apply().action == "started"


def test_a_module_that_submits_nothing_is_named_with_what_it_said(cluster: Cluster) -> None:
    cluster.command.write_text(
        "#!/bin/sh\n"
        "echo 'Traceback (most recent call last):' >&2\n"
        "echo 'ValueError: no pumps' >&2\n"
        "echo 'org.apache.flink.client.program.ProgramAbortException: x' >&2\n"
        "exit 1\n"
    )
    outcome = cluster.apply()
    assert outcome.action == "failed"
    assert outcome.message.endswith("ValueError: no pumps")


def test_one_jobs_failure_does_not_keep_the_next_from_its_start(cluster: Cluster) -> None:
    cluster.document["jobs"] = [
        {**cluster.job, "name": "first", "module": "no.such.module"},
        cluster.job,
    ]
    first, second = cluster.deployer().apply()
    assert (first.action, second.action) == ("failed", "started")


@pytest.mark.parametrize(("until", "action"), [(NAME, "started"), ("none", "failed")])
def test_a_job_that_others_hold_up_is_tried_once_more_after_them(
    cluster: Cluster, until: str, action: str
) -> None:
    cluster.document["jobs"] = [{**cluster.job, "name": "first"}, cluster.job]
    interpreter, _, program = cluster.command.read_text().partition("\n")
    cluster.command.write_text(
        f"{interpreter}\n"
        "import pathlib, sys\n"
        f"started = pathlib.Path('{cluster.checkpoints / until}').exists()\n"
        "if '-Dpipeline.name=first' in sys.argv and not started:\n"
        "    print('plantline: two are aborted now')\n"
        f"    sys.exit('{deploy.OTHERS_FIRST}')\n"
        f"{program}"
    )
    other, held_up = cluster.deployer().apply()
    assert (other.job, other.action) == (NAME, "started")
    assert (held_up.job, held_up.action) == ("first", action)
    # Said by the first attempt: the second one cannot know.
    assert "two are aborted now" in held_up.message
    assert "aborted" not in other.message


def test_a_healthy_job_sheds_earlier_runs_and_old_savepoints(cluster: Cluster) -> None:
    old_run = cluster.checkpoints / NAME / "v1" / ("a" * 32)
    write_state(old_run / "chk-1")
    savepoints = [
        write_state(cluster.savepoints / NAME / version / f"savepoint-{number}")
        for number, version in enumerate(["v0", "v0", "v1", "v1"])
    ]
    cluster.apply()
    assert not old_run.exists()
    assert [path.exists() for path in savepoints] == [False, True, True, True]


# check mode


@pytest.mark.parametrize(
    ("change", "action"),
    [({}, "unchanged"), ({"args": ["-v"]}, "upgraded"), ({"state": "stopped"}, "stopped")],
)
def test_check_says_what_would_be_done_and_does_nothing(
    cluster: Cluster, change: dict[str, Any], action: str
) -> None:
    assert cluster.apply(check=True).action == "started"
    cluster.apply()
    cluster.job |= change
    assert cluster.apply(check=True).action == action
    assert cluster.states() == ["RUNNING"]
    assert len(cluster.flink.submissions) == 1


def test_check_says_beforehand_that_state_will_not_fit(cluster: Cluster) -> None:
    cluster.apply()
    cluster.job["args"] = ["-v"]
    assert "would be upgraded with its state;" in cluster.apply(check=True).message
    cluster.job["state_version"] = "v2"
    message = cluster.apply(check=True).message
    assert "would be upgraded WITHOUT ITS STATE" in message
    assert "v1, not v2" in message
    assert deploy.READS_ALL in message


# recover


def recover(cluster: Cluster, now_s: float = 1e6) -> list[deploy.Outcome]:
    return list(cluster.deployer().recover(now_s))


def test_recover_starts_what_the_jobmanager_forgot(cluster: Cluster) -> None:
    newest = write_state(cluster.checkpoints / NAME / "v1" / ("a" * 32) / "chk-5")
    (outcome,) = recover(cluster)
    assert outcome.action == "started"
    assert argument(cluster.flink.submissions[0], "--fromSavepoint") == newest.as_uri()


@pytest.mark.parametrize("state", ["RUNNING", "RESTARTING", "INITIALIZING", "CANCELED", "FINISHED"])
def test_recover_leaves_active_jobs_to_flink_and_ended_ones_to_whoever_ended_them(
    cluster: Cluster, state: str
) -> None:
    cluster.flink.add(NAME, state, {})
    assert recover(cluster) == []


def test_recover_does_not_start_what_is_declared_as_stopped(cluster: Cluster) -> None:
    cluster.job["state"] = "stopped"
    assert recover(cluster) == []


def test_recover_does_not_cancel_a_job_that_is_not_healthy_yet(cluster: Cluster) -> None:
    cluster.flink.outcome = "restarting"
    cluster.job["healthy_within_s"] = 0.3
    (outcome,) = recover(cluster)
    assert outcome.action == "failed"
    assert cluster.states() == ["RESTARTING"]


def test_recover_tries_a_failed_job_again_after_a_pause_that_grows(cluster: Cluster) -> None:
    for _ in range(3):
        cluster.flink.add(NAME, "FAILED", {}, **{"end-time": 100_000})
    pause_s = deploy.retry_pause_s(3)
    assert pause_s == 60
    assert recover(cluster, 100 + pause_s - 1) == []
    (outcome,) = recover(cluster, 100 + pause_s + 1)
    assert outcome.action == "started"
    assert deploy.retry_pause_s(50) == deploy.LONGEST_RETRY_PAUSE_S


# the command line


def main(cluster: Cluster, tmp_path: Path, *arguments: str) -> int:
    declaration = tmp_path / "declared.json"
    declaration.write_text(cluster.text())
    return deploy.main(
        [
            *arguments,
            f"--declaration={declaration}",
            f"--rest={cluster.flink.url}",
            f"--flink={cluster.command}",
            f"--lock={tmp_path / 'lock'}",
        ]
    )


def test_the_command_prints_what_it_did(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(cluster, tmp_path, "apply") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["changed"] is True
    assert answer["jobs"][0]["job"] == NAME
    assert main(cluster, tmp_path, "recover") == 0
    assert capsys.readouterr().out == "", "the journal need not hear that there was nothing to do"


def test_the_command_fails_when_a_job_does(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.flink.outcome = "failed"
    assert main(cluster, tmp_path, "apply") == 1
    assert json.loads(capsys.readouterr().out)["changed"] is False


def test_without_a_jobmanager_apply_fails_and_the_others_wait(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.flink.server.shutdown()
    cluster.flink.server.server_close()
    assert main(cluster, tmp_path, "apply") == 1
    assert "does not answer" in capsys.readouterr().err
    assert main(cluster, tmp_path, "recover") == 0
    assert main(cluster, tmp_path, "apply", "--check") == 0
    assert json.loads(capsys.readouterr().out)["changed"] is True


def test_recover_gives_way_to_a_deployment_under_way(cluster: Cluster, tmp_path: Path) -> None:
    with deploy.exclusive(tmp_path / "lock", 0):
        assert main(cluster, tmp_path, "recover") == 0
        assert main(cluster, tmp_path, "apply", "--wait=0.1") == 1
    assert cluster.flink.submissions == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"parallelism": "many"}, "many"),
        ({"parallelism": 0}, "less than 1"),
        ({"state": "paused"}, "paused"),
        ({"state_version": "a/b"}, "a/b"),
        ({"files": ["unknown.onnx"]}, "unknown.onnx"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(
    cluster: Cluster, change: dict[str, Any], problem: str
) -> None:
    cluster.job |= change
    with pytest.raises(deploy.DeployError, match=f"{NAME}.*{problem}"):
        deploy.parse_declaration(cluster.text())


def test_a_job_declared_twice_is_refused(cluster: Cluster) -> None:
    cluster.document["jobs"] *= 2
    with pytest.raises(deploy.DeployError, match="more than once"):
        deploy.parse_declaration(cluster.text())


def test_equal_declarations_have_equal_labels_whatever_their_order(cluster: Cluster) -> None:
    cluster.job["config"] = {"a": 1, "b": 2}
    (first,) = deploy.parse_declaration(cluster.text()).jobs
    cluster.job["config"] = {"b": 2, "a": 1}
    (second,) = deploy.parse_declaration(cluster.text()).jobs
    assert first.labels() == second.labels()
