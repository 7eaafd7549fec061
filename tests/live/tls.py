"""Certificates that a plant must refuse, and what a listener answers to whoever asks.

Nothing here knows how Kafka is configured: a question is sent, and it is answered or it is not.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plugins.module_utils.pki_authority import SigningKey, issue, new_ca
from plugins.module_utils.pki_certificates import Identity, pem

PATIENCE_S = 20.0
DAY = timedelta(days=1)
CORRELATION = 0x504C414E
# Of clients without a name. The first is what a listener answers before it knows who
# asks; the second asks for all topics.
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, CORRELATION, -1)
METADATA = struct.pack(">ihhihi", 14, 3, 1, CORRELATION, -1, -1)


@dataclass(frozen=True)
class Authority:
    """A certificate authority: the plant's own, or another one of the same words."""

    certificate: x509.Certificate
    key: SigningKey

    @classmethod
    def another(cls) -> Authority:
        return cls(*new_ca("another", datetime.now(UTC), 365 * DAY))

    @classmethod
    def of(cls, certificate: bytes, key: bytes) -> Authority:
        """From PEM texts."""
        loaded = serialization.load_pem_private_key(key, password=None)
        assert isinstance(loaded, SigningKey)
        return cls(x509.load_pem_x509_certificate(certificate), loaded)

    def trust(self, folder: Path) -> Path:
        """A file that names it as to be trusted."""
        file = folder / "ca.pem"
        file.write_text(pem(self.certificate))
        return file

    def bundle(self, name: str, folder: Path, *, expired: bool = False) -> Path:
        """Key and certificate of somebody of that name, in one file."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        asked = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        now = datetime.now(UTC)
        begin, validity = (now - timedelta(minutes=40), timedelta(minutes=20))
        if not expired:
            begin, validity = now, DAY
        who = Identity(name, name, usages=("client",))
        signed = issue(self.certificate, self.key, asked.decode(), who, begin, validity)
        file = folder / f"{name}-{signed.serial_number:x}.pem"
        file.touch(mode=0o600)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        file.write_text(private.decode() + pem(signed))
        return file


def trusting(ca: str, bundle: str | Path | None = None) -> ssl.SSLContext:
    """A client that trusts this CA, with a certificate of its own or without one."""
    context = ssl.create_default_context(cafile=ca)
    if bundle is not None:
        context.load_cert_chain(bundle)
    return context


def only(version: ssl.TLSVersion, ca: str, bundle: str | Path | None = None) -> ssl.SSLContext:
    """A client that speaks one version of TLS, also one that nobody should speak any more."""
    context = trusting(ca, bundle)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


@contextmanager
def connected(
    address: str, port: int, context: ssl.SSLContext | None
) -> Iterator[socket.socket | ssl.SSLSocket]:
    """A connection, encrypted if there is a context; raises OSError."""
    with socket.create_connection((address, port), PATIENCE_S) as plain:
        if context is None:
            yield plain
        else:
            with context.wrap_socket(plain, server_hostname=address) as encrypted:
                yield encrypted


def answers(
    address: str,
    port: int,
    context: ssl.SSLContext | None = None,
    question: bytes = API_VERSIONS,
) -> bool:
    """Whether Kafka answers a question there; silence is no refusal and raises TimeoutError."""
    try:
        with connected(address, port, context) as stream:
            stream.sendall(question)
            answer = stream.recv(4096)
    except TimeoutError:
        raise
    except OSError:
        return False
    return len(answer) >= 8 and struct.unpack(">i", answer[4:8])[0] == CORRELATION


def alert(address: str, port: int, context: ssl.SSLContext) -> str | None:
    """The words with which the other side ends the handshake; None if it goes well."""
    try:
        with connected(address, port, context):
            return None
    except ssl.SSLError as refused:
        return refused.reason
