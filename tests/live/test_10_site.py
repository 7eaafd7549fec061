"""site.yml from bare hosts, again, and in check mode: what an operator relies on first."""

import pytest
from conftest import INVENTORY, KEEP, on, playbook, run

UNITS = ["kafka", "flink-jobmanager", "flink-taskmanager", "flink-clock", "ssh"]
HOSTS = ["node1", "node2", "node3"]


def pids():
    """The main process of every service, by host and unit."""
    return {
        (host, unit): on(host, f"systemctl show -p MainPID --value {unit}")
        for host in HOSTS
        for unit in UNITS
    }


def changed(recap):
    return {host: counts["changed"] for host, counts in recap.items() if counts["changed"]}


@pytest.mark.skipif(KEEP, reason="hosts of an earlier run are not bare")
def test_check_mode_passes_on_bare_hosts(bare_hosts):
    playbook("site.yml", "--check", "--diff")


def test_site_builds_the_plant(plant):
    assert all(counts["failed"] == 0 for counts in plant.values())


def test_a_second_run_changes_nothing_and_restarts_nothing(plant):
    before = pids()
    _, recap = playbook("site.yml")
    assert changed(recap) == {}
    assert pids() == before


def test_check_mode_passes_on_built_hosts_and_finds_nothing(plant):
    before = pids()
    _, recap = playbook("site.yml", "--check", "--diff")
    assert changed(recap) == {}
    assert pids() == before


def test_the_plant_answers_as_its_clients_expect(plant):
    run("ansible-playbook", "playbooks/verify.yml", "-i", INVENTORY)
