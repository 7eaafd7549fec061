"""Measures a host's disks, and the network and the clocks between it and another host.

A host serves while others measure: pings are answered with the own time, bytes are taken or given.
A test token, made anew for each probe, keeps out whoever else finds the port.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

CONNECT_S = 4.0
SILENCE_S = 10.0
PINGS = 200
STREAM_S = 0.5
CHUNK = bytes(256 * 1024)

DISK_BYTES = 64 * 1024 * 1024
DISK_S = 3.0
SYNCS = 100
SYNC_BYTES = bytes(4096)
# A test must not be what fills a disk.
DISK_SPARE = 1024**3


class DiskResult(TypedDict):
    """One file system: bytes per second written and synced; seconds of a 4 KiB write with sync."""

    path: str
    bytes_per_s: float
    sync_p50_s: float
    sync_p99_s: float
    error: str | None


class LinkResult(TypedDict):
    """One pair: round trips in seconds, bytes per second each way, and the other clock's lead.

    The lead is right to within half of the quickest round trip (clock_error_s).
    """

    rtt_p50_s: float
    rtt_p99_s: float
    out_bytes_per_s: float
    back_bytes_per_s: float
    clock_s: float
    clock_error_s: float


def main(
    task: str,
    paths: Iterable[str] = (),
    peer: str = "",
    port: int = 0,
    token: str = "",
    lifetime_s: float = 0.0,
) -> object:
    """Do one task: `disks`, `serve`, `link` (with `peer`) or `stop` (a `serve` of this host)."""
    if task == "disks":
        return [disk(Path(path)) for path in paths]
    try:
        if task == "serve":
            return serve(port, token, lifetime_s)
        if task == "stop":
            with dial("localhost", port, token, b"E"):
                return {}
        return link(peer, port, token)
    except OSError as error:
        return {"error": str(error)}


def disk(path: Path) -> DiskResult:
    """Write to the file system of `path`, into a file without a name that cannot stay behind."""
    place = next(folder for folder in (path, *path.parents) if folder.is_dir())
    result: DiskResult = {
        "path": str(place),
        "bytes_per_s": 0.0,
        "sync_p50_s": 0.0,
        "sync_p99_s": 0.0,
        "error": None,
    }
    if shutil.disk_usage(place).free < DISK_SPARE + DISK_BYTES:
        return {**result, "error": "less than 1 GiB is free; nothing was written"}
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            result["bytes_per_s"] = _stream_to(file.fileno())
            syncs = _syncs(file.fileno())
    except OSError as error:
        return {**result, "error": str(error)}
    return {**result, "sync_p50_s": quantile(syncs, 0.5), "sync_p99_s": quantile(syncs, 0.99)}


def _stream_to(descriptor: int) -> float:
    """Bytes per second of a sequential write that ends on the disk."""
    begin, written = time.monotonic(), 0
    while written < DISK_BYTES and time.monotonic() - begin < DISK_S:
        written += os.write(descriptor, CHUNK)
    os.fsync(descriptor)
    return written / (time.monotonic() - begin)


def _syncs(descriptor: int) -> list[float]:
    """Seconds of single small writes with their sync."""
    begin = time.monotonic()
    taken: list[float] = []
    while len(taken) < SYNCS and time.monotonic() - begin < DISK_S:
        start = time.perf_counter()
        os.write(descriptor, SYNC_BYTES)
        os.fdatasync(descriptor)
        taken.append(time.perf_counter() - start)
    return taken


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie; one of them, not between two."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def serve(port: int, token: str, lifetime_s: float) -> object:
    """Serve until told to stop, or until `lifetime_s` is over."""
    stop = threading.Event()
    deadline = time.monotonic() + lifetime_s
    with socket.create_server(("", port), backlog=64) as server:
        server.settimeout(0.2)
        while not stop.is_set() and time.monotonic() < deadline:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            threading.Thread(target=_attend, args=(connection, token, stop), daemon=True).start()
    return {}


def _attend(connection: socket.socket, token: str, stop: threading.Event) -> None:
    """One connection: the token, one letter for what is wanted, and that."""
    try:
        with connection:
            connection.settimeout(SILENCE_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive(connection, len(token)) != token.encode():
                return
            wanted = receive(connection, 1)
            if wanted == b"P":
                while connection.recv(1):
                    connection.sendall(struct.pack("!d", time.time()))
            elif wanted == b"T":
                connection.sendall(struct.pack("!d", drain(connection)))
            elif wanted == b"G":
                pour(connection)
            elif wanted == b"E":
                stop.set()
    except OSError:
        # The other side is gone, and tells what happened.
        return


def link(peer: str, port: int, token: str) -> LinkResult:
    """Measure against a peer that serves; raises OSError."""
    trips, leads = [], []
    with dial(peer, port, token, b"P") as connection:
        for _ in range(PINGS):
            sent = time.time()
            start = time.perf_counter()
            connection.sendall(b"p")
            (theirs,) = struct.unpack("!d", receive(connection, 8))
            trip = time.perf_counter() - start
            trips.append(trip)
            leads.append((trip, theirs - (sent + trip / 2)))
    with dial(peer, port, token, b"T") as connection:
        pour(connection)
        connection.shutdown(socket.SHUT_WR)
        (out,) = struct.unpack("!d", receive(connection, 8))
    with dial(peer, port, token, b"G") as connection:
        back = drain(connection)
    # The quickest exchanges met the least waiting, and waiting is what makes the halves unequal.
    quickest = sorted(leads)[:10]
    return {
        "rtt_p50_s": quantile(trips, 0.5),
        "rtt_p99_s": quantile(trips, 0.99),
        "out_bytes_per_s": out,
        "back_bytes_per_s": back,
        "clock_s": statistics.median(lead for _, lead in quickest),
        "clock_error_s": quickest[0][0] / 2,
    }


def dial(peer: str, port: int, token: str, wanted: bytes) -> socket.socket:
    """A connection to a peer that serves; waits for one that is only just starting."""
    deadline = time.monotonic() + CONNECT_S
    while True:
        try:
            connection = socket.create_connection((peer, port), timeout=CONNECT_S)
            break
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    connection.settimeout(SILENCE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(token.encode() + wanted)
    return connection


def pour(connection: socket.socket) -> None:
    """Send for STREAM_S as fast as it goes."""
    end = time.monotonic() + STREAM_S
    while time.monotonic() < end:
        connection.sendall(CHUNK)


def drain(connection: socket.socket) -> float:
    """Take all that comes; returns bytes per second, the first bytes' arrival being the start."""
    got, begin = 0, None
    while received := connection.recv(1024 * 1024):
        if begin is None:
            begin = time.monotonic()
        got += len(received)
    return got / max(time.monotonic() - begin, 1e-3) if begin is not None else 0.0


def receive(connection: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes; raises ConnectionError if the other side ends before."""
    got = b""
    while len(got) < count:
        part = connection.recv(count - len(got))
        if not part:
            raise ConnectionError("the other side closed the connection")
        got += part
    return got
