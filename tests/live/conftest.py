"""One plant on three test hosts, made once for all live tests of a run and removed after them.

PLANTLINE_KEEP=1 leaves the hosts for the next run: it starts from what is there.
"""

import inspect
import json
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from authority import Authority

from flink_jobs.plant import load_plant
from flink_jobs.tools.kafka import read_config
from ops.plant import Plant

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
    return seconds, recap_of(result.stdout)


def recap_of(output):
    """What a run of a playbook counts of each host at its end: {host: {changed, failed, …}}."""
    recap = {}
    for line in output.split("PLAY RECAP")[1].splitlines():
        host, separator, counts = line.partition(" : ")
        if separator and counts.startswith("ok="):
            recap[host.strip()] = {k: int(v) for k, v in (c.split("=") for c in counts.split())}
    return recap


def on(host, command, check=True):
    """Output of a shell command on a host."""
    config = ROOT / "out" / "hosts" / INVENTORY.name / "ssh_config"
    return run("ssh", "-F", config, host, command, check=check).stdout.strip()


def asked(host, function, **arguments):
    """What a function says on a host. Its module needs nothing but Python, and is sent there."""
    module = inspect.getsource(inspect.getmodule(function))
    call = f"{function.__name__}(**json.loads({json.dumps(arguments)!r}))"
    config = ROOT / "out" / "hosts" / INVENTORY.name / "ssh_config"
    program = f"{module}\nimport json\nprint(json.dumps({call}))\n"
    return json.loads(run("ssh", "-F", config, host, "python3 -", input=program).stdout)


def curl(host, identity, request, check=True):
    """The answer of a server of a host to one of its own identities."""
    pki = "/etc/plantline/pki"
    who = f"--cacert {pki}/ca.pem --cert {pki}/{identity}/bundle.pem"
    return on(host, f"curl -fsS --max-time 20 {who} {request}", check=check)


def rest(path, check=True):
    """An answer of Flink's JobManager."""
    return json.loads(curl("node1", "flink", f"'https://localhost:8081{path}'", check) or "null")


def operator_context():
    """Of TLS connections of the control node: trusts the plant, and is its operator."""
    pki = ROOT / "out" / "pki" / INVENTORY.name
    context = ssl.create_default_context(cafile=pki / "ca.pem")
    context.load_cert_chain(pki / "operator" / "bundle.pem")
    return context


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
def again(plant):
    """A second run of site.yml, which says all that it can say."""
    begin = time.monotonic()
    result = run("ansible-playbook", "site.yml", "-i", INVENTORY, "-vvv", "--diff")
    note(f"site.yml again, -vvv --diff: {time.monotonic() - begin:.0f} s")
    return result


@pytest.fixture(scope="session")
def client(plant):
    """Client settings as any program would take them."""
    return read_config(ROOT / "out" / "client.conf")


# Who is who


@pytest.fixture(scope="session")
def settings(plant):
    """The inventory as it is evaluated."""
    return Plant(ROOT / INVENTORY)


@pytest.fixture(scope="session")
def pki(plant):
    """The folder of what the control node trusts, and of whom it is."""
    return ROOT / "out" / "pki" / INVENTORY.name


@pytest.fixture(scope="session")
def ca(pki):
    return str(pki / "ca.pem")


@pytest.fixture(scope="session")
def operator(pki):
    return pki / "operator" / "bundle.pem"


@pytest.fixture(scope="module")
def authority(plant):
    """The plant's own CA, whose key only the vault's password opens."""
    folder = ROOT / INVENTORY / "pki" / "ca"
    key = run("ansible-vault", "decrypt", "--output", "-", folder / "ca.key").stdout
    return Authority.of((folder / "ca.crt").read_bytes(), key.encode())
