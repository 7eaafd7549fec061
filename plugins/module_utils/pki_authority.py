"""The plant's certificate authority (CA), on the control node, and how one follows another.

A CA is a folder with `ca.crt` (its certificate, then its issuers' up to the root) and `ca.key`
(encrypted by ansible-vault). Which CA issues and which are trusted follows from which folders are
there, so that a change of CA goes on wherever it was interrupted:

    phase     ca/   other folder   issues         trusted
    steady    old                  old            old
    trust     old   next/          old            old, new
    reissue   new   previous/      new            new, old
    drop      new   dropped/       new            new

A phase is left only when every host has taken it in. Each step is one rename; between `trust` and
`reissue` there are two, and what lies between them is completed by the next look.
"""

from __future__ import annotations

import enum
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from cryptography.x509.oid import NameOID

from plugins.module_utils.pki_certificates import (
    STORE_PASSWORD,
    USAGES,
    Authority,
    Identity,
    PkiError,
    ends,
    key_id,
    pem,
    read_certificates,
)

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
# A host's clock may be a little behind the control node's.
BEFORE = timedelta(hours=1)


class Phase(enum.StrEnum):
    """Where a change of CA stands."""

    STEADY = "steady"
    TRUST = "trust"
    REISSUE = "reissue"
    DROP = "drop"


@dataclass(frozen=True)
class Vault:
    """How keys are kept. Both functions raise PkiError."""

    encrypt: Callable[[bytes], bytes]
    decrypt: Callable[[bytes], bytes]


class Store:
    """The folder of a plant's CAs."""

    def __init__(self, folder: Path, vault: Vault) -> None:
        self.folder = folder
        self._vault = vault

    def exists(self) -> bool:
        """Whether there is a CA."""
        self._settle()
        return (self.folder / "ca").is_dir()

    def phase(self) -> Phase:
        """Where a change of CA stands; raises PkiError for folders that make no sense together."""
        self._settle()
        others = {
            name: phase
            for name, phase in (
                ("next", Phase.TRUST),
                ("previous", Phase.REISSUE),
                ("dropped", Phase.DROP),
            )
            if (self.folder / name).is_dir()
        }
        if len(others) > 1:
            raise PkiError(
                f"{self.folder} has {' and '.join(others)}: a change of CA has one of them at a "
                "time. Take the folder from its last copy."
            )
        return next(iter(others.values()), Phase.STEADY)

    def authority(self) -> Authority:
        """Who issues and who is trusted; raises PkiError."""
        beside = {Phase.TRUST: "next", Phase.REISSUE: "previous"}.get(self.phase())
        chain = self._chain("ca")
        roots = [chain[-1]] + ([self._chain(beside)[-1]] if beside else [])
        return Authority(chain, tuple(roots))

    def make(self, plant: str, now: datetime, validity: timedelta) -> bool:
        """Makes the first CA; False if there is one. Raises PkiError."""
        return not self.exists() and self._make("ca", plant, now, validity)

    def begin(self, plant: str, now: datetime, validity: timedelta) -> bool:
        """Makes the CA that follows, unless it was given or a change is under way.

        Whether this began a change. Raises PkiError.
        """
        if self.phase() is not Phase.STEADY:
            return False
        return self._make("next", plant, now, validity)

    def advance(self) -> Phase:
        """Goes to the next phase, once all hosts are known to have taken in the present one."""
        phase = self.phase()
        if phase is Phase.TRUST:
            self._signing_key("next")
            (self.folder / "ca").rename(self.folder / "previous")
            self._settle()
        elif phase is Phase.REISSUE:
            (self.folder / "previous").rename(self.folder / "dropped")
        elif phase is Phase.DROP:
            shutil.rmtree(self.folder / "dropped")
        return self.phase()

    def sign(self, request: str, identity: Identity, now: datetime, validity: timedelta) -> str:
        """The certificate (PEM) of an identity, for the key of its request; raises PkiError."""
        chain = self._chain("ca")
        if ends(chain[0]) <= now:
            raise PkiError(
                f"{self.folder}/ca/ca.crt ended on {ends(chain[0]):%Y-%m-%d} and cannot issue "
                "certificates any more: playbooks/ca_change.yml puts another CA in its place"
            )
        return pem(issue(chain[0], self._signing_key("ca"), request, identity, now, validity))

    def _settle(self) -> None:
        """Completes an exchange that was cut between its two renames."""
        ca, following, previous = (self.folder / name for name in ("ca", "next", "previous"))
        if not ca.exists() and following.is_dir() and previous.is_dir():
            following.rename(ca)

    def _chain(self, name: str) -> tuple[x509.Certificate, ...]:
        file = self.folder / name / "ca.crt"
        try:
            chain = read_certificates(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise PkiError(f"{file}: {error.strerror}") from error
        if not chain:
            raise PkiError(f"{file} holds no certificate (PEM)")
        check_chain(chain, str(file))
        return chain

    def _signing_key(self, name: str) -> SigningKey:
        file = self.folder / name / "ca.key"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise PkiError(f"{file}: {error.strerror}") from error
        try:
            key = serialization.load_pem_private_key(self._vault.decrypt(content), password=None)
        except (ValueError, TypeError) as error:
            raise PkiError(f"{file} holds no key (PEM, encrypted by ansible-vault)") from error
        if not isinstance(key, SigningKey):
            raise PkiError(f"{file}: the key must be an EC or RSA key")
        if key.public_key() != self._chain(name)[0].public_key():
            raise PkiError(f"{file} is not the key of the first certificate in ca.crt beside it")
        return key

    def _make(self, name: str, plant: str, now: datetime, validity: timedelta) -> bool:
        """Makes a CA beside the folder and puts it there by a rename. Whether it was this call."""
        self.folder.mkdir(parents=True, exist_ok=True)
        certificate, key = new_ca(plant, now, validity)
        beside = self.folder / f".{name}.{os.getpid()}"
        beside.mkdir(mode=0o755)
        try:
            (beside / "ca.crt").write_text(pem(certificate), encoding="utf-8")
            secret = beside / "ca.key"
            secret.touch(mode=0o600)
            secret.write_bytes(self._vault.encrypt(_key_bytes(key)))
            beside.rename(self.folder / name)
        except OSError:
            # Another run was faster, and its CA counts.
            if (self.folder / name).is_dir():
                return False
            raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return True


def behind(authority: Authority, hosts: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """Hosts that have not taken in what the CAs say now, one line each.

    hosts: by name, what pki_certificates returned on it in this run; None where it did not run.
    """
    trusted = [fingerprint(one) for one in authority.trusted]
    issuer = key_id(authority.issuer).hex()
    problems = []
    for host, told in hosts.items():
        if not told or told.get("failed") or told.get("unreachable"):
            problems.append(f"{host}: was not part of this run; every host has to be")
        elif told.get("trusted") != trusted:
            problems.append(f"{host}: trusts what an earlier phase said; run again")
        else:
            problems += [
                f"{host}: {name} is signed by another CA; remove its folder below "
                "/etc/plantline/pki if nothing uses it any more"
                for name, signed_by in told["issuers"].items()
                if signed_by != issuer
            ]
    return problems


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def new_ca(
    plant: str, now: datetime, validity: timedelta
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A CA that signs itself. Each has a name of its own, or clients would confuse two of them."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Plantline CA {plant} {secrets.token_hex(4)}")]
    )
    usage = _key_usage(certificates=True)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def issue(
    issuer: x509.Certificate,
    key: SigningKey,
    request: str,
    identity: Identity,
    now: datetime,
    validity: timedelta,
) -> x509.Certificate:
    """The certificate of an identity. Of the request only the proven public key is used.

    Raises PkiError for a request whose signature is wrong or whose key is no P-256 key.
    """
    asked = x509.load_pem_x509_csr(request.encode())
    public = asked.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(
        public.curve, ec.SECP256R1
    ):
        raise PkiError(f"the request for {identity.name} has no P-256 key")
    if not asked.is_signature_valid:
        raise PkiError(f"the request for {identity.name} is not signed by its own key")
    usages = x509.ExtendedKeyUsage([USAGES[usage] for usage in identity.usages])
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.common_name)]))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BEFORE, issuer.not_valid_before_utc))
        .not_valid_after(min(now + validity, ends(issuer)))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificates=False), critical=True)
        .add_extension(usages, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(key_id(issuer), None, None), critical=False)
    )
    if names := identity.alternative_names():
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256())


def check_chain(chain: Sequence[x509.Certificate], told: str) -> None:
    """Raises PkiError unless each certificate is a CA's, issued by the next, the last by itself."""
    for certificate, issuer in zip(chain, [*chain[1:], chain[-1]], strict=True):
        name = certificate.subject.rfc4514_string()
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        except x509.ExtensionNotFound:
            constraints = None
        if constraints is None or not constraints.value.ca:
            raise PkiError(f"{told}: {name} is no CA's certificate")
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            raise PkiError(
                f"{told}: the certificate of {certificate.issuer.rfc4514_string()}, which issued "
                f"{name}, has to follow it, up to the root"
            ) from None


def java_trust(certificates: Sequence[x509.Certificate]) -> bytes:
    """A PKCS#12 trust store that Java opens with STORE_PASSWORD; its salts make each one differ."""
    entries = [
        pkcs12.PKCS12Certificate(one, f"ca-{number}".encode())
        for number, one in enumerate(certificates)
    ]
    return pkcs12.serialize_java_truststore(
        entries, serialization.BestAvailableEncryption(STORE_PASSWORD)
    )


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption()
    )
