"""Certificates of hosts and the CA behind them, with a moved clock and at every interruption.

What is asked is what a client sees: whether two hosts complete a TLS handshake in which both show
their certificate.
"""

import os
import pwd
import re
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from plugins.module_utils import pki_certificates as pki
from plugins.module_utils.pki_authority import (
    Phase,
    Store,
    Vault,
    behind,
    check_chain,
    fingerprint,
    issue,
    java_trust,
    new_ca,
)

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
YEAR, DECADE, MONTH = 365 * DAY, 3650 * DAY, 30 * DAY
KAFKA = pki.Identity("kafka", "kafka", ("node1", "127.0.0.1"))
# Stands in for ansible-vault: what matters here is that keys pass through it.
VAULT = Vault(lambda content: b"locked" + content, lambda content: content.removeprefix(b"locked"))


class Plant:
    """A CA and hosts that are kept as the action does it."""

    def __init__(self, folder):
        self.folder = folder
        self.store = Store(folder / "pki", VAULT)
        self.store.make("demo", NOW, DECADE)

    def look(self, host, identities=(KAFKA,), now=NOW, **more):
        authority = self.store.authority()
        trust = java_trust(authority.trusted)
        return pki.reconcile(self.folder / host, identities, authority, trust, now, MONTH, **more)

    def sign(self, outcome, identities=(KAFKA,), now=NOW):
        named = {one.name: one for one in identities}
        return {
            name: self.store.sign(request, named[name], now, YEAR)
            for name, request in outcome.requests.items()
        }

    def keep(self, host, identities=(KAFKA,), now=NOW, **more):
        """Both calls; the outcome of the last one."""
        first = self.look(host, identities, now, **more)
        if not first.requests:
            return first
        return self.look(host, identities, now, signed=self.sign(first, identities, now))

    def told(self, host):
        """What the action would return for the host."""
        authority = self.store.authority()
        return {
            "trusted": [fingerprint(one) for one in authority.trusted],
            "issuer": pki.key_id(authority.issuer).hex(),
            "issuers": pki.issuers(self.folder / host),
        }

    def certificate(self, host, identity="kafka"):
        return pki.read_certificates((self.folder / host / identity / "cert.pem").read_text())[0]


@pytest.fixture
def plant(tmp_path):
    return Plant(tmp_path)


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def handshake(server, client, name="node1"):
    """A TLS handshake between two hosts' folders, both with certificates; raises ssl.SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()

    def side(folder, purpose, *ways, **more):
        context = ssl.create_default_context(purpose, cafile=folder / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(folder / "kafka" / "bundle.pem")
        return context.wrap_bio(*ways, **more)

    one = side(client, ssl.Purpose.SERVER_AUTH, back, there, server_hostname=name)
    other = side(server, ssl.Purpose.CLIENT_AUTH, there, back, server_side=True)
    for turn in [one, other] * 3:
        try:
            turn.do_handshake()
        except ssl.SSLWantReadError:
            continue
    # Under TLS 1.3 the client is done before the server has judged its certificate.
    one.write(b"x")
    assert other.read(1) == b"x"


# One host


def test_a_host_gets_what_a_client_accepts_and_then_nothing_changes(plant, tmp_path):
    plant.keep("node1")
    handshake(tmp_path / "node1", tmp_path / "node1")
    handshake(tmp_path / "node1", tmp_path / "node1", name="127.0.0.1")
    before = contents(tmp_path / "node1")
    again = plant.look("node1")
    assert (again.changed, again.requests) == (False, {})
    assert contents(tmp_path / "node1") == before


def test_a_client_refuses_a_host_of_another_name(plant, tmp_path):
    plant.keep("node1")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(tmp_path / "node1", tmp_path / "node1", name="node2")


def test_keys_are_for_their_owner_only(plant, tmp_path):
    plant.keep("node1", [pki.Identity("kafka", "kafka", keystore=True)])
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "node1").rglob("*")
    }
    assert modes == {
        "ca.pem": 0o644,
        "ca.p12": 0o644,
        "kafka": 0o700,
        "cert.pem": 0o600,
        "key.pem": 0o600,
        "bundle.pem": 0o600,
        "keystore.p12": 0o600,
    }


def test_a_service_owns_its_keys_and_not_their_folder(plant, tmp_path, monkeypatch):
    given = {}
    # What waits for a file's own name is renamed to it.
    monkeypatch.setattr(
        os,
        "chown",
        lambda path, *ids: given.update({Path(path).name.strip(".").removesuffix(".new"): ids}),
    )
    nobody = pwd.getpwnam("nobody")
    plant.keep("node1", [pki.Identity("kafka", "kafka", owner="nobody")])
    assert given["kafka"] == (os.geteuid(), nobody.pw_gid)
    for name in ("key.pem", "cert.pem", "bundle.pem"):
        assert given[name] == (nobody.pw_uid, nobody.pw_gid)
    assert stat.S_IMODE((tmp_path / "node1" / "kafka").stat().st_mode) == 0o750


def test_a_mode_that_was_opened_is_closed_again(plant, tmp_path):
    plant.keep("node1")
    key = tmp_path / "node1" / "kafka" / "key.pem"
    key.chmod(0o644)
    outcome = plant.look("node1")
    assert list(outcome.after) == [str(key)]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_dry_run_tells_and_changes_nothing(plant, tmp_path):
    outcome = plant.look("node1", dry_run=True)
    assert outcome.changed
    assert outcome.due == {"kafka": "there is none"}
    assert outcome.requests == {}
    assert not (tmp_path / "node1").exists()


def test_a_dry_run_needs_no_user_and_a_run_says_who_is_missing(plant):
    identities = [pki.Identity("kafka", "kafka", owner="nobody-of-that-name")]
    assert plant.look("node1", identities, dry_run=True).changed
    with pytest.raises(pki.PkiError, match="no user nobody-of-that-name"):
        plant.look("node1", identities)


@pytest.mark.parametrize(("day", "due"), [(0, False), (334, False), (336, True), (400, True)])
def test_a_certificate_is_renewed_in_its_last_month(plant, day, due):
    plant.keep("node1")
    first = plant.certificate("node1")
    later = NOW + day * DAY
    assert plant.keep("node1", now=later).changed is due
    second = plant.certificate("node1")
    assert (second != first) is due
    assert (second.public_key() != first.public_key()) is due
    assert pki.ends(second) == (later if due else NOW) + YEAR
    assert not plant.look("node1", now=later).changed


def test_a_certificate_does_not_outlive_its_ca_and_is_not_renewed_for_it(plant):
    late = NOW + DECADE - 10 * DAY
    plant.keep("node1", now=late)
    assert pki.ends(plant.certificate("node1")) == pki.ends(plant.store.authority().issuer)
    assert plant.look("node1", now=late).requests == {}


def test_a_ca_that_has_ended_issues_nothing(plant):
    with pytest.raises(pki.PkiError, match=r"ended on .*ca_change\.yml"):
        plant.keep("node1", now=NOW + DECADE + DAY)


def test_a_ca_that_has_ended_can_still_be_changed(plant):
    plant.keep("node1")
    late = NOW + DECADE + DAY
    plant.store.begin("demo", late, DECADE)
    for _ in range(3):
        plant.keep("node1", now=late)
        assert behind(plant.store.authority(), {"node1": plant.told("node1")}) == []
        plant.store.advance()
    assert pki.ends(plant.certificate("node1")) == late + YEAR


def test_an_interruption_before_the_signature_leaves_the_pair_in_use(plant, tmp_path):
    plant.keep("node1")
    later = NOW + 350 * DAY
    first = plant.certificate("node1")
    plant.look("node1", now=later)
    assert plant.certificate("node1") == first
    handshake(tmp_path / "node1", tmp_path / "node1")
    plant.keep("node1", now=later)
    assert plant.certificate("node1") != first
    assert not (tmp_path / "node1" / "kafka" / "key.next.pem").exists()


@pytest.mark.parametrize("cut", ["key.pem", "cert.pem", "bundle.pem"])
def test_an_interruption_between_files_is_mended(plant, tmp_path, monkeypatch, cut):
    plant.keep("node1", now=NOW - 350 * DAY)
    replace = Path.replace

    def dies(self, target):
        if Path(target).name == cut:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        plant.keep("node1")
    monkeypatch.undo()
    plant.keep("node1")
    handshake(tmp_path / "node1", tmp_path / "node1")
    assert not plant.look("node1").changed
    assert not (tmp_path / "node1" / "kafka" / "key.next.pem").exists()


def test_a_signature_for_a_key_that_another_run_replaced_is_not_put_in_place(plant, tmp_path):
    signed = plant.sign(plant.look("node1"))
    plant.look("node1")
    with pytest.raises(pki.PkiError, match="another run came between"):
        plant.look("node1", signed=signed)
    assert not (tmp_path / "node1" / "kafka" / "cert.pem").exists()


def test_a_signature_that_is_not_what_was_asked_for_changes_nothing(plant, tmp_path):
    """Found on a host: the new key beside the old certificate."""
    plant.keep("node1")
    before = contents(tmp_path / "node1" / "kafka")
    first = plant.look("node1", now=NOW + 350 * DAY)
    with pytest.raises(pki.PkiError, match="not as declared: it ends on"):
        plant.look("node1", now=NOW + 350 * DAY, signed=plant.sign(first))
    after = contents(tmp_path / "node1" / "kafka")
    after.pop(tmp_path / "node1" / "kafka" / "key.next.pem")
    assert after == before


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("key.pem", None, "its key is missing"),
        ("key.pem", "-", "its key is missing"),
        ("cert.pem", None, "there is none"),
        ("cert.pem", "-", "there is none"),
    ],
)
def test_what_cannot_be_used_is_issued_again(plant, tmp_path, file, content, why):
    plant.keep("node1")
    harmed = tmp_path / "node1" / "kafka" / file
    if content is None:
        harmed.unlink()
    else:
        harmed.write_text(content)
    assert plant.look("node1", dry_run=True).due == {"kafka": why}
    plant.keep("node1")
    handshake(tmp_path / "node1", tmp_path / "node1")


def test_a_bundle_that_was_harmed_is_made_again_without_another_certificate(plant, tmp_path):
    plant.keep("node1")
    before = contents(tmp_path / "node1")
    (tmp_path / "node1" / "kafka" / "bundle.pem").write_text("-")
    assert plant.look("node1").requests == {}
    assert contents(tmp_path / "node1") == before


@pytest.mark.parametrize(
    "other",
    [
        pki.Identity("kafka", "kafka", ("node1", "127.0.0.1", "node1.plant")),
        pki.Identity("kafka", "kafka", ("node1",)),
        pki.Identity("kafka", "broker", KAFKA.names),
        pki.Identity("kafka", "kafka", KAFKA.names, ("client",)),
    ],
    ids=["a name more", "a name less", "another common name", "another usage"],
)
def test_another_name_or_usage_needs_another_certificate(plant, other):
    plant.keep("node1")
    assert plant.look("node1", [other]).due == {"kafka": "its names or usages are others"}
    plant.keep("node1", [other])
    assert not plant.look("node1", [other]).changed


def test_the_order_of_names_does_not_matter(plant):
    plant.keep("node1")
    turned = pki.Identity("kafka", "kafka", KAFKA.names[::-1])
    assert not plant.look("node1", [turned]).changed


def test_what_is_asked_for_is_issued_once(plant):
    plant.keep("node1")
    first = plant.certificate("node1")
    plant.keep("node1", reissue=frozenset({"kafka"}))
    assert plant.certificate("node1") != first
    assert not plant.look("node1").changed


def test_java_reads_the_same_key_and_certificates(plant, tmp_path):
    identity = pki.Identity("flink", "flink", keystore=True)
    plant.keep("node1", [identity])
    folder = tmp_path / "node1" / "flink"
    key, certificate, _ = pkcs12.load_key_and_certificates(
        (folder / "keystore.p12").read_bytes(), b"plantline"
    )
    assert certificate == plant.certificate("node1", "flink")
    assert key.public_key() == certificate.public_key()
    trusted = pkcs12.load_pkcs12((tmp_path / "node1" / "ca.p12").read_bytes(), b"plantline")
    roots = plant.store.authority().trusted
    assert [one.certificate for one in trusted.additional_certs] == list(roots)
    (folder / "keystore.p12").write_bytes(b"harmed")
    assert plant.look("node1", [identity]).changed
    assert not plant.look("node1", [identity]).changed


def test_nothing_that_is_told_holds_a_key(plant, tmp_path):
    first = plant.look("node1")
    second = plant.look("node1", signed=plant.sign(first))
    key = (tmp_path / "node1" / "kafka" / "key.pem").read_text().splitlines()[1]
    for told in (first, second):
        assert "PRIVATE" not in str(told)
        assert key not in str(told)


def test_metrics_tell_all_ends(plant, tmp_path):
    plant.keep("node1", [KAFKA, pki.Identity("flink", "flink")])
    file = tmp_path / "metrics" / "certificates.prom"
    issuer = plant.store.authority().issuer
    pki.write_metrics(file, tmp_path / "node1", issuer, pki.Outcome())
    series = dict(re.findall(r'^\w+{identity="(\w+)"} (\d+)$', file.read_text(), re.MULTILINE))
    year = str(int((NOW + YEAR).timestamp()))
    decade = str(int((NOW + DECADE).timestamp()))
    assert series == {"ca": decade, "kafka": year, "flink": year}
    again = pki.Outcome()
    pki.write_metrics(file, tmp_path / "node1", issuer, again)
    assert not again.changed


# What is signed


def request_of(key, subject="kafka"):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_a_request_cannot_choose_whom_it_is_for(plant):
    request = request_of(ec.generate_private_key(ec.SECP256R1()), "operator")
    signed = pki.read_certificates(plant.store.sign(request, KAFKA, NOW, YEAR))[0]
    assert signed.subject.rfc4514_string() == "CN=kafka"
    assert not signed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-384", "RSA"],
)
def test_a_request_with_another_kind_of_key_is_refused(plant, key):
    with pytest.raises(pki.PkiError, match="no P-256 key"):
        plant.store.sign(request_of(key), KAFKA, NOW, YEAR)


def test_a_request_that_does_not_prove_its_key_is_refused(plant):
    honest = x509.load_pem_x509_csr(request_of(ec.generate_private_key(ec.SECP256R1())).encode())
    forged = bytearray(honest.public_bytes(serialization.Encoding.DER))
    forged[-1] ^= 1
    text = x509.load_der_x509_csr(bytes(forged)).public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(pki.PkiError, match="not signed by its own key"):
        plant.store.sign(text, KAFKA, NOW, YEAR)


# The CA


def test_the_key_of_the_ca_is_kept_encrypted_and_for_its_owner_only(plant, tmp_path):
    key = tmp_path / "pki" / "ca" / "ca.key"
    assert key.read_bytes().startswith(b"locked")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_the_first_ca_stays(plant):
    before = plant.store.authority()
    assert plant.store.make("demo", NOW, DECADE) is False
    assert plant.store.authority() == before


def given_ca(folder, chain, key):
    """A CA of the plant's own, as its administrators would put it there."""
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text(pki.pem(*chain))
    (folder / "ca.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def company():
    """A CA below a company's root: its certificate, the root's, and its key."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)

    def made(name, public, path_length):
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Company")]))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DECADE)
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .sign(root_key, hashes.SHA256())
        )

    return [made("Plant", key.public_key(), 0), made("Company", root_key.public_key(), 1)], key


def test_a_ca_of_the_plants_own_is_used_with_its_chain(tmp_path):
    chain, key = company()
    given_ca(tmp_path / "pki" / "ca", chain, key)
    plant = Plant(tmp_path)
    plant.keep("node1")
    assert plant.certificate("node1").issuer == chain[0].subject
    sent = pki.read_certificates((tmp_path / "node1" / "kafka" / "cert.pem").read_text())
    assert sent[1:] == (chain[0],)
    handshake(tmp_path / "node1", tmp_path / "node1")
    assert not plant.look("node1").changed


def test_a_chain_without_its_root_is_refused(tmp_path):
    chain, key = company()
    given_ca(tmp_path / "pki" / "ca", chain[:1], key)
    with pytest.raises(pki.PkiError, match="CN=Company, which issued CN=Plant, has to follow it"):
        Plant(tmp_path).store.authority()


def test_a_certificate_that_is_no_cas_is_refused(plant):
    plant.keep("node1")
    with pytest.raises(pki.PkiError, match="CN=kafka is no CA's certificate"):
        check_chain([plant.certificate("node1")], "ca.crt")


def test_a_key_of_another_ca_is_refused(tmp_path):
    certificate, _ = new_ca("demo", NOW, DECADE)
    _, other = new_ca("demo", NOW, DECADE)
    given_ca(tmp_path / "pki" / "ca", [certificate], other)
    with pytest.raises(pki.PkiError, match="is not the key of the first certificate"):
        Plant(tmp_path).keep("node1")


def test_a_certificate_of_a_stranger_is_refused_by_both_sides(plant, tmp_path):
    plant.keep("node1")
    stranger = Plant(tmp_path / "elsewhere")
    stranger.keep("node9")
    ours, theirs = tmp_path / "node1", tmp_path / "elsewhere" / "node9"
    # Even if it has learnt whom to trust.
    (theirs / "ca.pem").write_bytes((ours / "ca.pem").read_bytes())
    with pytest.raises(ssl.SSLError):
        handshake(ours, theirs)
    with pytest.raises(ssl.SSLError):
        handshake(theirs, ours)


# A change of CA

HOSTS = ["node1", "node2"]


def all_connect(folder):
    for server in HOSTS:
        for client in HOSTS:
            handshake(folder / server, folder / client)


def test_a_change_of_ca_never_keeps_two_hosts_apart(plant, tmp_path):
    """Also where one host is a phase ahead of the other, in whatever order they come."""
    for host in HOSTS:
        plant.keep(host)
    old = plant.store.authority().issuer
    phases = []
    assert plant.store.begin("demo", NOW, DECADE)
    while (phase := plant.store.phase()) is not Phase.STEADY:
        phases.append(phase)
        for host in HOSTS[:: 1 if phase is Phase.TRUST else -1]:
            plant.keep(host)
            all_connect(tmp_path)
        plant.store.advance()
    assert phases == [Phase.TRUST, Phase.REISSUE, Phase.DROP]
    new = plant.store.authority().issuer
    assert new != old
    for host in HOSTS:
        assert pki.read_certificates((tmp_path / host / "ca.pem").read_text()) == (new,)
        assert not plant.look(host).changed


def test_what_the_old_ca_issued_is_refused_in_the_end(plant, tmp_path):
    for host in HOSTS:
        plant.keep(host)
    plant.store.begin("demo", NOW, DECADE)
    for _ in range(3):
        plant.keep("node1")
        plant.store.advance()
    with pytest.raises(ssl.SSLError):
        handshake(tmp_path / "node1", tmp_path / "node2")


class Cut(Exception):  # noqa: N818 # not an error: the end of a process
    """The process ended here."""


@pytest.mark.parametrize("at", range(4))
def test_a_change_of_ca_goes_on_wherever_it_was_cut(plant, tmp_path, monkeypatch, at):
    """Each rename of a folder is a place to be cut at; another run finds out what is left to do."""
    for host in HOSTS:
        plant.keep(host)
    old = plant.store.authority().issuer
    renames = 0
    rename = Path.rename

    def dies(self, target):
        nonlocal renames
        if renames == at:
            raise Cut
        renames += 1
        return rename(self, target)

    def run():
        """As playbooks/ca_change.yml does it."""
        store = Store(tmp_path / "pki", VAULT)
        store.begin("demo", NOW, DECADE)
        for _ in range(3):
            for host in HOSTS:
                plant.keep(host)
                all_connect(tmp_path)
            assert behind(store.authority(), {host: plant.told(host) for host in HOSTS}) == []
            store.advance()

    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises(Cut):
        run()
    monkeypatch.undo()
    # Any other run of site.yml in between is welcome.
    for host in HOSTS:
        plant.keep(host)
        all_connect(tmp_path)
    run()
    assert plant.store.phase() is Phase.STEADY
    assert plant.store.authority().issuer != old
    assert [path.name for path in (tmp_path / "pki").iterdir()] == ["ca"]
    all_connect(tmp_path)


def test_a_removal_of_the_old_ca_that_was_cut_is_completed_and_no_change_begun(
    plant, tmp_path, monkeypatch
):
    plant.store.begin("demo", NOW, DECADE)
    plant.store.advance()
    plant.store.advance()
    new = plant.store.authority().issuer
    unlink = os.unlink

    def dies(path, **more):
        if str(path).endswith("ca.key"):
            raise Cut
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", dies)
    with pytest.raises(Cut):
        plant.store.advance()
    monkeypatch.undo()
    assert plant.store.begin("demo", NOW, DECADE) is False
    assert plant.store.advance() is Phase.STEADY
    assert plant.store.authority().trusted == (new,)


def test_an_interrupted_change_is_not_begun_anew(plant):
    plant.store.begin("demo", NOW, DECADE)
    following = plant.store.authority().trusted[1]
    assert plant.store.begin("demo", NOW, DECADE) is False
    plant.store.advance()
    assert plant.store.authority().issuer == following
    assert plant.store.begin("demo", NOW, DECADE) is False


def test_a_ca_of_the_plants_own_can_follow(plant, tmp_path):
    chain, key = company()
    given_ca(tmp_path / "pki" / "next", chain, key)
    assert plant.store.begin("demo", NOW, DECADE) is False
    plant.store.advance()
    assert plant.store.authority().issuer == chain[0]


def test_a_next_ca_without_its_key_keeps_the_change_where_it_is(plant, tmp_path):
    plant.store.begin("demo", NOW, DECADE)
    (tmp_path / "pki" / "next" / "ca.key").unlink()
    with pytest.raises(pki.PkiError, match=r"next/ca\.key"):
        plant.store.advance()
    assert plant.store.phase() is Phase.TRUST


def test_folders_that_make_no_sense_together_are_told(plant, tmp_path):
    plant.store.begin("demo", NOW, DECADE)
    (tmp_path / "pki" / "dropped").mkdir()
    with pytest.raises(pki.PkiError, match="next and dropped"):
        plant.store.phase()


@pytest.mark.parametrize("answer", ["an earlier phase", None, {}, {"failed": True}])
def test_a_phase_is_not_left_while_a_host_is_behind(plant, answer):
    for host in HOSTS:
        plant.keep(host)
    told = plant.told("node2") if answer == "an earlier phase" else answer
    plant.store.begin("demo", NOW, DECADE)
    plant.keep("node1")
    problems = behind(plant.store.authority(), {"node1": plant.told("node1"), "node2": told})
    assert [line.split(":")[0] for line in problems] == ["node2"]


def test_the_old_ca_is_not_dropped_while_a_certificate_is_its_own(plant):
    for host in HOSTS:
        plant.keep(host)
    plant.keep("node2", [KAFKA, pki.Identity("forgotten", "forgotten")])
    plant.store.begin("demo", NOW, DECADE)
    plant.store.advance()
    for host in HOSTS:
        plant.keep(host)
    told = {host: plant.told(host) for host in HOSTS}
    problems = behind(plant.store.authority(), told)
    assert [line.split(" is ")[0] for line in problems] == ["node2: forgotten"]


def test_a_certificate_is_signed_by_the_one_who_is_named(plant):
    """What `behind` goes by is what the signature says."""
    certificate, key = new_ca("demo", NOW, DECADE)
    request = request_of(ec.generate_private_key(ec.SECP256R1()))
    signed = issue(certificate, key, request, KAFKA, NOW, YEAR)
    signed.verify_directly_issued_by(certificate)
    named = signed.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert named.key_identifier == pki.key_id(certificate)
    assert named.key_identifier != pki.key_id(plant.store.authority().issuer)
