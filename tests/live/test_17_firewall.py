"""The firewall when something changes: rules, hosts, and connections that stand already."""

import contextlib
import socket
import subprocess
import sys

import pytest
from conftest import INVENTORY, eventually, on, run

HOST, PORT = "node2", 7198
# Sends a byte every 50 ms to whoever connects, and never waits for an answer.
SERVER = (
    "import socket, time; s = socket.create_server(('', {port}))\n"
    "c, _ = s.accept()\n"
    "while True: c.send(b'x'); time.sleep(0.05)"
)


def loaded():
    return on(HOST, "nft --stateless list table inet plantline")


def connect(port, host=HOST):
    address = on(host, "hostname -I").split()[0]
    return socket.create_connection((address, port), timeout=5)


def refused(port):
    with pytest.raises(OSError, match="No route to host"):
        connect(port)
    return True


def test_rules_that_would_shut_the_run_out_are_taken_back(plant):
    before = loaded()
    elsewhere = ("-e", '{"firewall_operators": ["192.0.2.99"]}', "--limit", HOST)
    command = ["ansible-playbook", "playbooks/firewall.yml", "-i", INVENTORY, *elsewhere]
    done = run(*command, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert "no new login succeeds; the former state is back" in " ".join(done.stdout.split())
    assert loaded() == before


@pytest.fixture
def open_host(plant):
    """A host whose firewall is off, for as long as the test does not start it."""
    on(HOST, "systemctl stop plantline-firewall")
    yield
    on(HOST, "systemctl start plantline-firewall")


@pytest.fixture
def server(open_host):
    script = SERVER.format(port=PORT)
    on(HOST, f'systemd-run --unit=sender python3 -c "{script}"')
    eventually("the server listens", lambda: f":{PORT} " in on(HOST, "ss -Hltn"), 30)
    yield
    on(HOST, "systemctl stop sender")


def test_connections_that_stand_go_on_when_the_firewall_starts(server):
    with contextlib.closing(connect(PORT)) as standing:
        assert standing.recv(1) == b"x"
        on(HOST, "systemctl start plantline-firewall")
        assert refused(PORT)
        received = b""
        while len(received) < 100:
            more = standing.recv(64)
            assert more, "the connection has ended"
            received += more


def test_rules_that_were_removed_by_hand_come_back_with_the_next_run(plant):
    before = loaded()
    on(HOST, "nft delete table inet plantline")
    run("ansible-playbook", "playbooks/firewall.yml", "-i", INVENTORY, "--limit", HOST)
    assert loaded() == before


def test_a_host_that_starts_has_its_rules_before_its_services(plant):
    before = loaded()
    run(sys.executable, "tools/hosts.py", "stop", INVENTORY, HOST)
    run(sys.executable, "tools/hosts.py", "start", INVENTORY, HOST)
    assert loaded() == before
    assert refused(9100)
    started = "systemctl show --value -p ActiveEnterTimestampMonotonic"
    assert int(on(HOST, f"{started} plantline-firewall")) < int(on(HOST, f"{started} kafka"))
    status = (sys.executable, "-m", "ops", "status", "--inventory", INVENTORY)
    eventually("the plant is well", lambda: run(*status, check=False).returncode == 0, 300)
