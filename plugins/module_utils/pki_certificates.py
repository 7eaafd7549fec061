"""The certificates of a host: which are due, the keys they are for, and the files services read.

    <folder>/ca.pem                      the certificates that are trusted
    <folder>/ca.p12                      the same for Java; its password is STORE_PASSWORD
    <folder>/<identity>/cert.pem         certificate, then those of its issuers up to the root
    <folder>/<identity>/key.pem          its key, PKCS#8
    <folder>/<identity>/bundle.pem       key and cert.pem in one file, so that both change at once
    <folder>/<identity>/keystore.p12     the same for Java, where asked for

The files are the service's, readable for nobody else; their folder is root's, so that a service
can neither put a link where root will write nor take the files away. A key is made here and stays
here. Until its certificate comes it waits in key.next.pem, beside the pair that is in use: an
interruption at any moment leaves that pair whole, or one that the next run replaces. A file is
replaced only if its content is another, so its digest tells whether whoever reads it has something
to read again.

Written for cryptography 38 (Debian 12) and later.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

USAGES = {
    "server": ExtendedKeyUsageOID.SERVER_AUTH,
    "client": ExtendedKeyUsageOID.CLIENT_AUTH,
}
# Java wants one for each store. It protects nothing: who may read a key's file could as well read a
# password's beside it, and settings with a secret in them could not be shown in a diff.
STORE_PASSWORD = b"plantline"
METRIC = "plantline_certificate_expiry_timestamp_seconds"


class PkiError(Exception):
    """Something a person has to mend; the message says where and how."""


@dataclass(frozen=True)
class Identity:
    """A certificate that a host shall have. names: host names and IP addresses others reach it by.

    owner: user that reads its key; None: whoever runs.
    """

    name: str
    common_name: str
    names: tuple[str, ...] = ()
    usages: tuple[str, ...] = ("server", "client")
    owner: str | None = None
    keystore: bool = False

    def alternative_names(self) -> list[x509.GeneralName]:
        """The names as they are in the certificate."""
        return [_general_name(name) for name in self.names]


def identity(given: Mapping[str, Any]) -> Identity:
    """An identity from a task's arguments, whose defaults the module has filled in."""
    return Identity(
        name=given["name"],
        common_name=given.get("common_name") or given["name"],
        names=tuple(given.get("names") or ()),
        usages=tuple(given.get("usages") or USAGES),
        owner=given.get("owner"),
        keystore=bool(given.get("keystore")),
    )


@dataclass(frozen=True)
class Authority:
    """Who signs now, and whom to trust. chain: the issuing certificate, then its issuers."""

    chain: tuple[x509.Certificate, ...]
    trusted: tuple[x509.Certificate, ...]

    @property
    def issuer(self) -> x509.Certificate:
        """The certificate whose key signs."""
        return self.chain[0]

    @property
    def between(self) -> tuple[x509.Certificate, ...]:
        """What a service sends beside its own certificate; the root is known to the other side."""
        return tuple(one for one in self.chain if one.subject != one.issuer)


@dataclass
class Outcome:
    """What became of a host's certificates. `requests` are to be signed and brought back."""

    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    due: dict[str, str] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether a file was, or is to be, made or replaced."""
        return bool(self.after)


def ends(certificate: x509.Certificate) -> datetime:
    """When it stops to be valid; cryptography before 42 has it without a time zone."""
    with contextlib.suppress(AttributeError):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=UTC)


def key_id(certificate: x509.Certificate) -> bytes:
    """SHA-1 of the public key: how certificates name their issuer's key (RFC 5280, 4.2.1.2)."""
    return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


def pem(*certificates: x509.Certificate) -> str:
    """The certificates as text, one after the other."""
    return "".join(
        one.public_bytes(serialization.Encoding.PEM).decode("ascii") for one in certificates
    )


def read_certificates(text: str) -> tuple[x509.Certificate, ...]:
    """All certificates in a PEM text; () if one of them cannot be read."""
    begin = "-----BEGIN CERTIFICATE-----"
    try:
        return tuple(
            x509.load_pem_x509_certificate((begin + part).encode())
            for part in text.split(begin)[1:]
        )
    except ValueError:
        return ()


def why_due(
    identity: Identity,
    certificate: x509.Certificate | None,
    key: ec.EllipticCurvePrivateKey | None,
    authority: Authority,
    now: datetime,
    renew_before: timedelta,
) -> str | None:
    """Why the identity needs another certificate; None if it does not."""
    if certificate is None:
        return "there is none"
    if not _belong(key, certificate):
        return "its key is missing"
    if _issuer_key_id(certificate) != key_id(authority.issuer):
        return "another CA issues now"
    if _described(certificate) != _wanted(identity):
        return "its names or usages are others"
    # A certificate never outlives its CA: one that ends with it gains nothing by renewal, and a CA
    # that has ended can only be changed, which must not fail here.
    last = ends(certificate)
    if last - now < renew_before and max(last, now) < ends(authority.issuer):
        return f"it ends on {last:%Y-%m-%d}"
    return None


def reconcile(
    folder: Path,
    identities: Sequence[Identity],
    authority: Authority,
    java_trust: bytes,
    now: datetime,
    renew_before: timedelta,
    *,
    reissue: frozenset[str] = frozenset(),
    signed: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> Outcome:
    """Puts in place what was signed, mends files, and asks for certificates that are due.

    signed: certificate (PEM) by identity, for the requests of the call before. Raises PkiError.
    """
    outcome = Outcome()
    files = _Files(folder, outcome, dry_run)
    files.folder(folder, 0o755)
    files.write(folder / "ca.pem", pem(*authority.trusted).encode(), 0o644, None)
    present = _bytes(folder / "ca.p12")
    content = present if _trusts(present, authority.trusted) else java_trust
    files.write(folder / "ca.p12", content, 0o644, None)
    for identity in identities:
        _reconcile_one(
            files,
            identity,
            authority,
            (now, renew_before),
            (signed or {}).get(identity.name),
            asked=identity.name in reissue,
        )
    return outcome


def issuers(folder: Path) -> dict[str, str]:
    """By name of the folder, the key (hexadecimal) that each certificate of a host is signed with.

    All that are there, also those that nobody asks for any more.
    """
    return {
        path.parent.name: (_issuer_key_id(certificate) or b"").hex()
        for path in sorted(folder.glob("*/cert.pem"))
        if (certificate := _read_leaf(path))
    }


def write_metrics(
    file: Path, folder: Path, issuer: x509.Certificate, outcome: Outcome, *, dry_run: bool = False
) -> None:
    """The ends of all certificates of a host, for node_exporter's textfile collector."""
    series = {"ca": ends(issuer)}
    for path in sorted(folder.glob("*/cert.pem")):
        if certificates := _read_leaf(path):
            series[path.parent.name] = ends(certificates)
    lines = [
        f"# HELP {METRIC} When a certificate of this host stops to be valid, by identity.",
        f"# TYPE {METRIC} gauge",
        *(f'{METRIC}{{identity="{name}"}} {int(end.timestamp())}' for name, end in series.items()),
    ]
    files = _Files(file.parent, outcome, dry_run)
    files.folder(file.parent, 0o755)
    files.write(file, ("\n".join(lines) + "\n").encode(), 0o644, None)


def _reconcile_one(
    files: _Files,
    identity: Identity,
    authority: Authority,
    times: tuple[datetime, timedelta],
    signed: str | None,
    *,
    asked: bool,
) -> None:
    folder = files.root / identity.name
    outcome = files.outcome
    files.folder(folder, 0o750 if identity.owner else 0o700, identity.owner)
    certificate, key = _read_leaf(folder / "cert.pem"), _read_key(folder / "key.pem")
    pending = folder / "key.next.pem"
    if signed is not None:
        certificate, key = read_certificates(signed)[0], _read_key(pending)
        if not _belong(key, certificate):
            raise PkiError(
                f"{pending} is not the key that was signed: another run came between. Run again."
            )
    reason = "asked for" if asked and signed is None else None
    reason = reason or why_due(identity, certificate, key, authority, *times)
    if signed is not None and reason is not None:
        raise PkiError(f"the new certificate of {identity.name} is not as declared: {reason}")
    if certificate is not None:
        outcome.ends[identity.name] = f"{ends(certificate):%Y-%m-%dT%H:%M:%SZ}"
    if reason is not None:
        outcome.due[identity.name] = reason
        outcome.before[identity.name] = _shown(certificate)
        outcome.after[identity.name] = f"to be issued: {reason}"
        if not files.dry_run:
            new = ec.generate_private_key(ec.SECP256R1())
            files.write(pending, _key_bytes(new), 0o600, identity.owner, told=False)
            outcome.requests[identity.name] = _request(identity, new)
    if certificate is not None and key is not None and _belong(key, certificate):
        chain = (certificate, *authority.between) if reason is None else None
        _write_pair(files, identity, certificate, key, chain)
    if reason is None and not files.dry_run:
        pending.unlink(missing_ok=True)


def _write_pair(
    files: _Files,
    identity: Identity,
    certificate: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    chain: tuple[x509.Certificate, ...] | None,
) -> None:
    """All files of a pair that belongs together. chain: None to keep what cert.pem has."""
    folder, owner = files.root / identity.name, identity.owner
    if chain is None:
        chain = read_certificates(_text(folder / "cert.pem"))
    files.write(folder / "key.pem", _key_bytes(key), 0o600, owner)
    files.write(folder / "cert.pem", pem(*chain).encode(), 0o600, owner, _shown(certificate))
    files.write(folder / "bundle.pem", _key_bytes(key) + pem(*chain).encode(), 0o600, owner)
    if not identity.keystore:
        return
    content = _bytes(folder / "keystore.p12")
    if not _holds(content, key, chain):
        content = _java_keys(identity.name, key, chain)
    files.write(folder / "keystore.p12", content, 0o600, owner)


class _Files:
    """Writes files whole or not at all, notes what was done, and in a dry run does nothing."""

    def __init__(self, root: Path, outcome: Outcome, dry_run: bool) -> None:
        self.root = root
        self.outcome = outcome
        self.dry_run = dry_run

    def folder(self, path: Path, mode: int, group_of: str | None = None) -> None:
        """A folder of whoever runs, which the group of a user may look into."""
        if not path.is_dir():
            self._note(path, "absent", "a folder")
            if not self.dry_run:
                path.mkdir(mode=0o700, parents=True)
        ids = _ids(group_of, self.dry_run)
        self._permit(path, mode, ids and (os.geteuid(), ids[1]))

    def write(
        self,
        path: Path,
        content: bytes,
        mode: int,
        owner: str | None,
        shown: str = "new content",
        *,
        told: bool = True,
    ) -> None:
        if _bytes(path) != content or not path.exists():
            if told:
                self._note(path, "other content" if path.exists() else "absent", shown)
            if self.dry_run:
                return
            beside = path.with_name(f".{path.name}.new")
            beside.unlink(missing_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if ids := _ids(owner, self.dry_run):
                os.chown(beside, *ids)
            beside.chmod(mode)
            beside.replace(path)
        self._permit(path, mode, _ids(owner, self.dry_run))

    def _permit(self, path: Path, mode: int, ids: tuple[int, int] | None) -> None:
        """Mends owner, group and mode of what is there."""
        if not path.exists():
            return
        found = path.stat()
        has = (found.st_uid, found.st_gid)
        if found.st_mode & 0o7777 == mode and ids in (None, has):
            return
        uid, gid = ids or has
        self._note(
            path,
            f"owner {has[0]}:{has[1]}, mode {found.st_mode & 0o7777:04o}",
            f"owner {uid}:{gid}, mode {mode:04o}",
        )
        if not self.dry_run:
            os.chown(path, uid, gid)
            path.chmod(mode)

    def _note(self, path: Path, before: str, after: str) -> None:
        self.outcome.before.setdefault(str(path), before)
        self.outcome.after[str(path)] = after


def _ids(owner: str | None, dry_run: bool) -> tuple[int, int] | None:
    """User and group of the owner; None if they do not matter, or do not exist yet in a dry run."""
    if owner is None:
        return None
    try:
        user = pwd.getpwnam(owner)
    except KeyError:
        if dry_run:
            return None
        raise PkiError(
            f"there is no user {owner} to give a key to: role pki comes after what makes the user"
        ) from None
    return user.pw_uid, user.pw_gid


def _request(identity: Identity, key: ec.EllipticCurvePrivateKey) -> str:
    """Proves that the host has the key; what the certificate says is decided by who signs."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _java_keys(
    name: str, key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate]
) -> bytes:
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(STORE_PASSWORD)
    )
    return pkcs12.serialize_key_and_certificates(
        name.encode(), key, chain[0], list(chain[1:]) or None, encryption
    )


def _holds(
    content: bytes, key: ec.EllipticCurvePrivateKey, chain: Sequence[x509.Certificate]
) -> bool:
    """Whether a PKCS#12 file has just this key and chain."""
    try:
        found, leaf, others = pkcs12.load_key_and_certificates(content, STORE_PASSWORD)
    except ValueError:
        return False
    return (
        isinstance(found, ec.EllipticCurvePrivateKey)
        and _public(found.public_key()) == _public(key.public_key())
        and [leaf, *others] == list(chain)
    )


def _trusts(content: bytes, certificates: Sequence[x509.Certificate]) -> bool:
    """Whether a PKCS#12 file trusts just these certificates."""
    try:
        found = pkcs12.load_pkcs12(content, STORE_PASSWORD).additional_certs
    except ValueError:
        return False
    return [one.certificate for one in found] == list(certificates)


def _belong(key: ec.EllipticCurvePrivateKey | None, certificate: x509.Certificate) -> bool:
    return key is not None and _public(key.public_key()) == _public(certificate.public_key())


def _public(key: CertificatePublicKeyTypes) -> bytes:
    """For comparisons, which keys of cryptography before 40 cannot do."""
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _issuer_key_id(certificate: x509.Certificate) -> bytes | None:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return None
    return extension.value.key_identifier


def _described(certificate: x509.Certificate) -> tuple[object, ...]:
    """Common names, alternative names and usages of a certificate, comparable with `_wanted`."""
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    extensions = certificate.extensions
    names: frozenset[x509.GeneralName] = frozenset()
    usages: frozenset[x509.ObjectIdentifier] = frozenset()
    with contextlib.suppress(x509.ExtensionNotFound):
        names = frozenset(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    with contextlib.suppress(x509.ExtensionNotFound):
        usages = frozenset(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    return tuple(one.value for one in common), names, usages


def _wanted(identity: Identity) -> tuple[object, ...]:
    usages = frozenset(USAGES[usage] for usage in identity.usages)
    return (identity.common_name,), frozenset(identity.alternative_names()), usages


def _shown(certificate: x509.Certificate | None) -> str:
    """For a diff."""
    if certificate is None:
        return "no certificate"
    issuer = certificate.issuer.rfc4514_string()
    return (
        f"{certificate.subject.rfc4514_string()}, until {ends(certificate):%Y-%m-%d}, by {issuer}"
    )


def _read_leaf(path: Path) -> x509.Certificate | None:
    return next(iter(read_certificates(_text(path))), None)


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(_bytes(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _bytes(path: Path) -> bytes:
    """The file's content; empty if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", "replace")
