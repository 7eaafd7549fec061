"""The bench's own test host: one machine with the whole plant on it, as `site.yml` leaves it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from flink_jobs import contracts
from flink_jobs.deploy import TERMINAL, client_context
from flink_jobs.plant import MachineType, load_plant
from flink_jobs.tools.kafka import Config, read_config
from tests.bench.stream import usage, workload
from tools.hosts import Engine, as_root

ROOT = Path(__file__).resolve().parents[3]
OUT = ROOT / "out" / "bench"
NAME = "bench"
# It is the fleet's name as well.
INVENTORY = OUT / NAME
CLIENTS = OUT / "clients"
MODEL = OUT / "bench-anomaly.onnx"

HOST = "plant"  # as inventories/single calls it
ADDRESS = "10.203.84.11"
CONTROL_NODE = "10.203.84.1"
PARALLELISM = 2
JOB = f"plantline-anomaly-{workload.MACHINE_TYPE}"
CONFIG = f"/etc/plantline/jobs/{JOB}.config.json"
STATE = "/srv/plantline/flink"

# Beside `predictions`, the job's own. Its user writes the SQL's as well, the operator the others.
OUTPUTS = ("loop", "loop_transactional", "quixstreams", "sql_without_python")
REFUSED = "bench.refused"

_VALID = [0, 100]
_PLANT = {
    "name": NAME,
    # The job under test has both cores to itself.
    "heartbeat": False,
    "unknown_machines": "accept",
    "machine_types": {
        workload.MACHINE_TYPE: {
            "models": ["anomaly"],
            "window_s": workload.WINDOW_S,
            "slide_s": workload.WINDOW_S,
            "commissioning_readings": workload.COMMISSIONING_READINGS,
            "partitions": workload.PARTITIONS,
            "channels": {
                name: {
                    "unit": "1",
                    "valid": _VALID,
                    "stuck_after_s": 5,
                    "outliers": 8,
                    "gap": "hold",
                    "gap_max_s": 3,
                    "limits": {"warning": {"high": workload.LIMIT, "hysteresis": 2}},
                }
                for name in workload.CHANNELS
            },
        }
    },
    "machines": [],
}

_FLINK = (
    "runuser -u flink -- env JAVA_HOME=/opt/plantline/java FLINK_CONF_DIR=/etc/plantline/flink"
    " FLINK_LOG_DIR=/var/log/flink"
)
_SUBMITTED = re.compile(r"Job has been submitted with JobID ([0-9a-f]{32})")
_REST_TIMEOUT_S = 30.0
# The last checkpoint of a million machines takes its time.
_COMMAND_TIMEOUT_S = 900.0


class BenchError(RuntimeError):
    """What stands in the way, or a result that is wrong: the bench ends with it."""


def output_topic(contestant: str) -> str:
    """Where a contestant writes its predictions."""
    return contracts.PREDICTIONS if contestant == "plantline" else f"bench.{contestant}"


class Host:
    """The host, once it is up."""

    def __init__(self) -> None:
        engine = Engine()
        found = engine.run("inspect", "-f", "{{.State.Pid}}", f"plantline-{NAME}-{HOST}")
        self._init = int(found)
        self._disk = Path(engine.run("info", "-f", "{{.DockerRootDir}}"))
        if not Path(f"/proc/{self._init}").exists():
            raise BenchError("the host's processes are not visible here: the engine is elsewhere")

    # The plant

    @cached_property
    def kind(self) -> MachineType:
        plant = load_plant(INVENTORY / "group_vars" / "all" / "plant.yml")
        return plant.machine_types[workload.MACHINE_TYPE]

    @cached_property
    def kafka(self) -> Config:
        """The operator's client settings."""
        return read_config(CLIENTS / "client.conf")

    @cached_property
    def job(self) -> dict[str, Any]:
        """The job's configuration, as it is on the host."""
        config: dict[str, Any] = json.loads(self.on(f"cat {CONFIG}"))
        return config

    def free_mb(self) -> float:
        """Disk space that the host has left."""
        return shutil.disk_usage(self._disk).free / 2**20

    def on(self, command: str, stdin: str = "") -> str:
        """Output of a shell command on the host; raises BenchError."""
        done = subprocess.run(
            ["ssh", "-F", str(ROOT / "out" / "hosts" / NAME / "ssh_config"), HOST, command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_TIMEOUT_S,
        )
        if done.returncode:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}".strip()
            raise BenchError(f"on the bench's host: {command}: {said}")
        return done.stdout

    def beside(self, *command: str) -> list[str]:
        """The command in the host's network, so that it reaches Kafka as the host's programs do."""
        return as_root("nsenter", f"--net=/proc/{self._init}/ns/net", "--", *command)

    # Processes

    def broker(self) -> set[int]:
        """Kafka's process."""
        return self._java("kafka.Kafka")

    def flink(self) -> set[int]:
        """JobManager and TaskManager; Python workers are below the latter."""
        return self._java("StandaloneSessionClusterEntrypoint") | self._java("TaskManagerRunner")

    def _java(self, main: str) -> set[int]:
        found = usage.running(usage.descendants(self._init), main)
        if len(found) != 1:
            raise BenchError(f"{len(found)} processes of {main} on the host, and not one")
        return found

    # Flink's jobs

    def shipped(self, state: str) -> None:
        """Brings the deployed job to a state, running or stopped, as site.yml would."""
        declared = json.loads(self.on("cat /etc/plantline/jobs/declared.json"))
        names = [job["name"] for job in declared["jobs"]]
        if names != [JOB]:
            raise BenchError(f"declared are the jobs {names}, and not only {JOB}")
        declared["jobs"][0]["state"] = state
        apply = "/opt/plantline/venv/bin/python -m flink_jobs.deploy apply --declaration=-"
        self.on(f"cd / && {_FLINK} {apply}", json.dumps(declared))

    def submit(self, script: Path, name: str, *arguments: str) -> str:
        """Runs a PyFlink script as a job beside the declared ones; its id."""
        target = f"/var/tmp/{script.name}"  # noqa: S108 - on a host of our own
        self.on(f"cat > {target} && chmod 0644 {target}", script.read_text(encoding="utf-8"))
        options = {
            "pipeline.name": name,
            "state.checkpoints.dir": f"file://{STATE}/checkpoints/{name}",
        }
        command = [
            *("/opt/plantline/flink/bin/flink", "run", "--detached"),
            *("--parallelism", str(PARALLELISM)),
            *(f"-D{key}={value}" for key, value in options.items()),
            *("--python", target, *arguments),
        ]
        said = self.on(f"cd / && {_FLINK} {shlex.join(command)}")
        found = _SUBMITTED.findall(said)
        if len(found) != 1:
            raise BenchError(f"{script.name} submitted {len(found)} jobs:\n{said[-3000:]}")
        return str(found[0])

    def cancel(self, job_id: str) -> None:
        """Ends a job, and waits for its end."""
        self.rest(f"/jobs/{job_id}?mode=cancel", "PATCH")
        until(f"job {job_id} ends", lambda: self.job_state(job_id) in TERMINAL, 120)

    def job_state(self, job_id: str) -> str:
        return str(self.rest(f"/jobs/{job_id}")["state"])

    def running_job(self) -> str | None:
        """The id of the declared job, if it runs."""
        jobs = self.rest("/jobs/overview")["jobs"]
        found = [j["jid"] for j in jobs if j["name"] == JOB and j["state"] == "RUNNING"]
        return str(found[0]) if found else None

    def checkpoint_mb(self, job_id: str) -> float:
        """Size of the newest complete checkpoint; 0 before the first."""
        latest = self.rest(f"/jobs/{job_id}/checkpoints")["latest"]["completed"]
        return float(latest["state_size"]) / 2**20 if latest else 0.0

    def rest(self, path: str, method: str = "GET") -> Any:
        """An answer of Flink's JobManager; raises OSError."""
        request = urllib.request.Request(f"https://{ADDRESS}:8081{path}", method=method)
        with urllib.request.urlopen(  # noqa: S310 - as above
            request, timeout=_REST_TIMEOUT_S, context=self._identity
        ) as answer:
            return json.loads(answer.read() or b"{}")

    @cached_property
    def _identity(self) -> ssl.SSLContext:
        pki = ROOT / "out" / "pki" / NAME
        return client_context(pki / "ca.pem", pki / "operator" / "bundle.pem")

    def forget_state(self) -> None:
        """Removes checkpoints and savepoints: the next start is the first one."""
        self.on(f"rm -rf {STATE}/checkpoints/* {STATE}/savepoints/*")

    def quiet(self) -> None:
        """Nobody brings back a job that the bench has stopped, nor reads one contestant's results.

        The exporter follows `predictions`, which only the shipped job writes.
        """
        self.on("systemctl stop flink-jobs.timer plantline-exporter.service")

    def restart_clock(self) -> None:
        """What flink-clock remembers of a topic is of readings that are gone."""
        self.on("systemctl restart flink-clock.service")


def up(
    memory_mb: int, note: Callable[[str], None], settings: Mapping[str, Any] | None = None
) -> Host:
    """The host with the plant as the sources here describe it; one that is up is brought to it.

    settings: variables of roles, in place of their defaults.
    """
    _write_inventory(memory_mb, settings or {})
    _run("hosts", sys.executable, "tools/hosts.py", "up", str(INVENTORY))
    _run("vault", sys.executable, "tools/vault.py", "make", str(INVENTORY))
    if not MODEL.exists():
        note("training the model")
        _train()
    note("site.yml")
    _run("site", "ansible-playbook", "site.yml", "-i", str(INVENTORY))
    return Host()


def down() -> None:
    """Removes the host and what belongs to it."""
    _run("hosts", sys.executable, "tools/hosts.py", "down", str(INVENTORY))
    shutil.rmtree(ROOT / "out" / "pki" / NAME, ignore_errors=True)
    shutil.rmtree(INVENTORY, ignore_errors=True)


def until(what: str, condition: Callable[[], bool], within_s: float) -> None:
    """Asks until it is true; raises BenchError when time is up."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {within_s:.0f} s")
        time.sleep(0.5)  # between two questions


def _write_inventory(memory_mb: int, settings: Mapping[str, Any]) -> None:
    """inventories/single, with what an engineer adds for this host."""
    single = ROOT / "inventories" / "single"
    shutil.copytree(
        single,
        INVENTORY,
        dirs_exist_ok=True,
        # A host that is kept keeps its secrets.
        ignore=shutil.ignore_patterns("pki", "vault.yml"),
    )
    hosts = (single / "hosts.yml").read_text(encoding="utf-8")
    if "192.0.2.10" not in hosts:
        raise BenchError(f"{single}/hosts.yml has no address 192.0.2.10 to replace")
    (INVENTORY / "hosts.yml").write_text(hosts.replace("192.0.2.10", ADDRESS), encoding="utf-8")
    files: Mapping[str, Mapping[str, Any]] = {
        "plant.yml": {"plant": _PLANT},
        "own.yml": {
            "ansible_ssh_private_key_file": f"out/hosts/{NAME}/id_ed25519",
            "ansible_ssh_common_args": f"-o UserKnownHostsFile=out/hosts/{NAME}/known_hosts "
            "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
            "host_memory_mb": memory_mb,
            "firewall_operators": [CONTROL_NODE],
            "plant_models": {workload.MACHINE_TYPE: str(MODEL)},
            "plant_jobs_parallelism": PARALLELISM,
            "kafka_client_dir": str(CLIENTS),
            "kafka_topics": [
                {
                    "name": name,
                    "partitions": workload.PARTITIONS,
                    "config": {"message.timestamp.type": "LogAppendTime"},
                }
                for name in (*map(output_topic, OUTPUTS), REFUSED)
            ],
            "kafka_acls": [
                {
                    "principal": f"User:{JOB}",
                    "resource": "topic",
                    "name": output_topic("sql_without_python"),
                    "operations": ["write"],
                }
            ],
            **settings,
        },
    }
    for name, content in files.items():
        file = INVENTORY / "group_vars" / "all" / name
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _train() -> None:
    """A model of simulated machines of this type: what it has learnt does not matter here."""
    normal = OUT / "normal.csv"
    plant = str(INVENTORY / "group_vars" / "all" / "plant.yml")
    kind = ("--type", workload.MACHINE_TYPE, "--plant", plant)
    _run(
        "train",
        *(sys.executable, "-m", "flink_jobs.tools.simulate", *kind, "--machines", "12"),
        *("--readings", "43200", "--faults", "none", "--out", str(normal)),
    )
    _run(
        "train",
        *(str(ROOT / ".venv-train" / "bin" / "python"), "-m", "flink_jobs.tools.train", *kind),
        *("--data", str(normal), "--out", str(MODEL)),
    )


def _run(log: str, *command: str) -> None:
    """A command of the control node; its output goes to out/bench/<log>.log."""
    OUT.mkdir(parents=True, exist_ok=True)
    file = OUT / f"{log}.log"
    with file.open("w", encoding="utf-8") as output:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        end = file.read_text(encoding="utf-8")[-6000:]
        raise BenchError(f"{shlex.join(command)}: exit code {done.returncode}\n{end}")
