"""Preflight on hosts: nothing when all is well, and everything that is not."""

import subprocess

import pytest
from conftest import INVENTORY, on, playbook, run

PORT = 9999


def test_a_plant_at_work_is_ready_and_nothing_changes(plant):
    _, recap = playbook("playbooks/preflight.yml")
    assert sum(counts["changed"] for counts in recap.values()) == 0


@pytest.fixture
def foreign(plant):
    """A process on node1 that takes a port, and answers nobody else there.

    Without a firewall there: what that refuses, the run would open.
    """
    serve = f"python3 -m http.server --bind 127.0.0.1 {PORT}"
    on("node1", f"systemd-run --unit=foreign {serve}")
    on("node1", "systemctl stop plantline-firewall")
    yield
    on("node1", "systemctl start plantline-firewall")
    on("node1", "systemctl stop foreign")


def test_what_is_wrong_with_hosts_is_told_all_at_once(foreign):
    moved = ("-e", f"node_exporter_port={PORT}")
    command = ["ansible-playbook", "playbooks/preflight.yml", "-i", INVENTORY, *moved]
    done = run(*command, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert "2 problems. Nothing was changed." in done.stdout
    assert f"port {PORT} is taken by python3 of user root (foreign.service)" in done.stdout
    assert f"node3: way to node1: 10.203.77.11 port {PORT}: refused" in done.stdout
    # On the others preflight listened for a moment, and does not any more.
    for host in ("node2", "node3"):
        assert f":{PORT} " not in on(host, "ss -Hltn")
