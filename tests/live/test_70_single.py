"""inventories/single for real: everything on one host, twice, and asked as a client would.

Comes last and takes the other hosts' memory: they are removed first, or stopped if they are kept.
"""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import INVENTORY, KEEP, ROOT, note, playbook, run, tool

ADDRESS, CONTROL_NODE = "10.203.79.11", "10.203.79.1"
CLIENT_FILES = ("client.conf", "client.properties")
# What an engineer adds for this host: how to reach it, its share of this machine, the model.
OWN = """---
ansible_ssh_private_key_file: out/hosts/single/id_ed25519
ansible_ssh_common_args: >-
  -o UserKnownHostsFile=out/hosts/single/known_hosts -o StrictHostKeyChecking=yes
  -o IdentitiesOnly=yes
host_memory_mb: 6144
firewall_operators: [{control_node}]
plant_models: {{pump: {model}}}
"""


def hosts(command, inventory, *names):
    return run(sys.executable, "tools/hosts.py", command, inventory, *names, check=False)


@pytest.fixture(scope="module")
def room():
    """The other fleet's memory, and its client files as they were."""
    up = hosts("status", INVENTORY).returncode == 0
    names = [line.split("\t")[0] for line in hosts("status", INVENTORY).stdout.splitlines()]
    kept = {name: ROOT / "out" / name for name in CLIENT_FILES}
    before = {name: file.read_bytes() for name, file in kept.items() if file.exists()}
    if up and KEEP:
        hosts("stop", INVENTORY, *names)
    elif up:
        hosts("down", INVENTORY)
    yield
    for name, content in before.items():
        kept[name].write_bytes(content)
    if up and KEEP:
        hosts("start", INVENTORY, *names)


@pytest.fixture(scope="module")
def inventory(room, tmp_path_factory):
    """A copy of inventories/single with this host's address, the host up and bare."""
    folder = tmp_path_factory.mktemp("inventories") / "single"
    shutil.copytree(ROOT / "inventories" / "single", folder)
    file = folder / "hosts.yml"
    assert "192.0.2.10" in file.read_text()
    file.write_text(file.read_text().replace("192.0.2.10", ADDRESS))

    plant = folder / "group_vars" / "all" / "plant.yml"
    normal, model = folder.parent / "normal.csv", folder.parent / "pump-anomaly.onnx"
    simulated = ("--machines", 12, "--readings", 43_200, "--faults", "none", "--out", normal)
    tool("simulate", "--plant", plant, *simulated)
    run(
        *(ROOT / ".venv-train" / "bin" / "python", "-m", "flink_jobs.tools.train"),
        *("--type", "pump", "--plant", plant, "--data", normal, "--out", model),
    )
    (plant.parent / "own.yml").write_text(OWN.format(model=model, control_node=CONTROL_NODE))

    run(sys.executable, "tools/vault.py", "make", folder)
    run(sys.executable, "tools/hosts.py", "down", folder)
    run(sys.executable, "tools/hosts.py", "up", folder)
    yield folder
    run(sys.executable, "tools/hosts.py", "down", folder)


@pytest.fixture(scope="module")
def built(inventory):
    seconds, recap = playbook("site.yml", inventory=inventory)
    note(f"one host, everything on it: {seconds:.0f} s")
    return recap


def test_a_dry_run_of_the_bare_host_passes(inventory):
    playbook("site.yml", "--check", "--diff", inventory=inventory)


def test_site_builds_the_whole_plant_on_one_host(built):
    assert built["plant"]["changed"] > 0
    assert built["plant"]["failed"] == 0


def test_a_second_run_changes_nothing(built, inventory):
    _, recap = playbook("site.yml", inventory=inventory)
    assert {host: counts["changed"] for host, counts in recap.items()} == dict.fromkeys(recap, 0)


def test_the_plant_answers_as_its_clients_expect(built, inventory):
    run("ansible-playbook", "playbooks/verify.yml", "-i", inventory, stdin=subprocess.DEVNULL)


def test_its_prometheus_sees_every_part(built, inventory):
    config = ROOT / "out" / "hosts" / "single" / "ssh_config"
    pki = "/etc/plantline/pki"
    who = f"--cacert {pki}/ca.pem --cert {pki}/prometheus/bundle.pem"
    ask = f"curl -fsS {who} https://localhost:9090/api/v1/targets"
    answer = json.loads(run("ssh", "-F", config, "plant", ask).stdout)
    health = {(t["labels"]["job"], t["health"]) for t in answer["data"]["activeTargets"]}
    jobs = ("alertmanager", "flink", "kafka", "node", "plant", "prometheus")
    assert health == {(job, "up") for job in jobs}
