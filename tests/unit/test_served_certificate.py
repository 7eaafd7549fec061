"""A service that shows a certificate that has ended is told from one that does not answer."""

import socket
import ssl
import threading
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from plugins.module_utils.pki_authority import issue, new_ca
from plugins.module_utils.pki_certificates import Identity, _key_bytes, _request, pem
from plugins.module_utils.served_certificate import has_ended, trusting

HOUR = timedelta(hours=1)


class Authority:
    def __init__(self, folder):
        self.folder = folder
        self.certificate, self.key = new_ca("small", datetime.now(UTC), 24 * HOUR)
        self.ca = folder / "ca.pem"
        self.ca.write_text(pem(self.certificate))

    def bundle(self, name, validity=HOUR):
        """Key and certificate in a file; it was issued just now, or ended when it is negative."""
        key = ec.generate_private_key(ec.SECP256R1())
        who = Identity(name, name, names=("elsewhere",))
        now = datetime.now(UTC)
        signed = issue(self.certificate, self.key, _request(who, key), who, now, validity)
        file = self.folder / f"{name}.pem"
        file.write_text(_key_bytes(key).decode() + pem(signed))
        return file


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def client(authority):
    return trusting(str(authority.ca), str(authority.bundle("client")))


@contextmanager
def served(bundle, ca):
    """A listener that asks for a certificate, as Kafka's do; yields its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(bundle)

    def shake_hands():
        connection, _ = listener.accept()
        # The client may end it, which is what is asked about.
        with closing(connection), suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=shake_hands)
        server.start()
        yield listener.getsockname()[1]
        server.join()


def test_a_certificate_that_has_ended_is_seen(authority, client):
    with served(authority.bundle("kafka", -HOUR / 2), authority.ca) as port:
        assert has_ended("127.0.0.1", port, client)


def test_one_that_is_valid_has_not_whatever_name_the_host_is_asked_by(authority, client):
    with served(authority.bundle("kafka"), authority.ca) as port:
        assert not has_ended("127.0.0.1", port, client)


def test_one_of_a_ca_that_is_not_trusted_has_not_ended(authority, client, tmp_path):
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    with served(other.bundle("kafka"), authority.ca) as port:
        assert not has_ended("127.0.0.1", port, client)


def test_who_does_not_answer_shows_none(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert not has_ended("127.0.0.1", port, client)


def test_who_speaks_something_else_shows_none(client):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            connection, _ = listener.accept()
            with closing(connection):
                connection.recv(4096)
                connection.sendall(b"plaintext")

        server = threading.Thread(target=refuse)
        server.start()
        assert not has_ended("127.0.0.1", listener.getsockname()[1], client)
        server.join()
