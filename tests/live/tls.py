"""What a listener answers to whoever asks.

Nothing here knows how a service is configured: a question is sent, and it is answered or it is not.
Standard library only: tests also send this file to a host, and ask from there.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 10.0
# Until a side that has said nothing counts as content, where it would have spoken at once.
SILENCE_S = 1.0
# Where there is more than one question to each of many ports, all from the host itself.
NEAR_S = 3.0
CORRELATION = 0x504C414E
# Of clients without a name. The first is what a listener of Kafka answers before it knows who asks;
# the second asks for all topics.
API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, CORRELATION, -1)
METADATA = struct.pack(">ihhihi", 14, 3, 1, CORRELATION, -1, -1)
# One of them is a page of its own, and no redirection, in whatever listens in a plant.
PAGES = ("/", "/metrics", "/config")
SPOKEN = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
FORGOTTEN = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1)
# How the words begin with which the other side refuses them, and not our own library: by an alert,
# or, as Java's web server does, by closing.
BY_OTHER_SIDE = (
    "TLSV1_ALERT_",
    "UNEXPECTED_EOF_WHILE_READING",
    "TLS/SSL connection has been closed",
    "[Errno 104]",
)


def trusting(ca: str | Path, bundle: str | Path | None = None) -> ssl.SSLContext:
    """A client that trusts this CA, with a certificate of its own or without one."""
    context = ssl.create_default_context(cafile=ca)
    if bundle is not None:
        context.load_cert_chain(bundle)
    return context


def only(
    version: ssl.TLSVersion, ca: str | Path, bundle: str | Path | None = None
) -> ssl.SSLContext:
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


def page(
    address: str,
    port: int,
    path: str,
    context: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Status and body of a page, (0, "") where the request gets none; raises TimeoutError."""
    if context is None:
        client = http.client.HTTPConnection(address, port, timeout=PATIENCE_S)
    else:
        client = http.client.HTTPSConnection(address, port, timeout=PATIENCE_S, context=context)
    try:
        client.request("GET", path, headers=dict(headers or {}))
        answer = client.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except TimeoutError:
        raise
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        client.close()


def alert(address: str, port: int, context: ssl.SSLContext, listen_s: float = 0.0) -> str | None:
    """The words with which the other side ends the handshake; None if it goes well.

    listen_s: how long to listen after it. With TLS 1.3 a client learns only then what the other
    side thinks of its certificate.
    """
    try:
        with connected(address, port, context) as stream:
            return cut(stream, listen_s) if listen_s else None
    except ssl.SSLError as refused:
        return refused.reason or str(refused)
    except ConnectionError as refused:
        return str(refused)


def cut(stream: socket.socket, listen_s: float) -> str | None:
    """How the other side ends a connection on which nothing is asked; None if it waits."""
    stream.settimeout(listen_s)
    try:
        return None if stream.recv(1) else "closed without a word"
    except TimeoutError:
        return None


# From a host, all that listens on it


def listening() -> set[tuple[int, str, str]]:
    """Port, address ("" for any) and program of what others could reach, were there no firewall."""
    found = set()
    listed = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        _, _, _, local, *_ = line.split()
        address, _, port = local.rpartition(":")
        address = address.strip("[]").partition("%")[0].removeprefix("::ffff:")
        anywhere = address in ("*", "0.0.0.0", "::")  # noqa: S104 - what ss prints
        if anywhere or not ipaddress.ip_address(address).is_loopback:
            program = re.search('"([^"]+)"', line)
            found.add((int(port), "" if anywhere else address, program[1] if program else "?"))
    return found


def chosen_from() -> int:
    """The first of the ports that the kernel gives to whoever asks for any."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def examine(
    address: str, ca: str, accepted: str, refused: Mapping[str, str]
) -> dict[int, list[str]]:
    """What is wrong with each port of this host; [] where nothing is.

    Of those that programs choose for themselves: a Flink task and its Python process talk there in
    plaintext, both on this host, and the firewall lets nobody else come.

    address: the host's. ca: who signs its certificates. accepted: key and certificate of somebody
    who is to be let in; refused: of those who are not, by what is wrong with them. All PEM texts.
    """
    found: dict[int, list[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        files = {who: Path(name, who) for who in ("ca", "accepted", *refused)}
        for who, text in {"ca": ca, "accepted": accepted, **refused}.items():
            files[who].write_text(text)
        strangers = {"nobody": None} | {who: files[who] for who in refused}
        for port, own, program in sorted(listening()):
            if port >= chosen_from():
                continue
            wrong = problems(own or address, port, files["ca"], files["accepted"], strangers)
            found.setdefault(port, []).extend(f"{program}: {problem}" for problem in wrong)
    return found


def problems(
    address: str, port: int, ca: Path, accepted: Path, strangers: Mapping[str, Path | None]
) -> Iterator[str]:
    """What is wrong with a port."""

    def said(version: ssl.TLSVersion, bundle: Path | None, listen_s: float = 0.0) -> str | None:
        return alert(address, port, only(version, ca, bundle), listen_s)

    try:
        if served(address, port, None, API_VERSIONS):
            yield "answers in plaintext"
        refusals = {version: said(version, accepted, SILENCE_S) for version in SPOKEN}
        spoken = [version for version, refusal in refusals.items() if refusal is None]
        if not spoken:
            yield f"lets in nobody by TLS: {', '.join(map(str, refusals.values()))}"
            return
        for version in FORGOTTEN:
            answer = said(version, accepted)
            if answer is None or not answer.startswith(BY_OTHER_SIDE):
                yield f"answers {version.name} with {answer}"
        for who, bundle in strangers.items():
            if not all(said(version, bundle, NEAR_S) for version in spoken):
                yield f"lets in {who}"
                if served(address, port, trusting(ca, bundle), METADATA):
                    yield f"answers {who}"
    except OSError as error:
        yield f"cannot be asked: {error}"


def served(address: str, port: int, context: ssl.SSLContext | None, question: bytes) -> bool:
    """Whether there is a page to be had without a password, or Kafka answers the question."""
    statuses = [page(address, port, path, context)[0] for path in PAGES]
    return 200 in statuses if any(statuses) else answers(address, port, context, question)
