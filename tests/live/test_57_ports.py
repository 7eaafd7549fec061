"""Every port that is open on a host: encrypted, and closed to whom the plant does not know.

Asked from the host itself, since the firewall lets nobody else come to all of them.
"""

import functools
from pathlib import Path

import pytest
from authority import Authority
from conftest import asked, eventually, on
from tls import examine

HOSTS = ["node1", "node2", "node3"]
PLAINTEXT = {
    22: "SSH encrypts in a way of its own, and asks for a key",
    9249: "Flink's reporter knows no TLS; the firewall lets only monitoring come",
    9250: "as above",
}
# They ask for no certificate, and answer nothing without a password.
BY_PASSWORD = {
    9092: "Kafka's programs",
    7071: "Prometheus, for Kafka's figures",
    3000: "Grafana's users",
}
STRAY = 7198


@pytest.fixture(scope="module")
def ports(settings, ca, authority, tmp_path_factory):
    """What is wrong with each port of a host."""
    folder = tmp_path_factory.mktemp("certificates")
    certificates = {
        "ca": Path(ca).read_text(),
        "accepted": authority.bundle("operator", folder).read_text(),
    }
    refused = {
        "an expired certificate": authority.bundle("operator", folder, expired=True).read_text(),
        "a certificate of another CA": Authority.another().bundle("operator", folder).read_text(),
    }

    @functools.cache
    def found(host):
        address = settings.value(host, "ansible_host")
        answer = asked(host, examine, address=address, refused=refused, **certificates)
        return {int(port): problems for port, problems in answer.items()}

    return found


def expected(port, problems):
    """Whether this is all that is said of a port, and declared above."""
    if port in BY_PASSWORD:
        return all(": lets in " in problem for problem in problems)
    return port in PLAINTEXT or not problems


@pytest.mark.parametrize("host", HOSTS)
def test_every_port_is_encrypted_and_lets_in_only_whom_the_plant_knows(ports, host):
    found = ports(host)
    wrong = {port: said for port, said in found.items() if not expected(port, said)}
    assert wrong == {}
    # It has seen them.
    assert found.keys() >= {22, 7071, 9092, 9093, 9094, 9096, 9100, 6121, 6122}


def test_nothing_is_declared_that_need_not_be(ports):
    # node1 has all of Flink's processes.
    found = ports("node1")
    assert [port for port in PLAINTEXT if not found.get(port)] == []


def test_a_port_that_nobody_declared_is_found(ports):
    on("node2", f"systemd-run --unit=stray python3 -m http.server --directory /srv {STRAY}")
    try:
        eventually("it listens", lambda: f":{STRAY} " in on("node2", "ss -Hltn"), 30)
        ports.cache_clear()
        said = ports("node2")[STRAY]
    finally:
        on("node2", "systemctl stop stray")
    assert not expected(STRAY, said)
    assert "answers in plaintext" in said[0]
