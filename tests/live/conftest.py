"""One plant on three test hosts, made once for all live tests of a run and removed after them.

PLANTLINE_KEEP=1 leaves the hosts for the next run: it starts from what is there.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flink_jobs.plant import load_plant
from flink_jobs.tools.kafka import read_config

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = Path(os.environ.get("PLANTLINE_INVENTORY", "inventories/demo"))
PLANT_FILE = ROOT / INVENTORY / "group_vars" / "all" / "plant.yml"
KEEP = bool(os.environ.get("PLANTLINE_KEEP"))
DATA = ROOT.parent / "shared" / "data"


_NOTES = []


def note(text):
    """A figure of this run, shown at its end."""
    _NOTES.append(text)


def pytest_terminal_summary(terminalreporter):
    if _NOTES:
        terminalreporter.section("figures of this run")
        for text in _NOTES:
            terminalreporter.write_line(text)


def run(*command, check=True, **options):
    """A command in the project's root; its output is shown where it fails."""
    result = subprocess.run(
        list(map(str, command)), cwd=ROOT, text=True, capture_output=True, check=False, **options
    )
    if check and result.returncode:
        pytest.fail(
            f"{' '.join(map(str, command))}: exit code {result.returncode}\n"
            f"{result.stdout[-6000:]}\n{result.stderr[-3000:]}",
            pytrace=False,
        )
    return result


def tool(name, *arguments, check=True):
    return run(sys.executable, "-m", f"flink_jobs.tools.{name}", *arguments, check=check)


def playbook(name, *arguments, inventory=INVENTORY):
    """Run a playbook; returns (seconds, {host: {changed, failed, …}})."""
    begin = time.monotonic()
    result = run("ansible-playbook", name, "-i", inventory, *arguments, stdin=subprocess.DEVNULL)
    seconds = time.monotonic() - begin
    note(f"{name} {' '.join(arguments)}: {seconds:.0f} s")
    recap = {}
    for line in result.stdout.split("PLAY RECAP")[1].splitlines():
        host, separator, counts = line.partition(" : ")
        if separator and counts.startswith("ok="):
            recap[host.strip()] = {k: int(v) for k, v in (c.split("=") for c in counts.split())}
    return seconds, recap


def on(host, command, check=True):
    """Output of a shell command on a host."""
    config = ROOT / "out" / "hosts" / INVENTORY.name / "ssh_config"
    return run("ssh", "-F", config, host, command, check=check).stdout.strip()


def rest(path):
    """An answer of Flink's JobManager."""
    return json.loads(on("node1", f"curl -fsS http://localhost:8081{path}"))


def eventually(what, condition, within_s):
    """The first true value of `condition()`, asked until it comes or time is up."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(1)  # between two questions, not instead of one
    pytest.fail(f"{what}: not within {within_s} s", pytrace=False)


@pytest.fixture(scope="session")
def kind():
    return load_plant(PLANT_FILE).machine_types["pump"]


@pytest.fixture(scope="session")
def bare_hosts(tmp_path_factory):
    """Three hosts with nothing on them, and a model to deploy."""
    normal = tmp_path_factory.mktemp("normal") / "normal.csv"
    tool(
        *("simulate", "--plant", PLANT_FILE, "--machines", 12, "--seed", 1),
        *("--readings", 43_200, "--faults", "none", "--out", normal),
    )
    run(
        *(ROOT / ".venv-train" / "bin" / "python", "-m", "flink_jobs.tools.train"),
        *("--type", "pump", "--plant", PLANT_FILE, "--data", normal),
        *("--out", ROOT / "out" / "models" / "pump-anomaly.onnx"),
    )
    if not KEEP:
        run(sys.executable, "tools/hosts.py", "down", INVENTORY)
    run(sys.executable, "tools/vault.py", "make", INVENTORY)
    run(sys.executable, "tools/hosts.py", "up", INVENTORY)
    yield
    if not KEEP:
        run(sys.executable, "tools/hosts.py", "down", INVENTORY)


@pytest.fixture(scope="session")
def plant(bare_hosts):
    """The plant after its first site.yml; the value is the recap of that run."""
    return playbook("site.yml")[1]


@pytest.fixture(scope="session")
def client(plant):
    """Client settings as any program would take them."""
    return read_config(ROOT / "out" / "client.conf")
