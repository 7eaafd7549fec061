"""site.yml from bare hosts, again, and in check mode: what an operator relies on first."""

import orjson
import pytest
from conftest import INVENTORY, KEEP, PLANT_FILE, on, playbook, recap_of, run

from flink_jobs.plant import load_plant, registrations
from flink_jobs.tools.kafka import read_all

UNITS = [
    *("kafka", "flink-jobmanager", "flink-taskmanager", "flink-clock", "ssh"),
    *("plantline-exporter", "plantline-heartbeat"),
]
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


def test_declared_machines_are_known_to_every_reader(client):
    known = [orjson.loads(message.value()) for message in read_all(client, "machines")]
    for machine in registrations(load_plant(PLANT_FILE)):
        assert known.count(machine) == 1


def test_a_second_run_changes_nothing_and_restarts_nothing(plant, request):
    before = pids()
    assert changed(recap_of(request.getfixturevalue("again").stdout)) == {}
    assert pids() == before


def test_check_mode_passes_on_built_hosts_and_finds_nothing(plant):
    before = pids()
    _, recap = playbook("site.yml", "--check", "--diff")
    assert changed(recap) == {}
    assert pids() == before


def test_the_plant_answers_as_its_clients_expect(plant):
    run("ansible-playbook", "playbooks/verify.yml", "-i", INVENTORY)
