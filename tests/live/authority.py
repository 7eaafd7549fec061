"""Certificates that a plant must accept, and those it must refuse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from plugins.module_utils.pki_authority import SigningKey, issue, new_ca
from plugins.module_utils.pki_certificates import Identity, pem

DAY = timedelta(days=1)


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
