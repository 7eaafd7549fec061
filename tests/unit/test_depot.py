"""The depot against real servers on the loopback: fallback, resume, damage, interruption, offline.

Package clients are stood in for by small scripts, except pip, dpkg-deb and the launchers' shell.
"""

import dataclasses
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from rich.progress import Progress

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

from depotlib import sources, store
from depotlib.declaration import DeclarationError, Lock, load
from depotlib.store import Depot
from depotlib.work import Bars, DepotError, Lines, gist, pack, sha512_of

import depot as cli

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 20
CONTENT = bytes(range(256)) * 4096  # 1 MiB


def sha512(data):
    return hashlib.sha512(data).hexdigest()


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {DEADLINE_S} s"
        time.sleep(0.01)


# ── A server that can misbehave ──────────────────────────────────────────────────────────────────


@dataclass
class Page:
    """How a path is served."""

    content: bytes = CONTENT
    status: int = 200
    cuts: list[int] = field(default_factory=list)  # bytes after which each next answer breaks off
    ranges: bool = True
    barrier: threading.Barrier | None = None  # all that share it are asked for before one answers
    stall: threading.Event | None = None  # after half of the content, wait for it


class Server:
    """Serves `pages` on a free port, and keeps what was asked for in `requests`."""

    def __init__(self):
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str]] = []  # path, Range
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()

    def url(self, path):
        return f"http://127.0.0.1:{self.http.server_port}{path}"

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, request):
        asked = request.headers.get("Range", "")
        self.requests.append((request.path, asked))
        page = self.pages.get(request.path, Page(b"", status=404))
        if page.barrier:
            page.barrier.wait(DEADLINE_S)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and page.ranges else 0
        if start and start >= len(page.content):
            request.send_error(416)
            return
        body = page.content[start:]
        request.send_response(206 if start and page.status == 200 else page.status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if page.stall:
            request.wfile.write(body[: len(body) // 2])
            page.stall.wait(DEADLINE_S)
            body = body[len(body) // 2 :]
        request.wfile.write(body[: page.cuts.pop(0)] if page.cuts else body)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def closed_port():
    """A port of this machine on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


# ── A repository with a depot ────────────────────────────────────────────────────────────────────


class Repository:
    """A folder with depot.yml and stand-ins for package clients."""

    def __init__(self, root, bin_folder):
        self.root = root
        self.bin = bin_folder
        self.news = []

    def declare(self, **artifacts):
        """Write depot.yml: name → sources, or name → (version, sources)."""
        declared = {}
        for name, value in artifacts.items():
            version, sources_ = value if isinstance(value, tuple) else ("1.0", value)
            entry = {"version": version, "licence": "none", "sources": sources_}
            declared[name.replace("_", "-")] = entry
        (self.root / "depot.yml").write_text(yaml.safe_dump({"artifacts": declared}))

    def client(self, name, script):
        path = self.bin / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def depot(self):
        return Depot(self.root)

    def fill(self, *names, refresh=False):
        """Outcome of a fill; what it said is in `news`."""
        depot = self.depot()
        return depot.fill(depot.select(names, ()), self, refresh=refresh, needed=names)

    def command(self, *arguments):
        """The command line, in a process of its own."""
        argv = [sys.executable, ROOT / "tools/depot.py", *arguments, "--root", self.root]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def entry(self, name):
        return json.loads((self.root / "depot/manifest.json").read_text())["artifacts"][name]

    def file(self, name):
        return self.root / "depot" / self.entry(name)["file"]

    def names(self, name):
        with tarfile.open(self.file(name)) as tar:
            return tar.getnames()

    def leftovers(self):
        return sorted(path.name for path in (self.root / "depot/.tmp").glob("*"))

    # The reporter's methods: a fill in this process reports to the repository itself.

    def say(self, name, text):
        self.news.append(f"{name}: {text}")

    def step(self, name, text, done=0, total=0):
        pass

    def finished(self, name):
        pass


@pytest.fixture
def repository(tmp_path, monkeypatch):
    root, bin_folder = tmp_path / "repository", tmp_path / "bin"
    root.mkdir()
    bin_folder.mkdir()
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(sources, "FIRST_PAUSE_S", 0.01)
    return Repository(root, bin_folder)


def url(address, content=CONTENT):
    return {"kind": "url", "url": address, "sha512": sha512(content)}


def maven(**more):
    return {"kind": "maven", "artifacts": ["g:a:1.0"], "transitive": True, **more}


# A Maven that puts two jars where it is told to.
MVN = r"""
for argument in "$@"; do
  case $argument in -DoutputDirectory=*) folder=${argument#*=} ;; esac
done
echo one > "$folder/one.jar"; echo two > "$folder/two.jar"
"""
JARS = {"one.jar": sha512(b"one\n"), "two.jar": sha512(b"two\n")}


def lock_jars(repository, artifact, jars=None):
    Lock(repository.root / "depot.lock").replace(artifact, jars or JARS)


# ── Sources in order ─────────────────────────────────────────────────────────────────────────────


def test_the_first_source_that_serves_is_used_and_recorded(repository, server):
    server.pages["/a.tgz"] = Page()
    repository.declare(a=[url(server.url("/a.tgz"))])

    assert repository.fill().filled == ["a"]

    assert repository.file("a").read_bytes() == CONTENT
    entry = repository.entry("a")
    assert (entry["version"], entry["file"], entry["sha512"], entry["source"]) == (
        "1.0",
        "a.tgz",
        sha512(CONTENT),
        server.url("/a.tgz"),
    )
    assert repository.leftovers() == []
    assert any(line.endswith(f"from {server.url('/a.tgz')} in 0 s") for line in repository.news)


def test_sources_are_tried_in_order_and_each_failure_is_told(repository, server, closed_port):
    server.pages["/a.tgz"] = Page()
    nobody = f"http://127.0.0.1:{closed_port}/a.tgz"
    repository.declare(a=[url(server.url("/no")), url(nobody), url(server.url("/a.tgz"))])

    assert repository.fill().filled == ["a"]

    assert repository.entry("a")["source"] == server.url("/a.tgz")
    assert f"a: not from {server.url('/no')}: HTTP 404 Not Found" in repository.news
    assert f"a: not from {nobody}: unreachable: Connection refused" in repository.news


def test_a_silent_server_is_left_for_the_next_source(repository, server, monkeypatch):
    monkeypatch.setattr(sources, "TIMEOUT_S", 0.2)
    server.pages["/a.tgz"] = Page()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a.tgz"
        repository.declare(a=[url(address), url(server.url("/a.tgz"))])
        assert repository.fill().filled == ["a"]
    assert any("unreachable: no answer within" in line for line in repository.news)


def test_an_artifact_that_cannot_be_had_spares_the_others(repository, server):
    server.pages["/good.tgz"] = Page()
    server.pages["/bad.tgz"] = Page(b"something else")
    repository.declare(
        bad=[url(server.url("/bad.tgz")), url(server.url("/no"))],
        good=[url(server.url("/good.tgz"))],
    )

    outcome = repository.fill()

    assert outcome.filled == ["good"]
    story = outcome.failed["bad"]
    assert story.startswith("bad 1.0: no source could serve it")
    actual = sha512(b"something else")
    checksum = f"wrong checksum: sha512 is {actual}, expected {sha512(CONTENT)}"
    assert f"{server.url('/bad.tgz')}: {checksum}" in story
    assert f"{server.url('/no')}: HTTP 404" in story
    assert sorted(p.name for p in (repository.root / "depot").glob("[!.]*")) == [
        "good.tgz",
        "manifest.json",
    ]
    assert repository.leftovers() == []


def test_artifacts_are_fetched_at_the_same_time(repository, server):
    both = threading.Barrier(2)
    server.pages["/a.tgz"] = Page(barrier=both)
    server.pages["/b.tgz"] = Page(barrier=both)
    repository.declare(a=[url(server.url("/a.tgz"))], b=[url(server.url("/b.tgz"))])
    assert sorted(repository.fill().filled) == ["a", "b"]


def test_a_full_disk_is_told_like_any_other_failure(repository, server, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sources, "download", full)
    repository.declare(a=[url(server.url("/a.tgz"))])
    assert "No space left on device" in repository.fill().failed["a"]


# ── Resuming ─────────────────────────────────────────────────────────────────────────────────────


def test_a_download_that_is_cut_goes_on_where_it_stopped(repository, server):
    server.pages["/a.tgz"] = Page(cuts=[300_000, 200_000])
    repository.declare(a=[url(server.url("/a.tgz"))])

    assert repository.fill().filled == ["a"]

    assert repository.file("a").read_bytes() == CONTENT
    ranges = [asked for _, asked in server.requests]
    assert ranges == ["", "bytes=300000-", "bytes=500000-"]


def test_the_next_fill_goes_on_with_what_a_failed_one_kept(repository, server):
    server.pages["/a.tgz"] = Page(cuts=[100_000] * sources.DOWNLOAD_TRIES)
    repository.declare(a=[url(server.url("/a.tgz"))])
    assert "the connection was cut, 5 times; 0.5 MB are kept" in repository.fill().failed["a"]
    assert not (repository.root / "depot/a.tgz").exists()

    server.requests.clear()
    assert repository.fill().filled == ["a"]

    assert server.requests == [("/a.tgz", "bytes=500000-")]
    assert repository.file("a").read_bytes() == CONTENT
    assert repository.leftovers() == []


def test_a_server_without_ranges_is_read_from_the_beginning(repository, server):
    server.pages["/a.tgz"] = Page(cuts=[300_000], ranges=False)
    repository.declare(a=[url(server.url("/a.tgz"))])
    assert repository.fill().filled == ["a"]
    assert repository.file("a").read_bytes() == CONTENT


@pytest.mark.parametrize("kept", [b"x" * 1000, CONTENT, CONTENT + b"more"])
def test_a_part_of_whatever_content_ends_in_a_whole_file(repository, server, kept):
    server.pages["/a.tgz"] = Page()
    part = repository.root / f"depot/.tmp/a.{sha512(CONTENT)[:16]}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(kept)
    repository.declare(a=[url(server.url("/a.tgz"))])
    assert repository.fill().filled == ["a"]
    assert repository.file("a").read_bytes() == CONTENT


def test_a_part_is_dropped_when_another_source_serves(repository, server):
    server.pages["/cut.tgz"] = Page(cuts=[1000] * sources.DOWNLOAD_TRIES)
    server.pages["/a.tgz"] = Page()
    repository.declare(a=[url(server.url("/cut.tgz")), url(server.url("/a.tgz"))])
    assert repository.fill().filled == ["a"]
    assert repository.leftovers() == []


# ── Being there ──────────────────────────────────────────────────────────────────────────────────


def test_a_second_fill_needs_no_network_and_no_time(repository, server):
    server.pages["/a.tgz"] = Page()
    repository.declare(a=[url(server.url("/a.tgz"))])
    repository.fill()
    server.stop()

    started = time.monotonic()
    process = repository.command("fill")
    output, errors = process.communicate(timeout=DEADLINE_S)

    assert (process.returncode, errors) == (0, "")
    assert output == f"a: 1.0 is there, from {server.url('/a.tgz')}\n"
    assert time.monotonic() - started < 2


def test_a_copied_depot_is_known_by_its_content(repository, server):
    server.pages["/a.tgz"] = Page()
    repository.declare(a=[url(server.url("/a.tgz"))])
    repository.fill()
    os.utime(repository.file("a"), (1, 1))

    assert repository.fill().filled == []
    assert repository.entry("a")["mtime_ns"] == 1_000_000_000
    assert len(server.requests) == 1


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_file_is_brought_again(repository, server, damage):
    server.pages["/a.tgz"] = Page()
    repository.declare(a=[url(server.url("/a.tgz"))])
    repository.fill()
    path = repository.file("a")
    match damage:
        case "truncated":
            path.write_bytes(CONTENT[:1000])
        case "changed":
            path.write_bytes(b"x" + CONTENT[1:])
            os.utime(path, (1, 1))
        case "gone":
            path.unlink()

    assert repository.fill().filled == ["a"]
    assert path.read_bytes() == CONTENT


def test_verify_finds_damage_that_left_size_and_time_and_tells_the_remedy(
    repository, server, capsys
):
    server.pages["/a.tgz"] = Page()
    server.pages["/b.tgz"] = Page()
    repository.declare(a=[url(server.url("/a.tgz"))], b=[url(server.url("/b.tgz"))])
    repository.fill()
    path = repository.file("a")
    found = path.stat()
    path.write_bytes(b"x" + CONTENT[1:])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    assert cli.main(["verify", "--root", str(repository.root)]) == 1
    output, errors = capsys.readouterr()
    assert f"a: {path} is damaged" in output
    assert "b: ok" in output
    assert "fill --refresh --only a" in errors

    repository.fill("a", refresh=True)
    assert cli.main(["verify", "--root", str(repository.root)]) == 0


def test_only_what_is_declared_otherwise_is_brought_again(repository, server):
    for path in ("/a-1.tgz", "/a-2.tgz", "/b.tgz"):
        server.pages[path] = Page()
    b = [url(server.url("/b.tgz"))]
    repository.declare(a=[url(server.url("/a-{version}.tgz").replace("{version}", "1"))], b=b)
    repository.fill()

    repository.declare(a=("2.0", [url(server.url("/a-2.tgz"))]), b=b)
    assert repository.fill().filled == ["a"]

    assert repository.entry("a")["version"] == "2.0"
    assert not (repository.root / "depot/a-1.tgz").exists()


def test_a_further_source_changes_nothing_that_is_there(repository, server):
    server.pages["/a.tgz"] = Page()
    source = url(server.url("/a.tgz"))
    repository.declare(a=[source])
    repository.fill()
    repository.declare(a=[url(server.url("/better.tgz")), source])
    assert repository.fill().filled == []


def test_what_is_no_longer_declared_goes(repository, server):
    server.pages["/a.tgz"] = Page()
    server.pages["/b.tgz"] = Page()
    repository.declare(a=[url(server.url("/a.tgz"))])
    repository.fill()
    repository.declare(b=[url(server.url("/b.tgz"))])
    repository.fill()
    assert not (repository.root / "depot/a.tgz").exists()
    assert list(repository.depot().entries) == ["b"]


def test_a_damaged_manifest_is_one_clear_error(repository):
    repository.declare(a=[url("https://example.org/a.tgz")])
    (repository.root / "depot").mkdir()
    (repository.root / "depot/manifest.json").write_text("{")
    with pytest.raises(DepotError, match=r"manifest\.json is damaged: remove it"):
        repository.depot()


# ── Interruption ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_download_that_the_next_fill_finishes(repository, server, signum):
    release = threading.Event()
    server.pages["/a.tgz"] = Page(stall=release)
    repository.declare(a=[url(server.url("/a.tgz"))])
    process = repository.command("fill")
    temporary = repository.root / "depot/.tmp"
    wait_until(lambda: any(p.stat().st_size for p in temporary.glob("*.part")), "half a download")

    process.send_signal(signum)
    _, errors = process.communicate(timeout=DEADLINE_S)

    assert process.returncode == 128 + signum
    assert errors == "Interrupted; the next fill goes on from here.\n"
    assert [name[-5:] for name in repository.leftovers()] == [".part"]
    assert not (repository.root / "depot/manifest.json").exists()
    release.set()
    server.pages["/a.tgz"] = Page()
    assert repository.fill().filled == ["a"]
    assert repository.file("a").read_bytes() == CONTENT


def test_a_signal_ends_the_clients_too(repository, tmp_path):
    repository.client("mmdebstrap", f"echo $$ > {tmp_path}/pid; sleep 60 & wait")
    repository.declare(a=[{"kind": "mmdebstrap", "release": "bookworm", "packages": ["x"]}])
    process = repository.command("fill")
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text().strip(), "a running client")

    process.terminate()

    assert process.wait(DEADLINE_S) == 143
    wait_until(lambda: not Path(f"/proc/{int(pid.read_text())}").exists(), "the client's end")
    assert repository.leftovers() == []


def test_after_kill_9_a_fill_waits_for_orphans_and_brings_what_is_missing(repository, tmp_path):
    repository.client(
        "mmdebstrap",
        f"echo $$ > {tmp_path}/pid; until [ -e {tmp_path}/go ]; do sleep 0.05; done\n"
        'echo x > "${@: -1}"',
    )
    repository.declare(a=[{"kind": "mmdebstrap", "release": "bookworm", "packages": ["x"]}])
    first = repository.command("fill")
    wait_until((tmp_path / "pid").exists, "a running client")
    first.kill()
    first.wait(DEADLINE_S)

    second = repository.command("fill")
    assert second.stdout.readline().startswith("depot: waiting for another fill")
    (tmp_path / "go").touch()

    output, _ = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 0, output
    assert repository.file("a").read_text() == "x\n"
    assert repository.leftovers() == []


# ── Clients ──────────────────────────────────────────────────────────────────────────────────────


def test_a_missing_client_is_named_with_its_package(repository, monkeypatch):
    repository.declare(a=[maven()])
    monkeypatch.setenv("PATH", str(repository.bin))
    story = repository.fill().failed["a"]
    assert "mvn is not installed: `make prerequisites`, or apt-get install maven" in story


def test_a_failing_client_is_quoted(repository):
    repository.client("mvn", "echo noise; echo '[ERROR] no such artifact g:a'; exit 1")
    repository.declare(a=[maven()])
    assert "maven: mvn failed (1): [ERROR] no such artifact g:a" in repository.fill().failed["a"]


def test_the_gist_of_an_output_is_its_errors_or_its_end():
    assert gist("a\n\x1b[31mERROR: bad\x1b[0m\nb\n[ERROR] \n") == "ERROR: bad"
    assert gist("a\nb\nc\n", lines=2) == "b | c"
    assert gist("") == "it said nothing"


@pytest.mark.parametrize(
    ("locked", "told"),
    [
        ({**JARS, "one.jar": sha512(b"1")}, f"one.jar has sha512 {JARS['one.jar']}, locked is"),
        ({**JARS, "three.jar": sha512(b"3")}, "three.jar is missing"),
        ({"one.jar": JARS["one.jar"]}, "two.jar is not locked"),
    ],
)
def test_jars_that_are_not_the_locked_ones_are_refused_by_name(repository, locked, told):
    repository.client("mvn", MVN)
    repository.declare(a=[maven()])
    lock_jars(repository, "a", locked)
    assert told in repository.fill().failed["a"]
    assert repository.leftovers() == []


def test_lock_writes_what_maven_resolves(repository):
    repository.client("mvn", MVN)
    repository.declare(a=[maven()])
    assert cli.main(["lock", "--root", str(repository.root)]) == 0
    assert Lock(repository.root / "depot.lock").of("a") == JARS
    assert repository.fill().filled == ["a"]


def test_an_assembled_archive_is_laid_out_as_declared(repository):
    repository.client("mvn", MVN)
    lock_jars(repository, "a")
    (repository.root / "files/bin").mkdir(parents=True)
    (repository.root / "files/bin/run.sh").write_text("#!/bin/sh\n")
    launchers = {"go.sh": "org.example.Go"}
    repository.declare(
        a=[maven(top="a-{version}", into="libs", files="files", launchers=launchers)]
    )

    assert repository.fill().filled == ["a"]

    assert repository.names("a") == [
        "a-1.0",
        *("a-1.0/bin", "a-1.0/bin/go.sh", "a-1.0/bin/run.sh"),
        *("a-1.0/libs", "a-1.0/libs/one.jar", "a-1.0/libs/two.jar"),
    ]
    (repository.root / "files/bin/run.sh").write_text("#!/bin/sh\necho changed\n")
    assert repository.fill().filled == ["a"], "a changed input makes it again"


def test_an_assembled_archive_that_is_not_the_pinned_one_is_refused(repository):
    repository.client("mvn", MVN)
    lock_jars(repository, "a")
    repository.declare(a=[maven(sha512="0" * 128)])
    assert "maven: wrong checksum: sha512 is" in repository.fill().failed["a"]
    assert not (repository.root / "depot/a-1.0.tar").exists()


def test_archives_do_not_depend_on_when_and_by_whom_they_are_made(tmp_path):
    digests = set()
    for number, umask in enumerate([0o022, 0o077]):
        before = os.umask(umask)
        tree = tmp_path / f"tree{number}"
        tree.mkdir()
        for name in sorted("abc", reverse=bool(number)):
            (tree / name).write_text(name)
            os.utime(tree / name, (number, number))
        (tree / "a").chmod(0o700 if number else 0o755)
        (tree / "link").symlink_to("a")
        os.umask(before)
        pack(tree, tmp_path / f"{number}.tar")
        digests.add(sha512_of(tmp_path / f"{number}.tar"))
    assert len(digests) == 1


def make_wheel(folder, name, version):
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/bin/tool", "#!/bin/sh\n")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return f"{name}=={version} --hash=sha512:{sha512(path.read_bytes())}"


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder that pip takes packages from, in place of an index."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_python_packages_are_repacked_with_programs_that_run(repository, packages):
    line = make_wheel(packages, "thing", "1.0")
    unpack = {"thing": ".", "thing-{version}.dist-info/METADATA": "METADATA"}
    source = {"kind": "pypi", "requirements": [line], "top": "thing-{version}", "unpack": unpack}
    repository.declare(thing=[source])

    assert repository.fill().filled == ["thing"]

    assert "thing-1.0/METADATA" in repository.names("thing")
    with tarfile.open(repository.file("thing")) as tar:
        assert tar.getmember("thing-1.0/bin/tool").mode == 0o755


def test_a_python_package_with_another_hash_is_refused(repository, packages):
    line = make_wheel(packages, "thing", "1.0")
    repository.declare(thing=[{"kind": "pypi", "requirements": [line[:-8] + "00000000"]}])
    assert "DO NOT MATCH THE HASHES" in repository.fill().failed["thing"]


def test_a_wheelhouse_installs_by_its_own_hashes_and_follows_its_lock(
    repository, packages, tmp_path
):
    locked = repository.root / "requirements.txt"
    locked.write_text(make_wheel(packages, "thing", "1.0"))
    also = make_wheel(packages, "helper", "2.0")
    source = {"kind": "wheelhouse", "requirements": "requirements.txt", "also": [also]}
    repository.declare(runtime=[source])
    assert repository.fill().filled == ["runtime"]

    wheels = tmp_path / "wheels"
    shutil.unpack_archive(repository.file("runtime"), wheels)
    assert sorted(path.name for path in wheels.iterdir()) == [
        "helper-2.0-py3-none-any.whl",
        "requirements.txt",
        "thing-1.0-py3-none-any.whl",
    ]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--require-hashes"]
    install += ["--find-links", wheels, "--target", tmp_path / "target"]
    subprocess.run([*install, "-r", wheels / "requirements.txt"], check=True)
    assert (tmp_path / "target/thing/bin/tool").exists()

    locked.write_text(make_wheel(packages, "thing", "1.1"))
    assert repository.fill().filled == ["runtime"]
    assert "thing-1.1-py3-none-any.whl" in repository.names("runtime")


def make_deb(folder, name, version):
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
        "Maintainer: nobody <nobody@example.org>\nDescription: a test\n"
    )
    path = folder / f"{name}_{version.replace(':', '%3a')}_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, path], check=True, stdout=subprocess.DEVNULL)
    return path


APT = {"kind": "apt", "release": "bookworm", "packages": ["plain", "epoch"]}
# An apt-get that "downloads" packages into the cache that it is told to use.
APT_GET = r"""
for argument in "$@"; do
  case $argument in --option=Dir::Cache=*) cache=${{argument##*=}} ;; esac
done
case "$*" in
  *" indextargets "*) echo {offered} ;;
  *" install "*) cp {debs}/*.deb "$cache/archives/" ;;
esac
"""


def test_packages_of_another_debian_are_refused(repository, tmp_path):
    repository.client("apt-get", APT_GET.format(offered="trixie", debs=tmp_path))
    repository.declare(a=[APT])
    assert "apt sources offer trixie, not bookworm" in repository.fill().failed["a"]


def test_debian_packages_become_a_repository_that_apt_can_read(repository, tmp_path):
    debs = tmp_path / "debs"
    make_deb(debs, "plain", "1.0-1")
    make_deb(debs, "epoch", "2:1.5-1")
    repository.client("apt-get", APT_GET.format(offered="bookworm", debs=debs))
    repository.declare(a=[APT])
    assert repository.fill().filled == ["a"]
    assert repository.entry("a")["contents"] == ["epoch 2:1.5-1", "plain 1.0-1"]

    copy = tmp_path / "copy"
    shutil.unpack_archive(repository.file("a"), copy)
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] file:{copy} ./\n")
    for folder in ("lists/partial", "cache/archives/partial"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "status").touch()
    options = {
        "Dir::Etc::sourcelist": tmp_path / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": tmp_path / "lists",
        "Dir::State::status": tmp_path / "status",
        "Dir::Cache": tmp_path / "cache",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
    }
    apt = ["/usr/bin/apt-get", "-qq", *(f"--option={k}={v}" for k, v in options.items())]
    updated = subprocess.run([*apt, "update"], capture_output=True, text=True, check=True)
    assert updated.stderr == ""
    planned = subprocess.run(
        [*apt, "install", "--simulate", "epoch", "plain"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Inst epoch (2:1.5-1" in planned.stdout
    assert "Inst plain (1.0-1" in planned.stdout


@pytest.fixture
def java(repository, server, tmp_path):
    """A repository with Java sources, made with the jar of another artifact; asked of javac."""
    (tmp_path / "Known.java").write_text(
        'package them; public class Known { public static String word() { return "known"; } }'
    )
    subprocess.run(["javac", "-d", tmp_path / "them", tmp_path / "Known.java"], check=True)
    (tmp_path / "tree/them-1/lib").mkdir(parents=True)
    sources.write_jar(tmp_path / "them", tmp_path / "tree/them-1/lib/them.jar")
    pack(tmp_path / "tree", tmp_path / "them.tar")
    content = (tmp_path / "them.tar").read_bytes()
    server.pages["/them.tar"] = Page(content)

    (repository.root / "java/META-INF/services").mkdir(parents=True)
    (repository.root / "java/META-INF/services/x.Y").write_text("us.Main\n")
    write_main(repository, "them.Known.word()")

    def declare(version="1.0"):
        ours = {"kind": "javac", "files": "java", "release": "17", "classpath": ["them"]}
        # What is made comes first in the declaration, and last in a fill.
        repository.declare(ours=[ours], them=(version, [url(server.url("/them.tar"), content)]))

    declare()
    repository.declare_java = declare
    return repository


def write_main(repository, expression):
    (repository.root / "java/us").mkdir(exist_ok=True)
    (repository.root / "java/us/Main.java").write_text(
        "package us;\nclass Main {\n  public static void main(String[] args) {\n"
        f"    System.out.println({expression});\n  }}\n}}\n"
    )


def test_our_sources_become_a_jar_that_runs_with_those_it_is_made_with(java, tmp_path):
    assert java.fill().filled == ["them", "ours"]
    with tarfile.open(java.file("ours")) as tar:
        assert tar.getnames() == ["ours-1.0.jar"]
        tar.extract("ours-1.0.jar", tmp_path)
    with zipfile.ZipFile(tmp_path / "ours-1.0.jar") as jar:
        assert jar.namelist() == ["META-INF/services/x.Y", "us/Main.class"]
    path = f"{tmp_path}/ours-1.0.jar:{tmp_path}/them"
    ran = subprocess.run(
        ["java", "-cp", path, "us.Main"], check=True, capture_output=True, text=True
    )
    assert ran.stdout == "known\n"
    assert len(java.entry("ours")["contents"]) == 2

    before = java.entry("ours")["sha512"]
    assert java.fill().filled == []
    assert java.fill("ours", refresh=True).filled == ["ours"]
    assert java.entry("ours")["sha512"] == before, "the same sources make the same file"


def test_it_is_made_again_when_its_sources_or_what_it_is_made_with_change(java):
    java.fill()
    write_main(java, '"changed"')
    assert java.fill().filled == ["ours"]
    java.declare_java(version="1.1")
    assert java.fill().filled == ["them", "ours"]


def test_a_source_that_does_not_compile_is_quoted(java):
    write_main(java, "them.Unknown.word()")
    story = java.fill().failed["ours"]
    assert "javac failed (1): " in story
    assert "java/us/Main.java:4: error: " in story


def test_jars_are_those_in_lib_or_bare_and_no_others(tmp_path):
    for name in ("tree/bare.jar", "tree/a-1/lib/one.jar", "tree/a-1/opt/two.jar", "tree/a-1/x.jar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    pack(tmp_path / "tree", tmp_path / "a.tar")
    (tmp_path / "jars").mkdir()
    sources.unpack_jars(tmp_path / "a.tar", tmp_path / "jars")
    assert sorted(path.name for path in (tmp_path / "jars").iterdir()) == ["bare.jar", "one.jar"]


def test_what_is_made_with_something_that_is_missing_says_so(java):
    assert "made with them, which is not in the depot" in java.fill("ours").failed["ours"]


# ── Kafka's launchers ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def launch(tmp_path):
    """Run a launcher through a symlink, with a java that prints its class path and arguments."""
    kafka = tmp_path / "kafka-3.8.1"
    shutil.copytree(ROOT / "tools/depot_files/kafka", kafka)
    (tmp_path / "kafka").symlink_to(kafka)
    java = tmp_path / "jvm/bin/java"
    java.parent.mkdir(parents=True)
    java.write_text('#!/bin/sh\necho "$CLASSPATH"; printf "%s\\n" "$@"\n')
    java.chmod(0o755)

    def run(script, *arguments, **environment):
        env = {"PATH": os.environ["PATH"], "JAVA_HOME": str(tmp_path / "jvm"), **environment}
        argv = [tmp_path / "kafka/bin" / script, *arguments]
        result = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
        class_path, *words = result.stdout.splitlines()
        return class_path, words

    return run, kafka


def test_the_server_runs_with_its_own_log_settings_unless_told(launch):
    run, kafka = launch
    class_path, words = run("kafka-server-start.sh", "s.properties", LOG_DIR="/logs")
    assert class_path == f"{kafka}/libs/*"
    assert words[-2:] == ["kafka.Kafka", "s.properties"]
    assert {
        "-Xmx1G",
        "-Dkafka.logs.dir=/logs",
        f"-Dlog4j.configuration=file:{kafka}/config/log4j.properties",
    } < set(words)


def test_launchers_honour_the_official_environment(launch):
    run, _ = launch
    class_path, words = run(
        "kafka-run-class.sh",
        "org.example.Tool",
        "an argument",
        CLASSPATH="/extra.jar",
        KAFKA_HEAP_OPTS="-Xms7m -Xmx8m",
        KAFKA_JVM_PERFORMANCE_OPTS="-XX:+UseSerialGC",
        KAFKA_LOG4J_OPTS="-Dlog4j=mine",
        KAFKA_JMX_OPTS="-Djmx=mine",
        KAFKA_OPTS="-Dmore=mine",
    )
    assert class_path.startswith("/extra.jar:")
    assert words[:4] == ["-Xms7m", "-Xmx8m", "-XX:+UseSerialGC", "-Djmx=mine"]
    assert words[-4:] == ["-Dlog4j=mine", "-Dmore=mine", "org.example.Tool", "an argument"]


# ── The declaration ──────────────────────────────────────────────────────────────────────────────

HEAD = "artifacts:\n  a:\n    version: '1'\n    licence: none\n    sources:\n"


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", 1, "is empty"),
        ("artifacts: [", 1, "not YAML"),
        ("artifact: {}", 1, "no key 'artifact'; known: artifacts"),
        ("artifacts:\n  A: {}", 2, "a name has lower-case letters"),
        ("artifacts:\n  a:\n    version: 1.0", 3, "a: needs 'licence'"),
        (
            HEAD.replace("'1'", "1.0") + "      - kind: url",
            3,
            "a: version: expected text (in quotes",
        ),
        (HEAD + "      []", 6, "a: sources: expected a list with at least one entry"),
        (HEAD + "      - url: https://x/y", 6, "a: sources[0]: needs 'kind', one of: url, maven"),
        (HEAD + "      - kind: ftp", 6, "no kind 'ftp'"),
        (HEAD + "      - kind: url\n        ur: https://x/y", 7, "no key 'ur'; known: sha256_url"),
        (
            HEAD + "      - kind: url\n        url: https://x/y",
            6,
            "needs 'sha512', 'sha512_url' or 'sha256_url'",
        ),
        (
            HEAD + "      - kind: url\n        url: file:///y\n        sha512: x",
            8,
            "128 hex digits",
        ),
        (
            HEAD + "      - kind: url\n        url: https://x/y\n        sha512_url: http://x/z",
            6,
            "sha512_url: a digest can be trusted over https only",
        ),
        (
            HEAD + "      - kind: url\n        url: https://x/y\n        sha256_url: http://x/z",
            6,
            "sha256_url: a digest can be trusted over https only",
        ),
        (
            HEAD.replace("sources", "optional: perhaps\n    sources") + "      - kind: url",
            5,
            "a: optional: expected true or false",
        ),
        (
            HEAD + f"      - kind: url\n        url: file:///y\n        sha512: {'a' * 128}",
            6,
            "url: expected https:// or http://",
        ),
        (
            HEAD + "      - kind: maven\n        artifacts: [a]\n        transitive: perhaps",
            8,
            "transitive: expected true or false",
        ),
        (HEAD + "      - kind: apt\n        kind: apt", 7, "'kind' is there twice"),
        (
            HEAD + "      - {kind: javac, files: x, release: '17', classpath: [b]}",
            3,
            "a: needs 'b', which is not here",
        ),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_line(tmp_path, capsys, text, line, told):
    path = tmp_path / "depot.yml"
    path.write_text(text)
    assert cli.main(["fill", "--root", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{path}:{line}: ")
    assert told in error


def test_a_name_that_nothing_has_is_refused_with_those_that_are_there(repository):
    repository.declare(a=[url("https://example.org/a.tgz")])
    with pytest.raises(DeclarationError, match="no artifact 'b'; there are: a"):
        repository.depot().select(["b"], [])
    with pytest.raises(DeclarationError, match="no group 'b'; there are: plant"):
        repository.depot().select([], ["b"])


def test_a_wrong_line_in_the_lock_is_named(tmp_path):
    (tmp_path / "depot.lock").write_text("abc  a/one.jar\n")
    with pytest.raises(DeclarationError, match=r"depot\.lock:1: expected"):
        Lock(tmp_path / "depot.lock")


def test_plantlines_own_declaration_is_valid_and_its_jars_are_locked():
    lock = Lock(ROOT / "depot.lock")
    for artifact in load(ROOT / "depot.yml").values():
        for source in artifact.sources:
            if isinstance(source, sources.MavenSource):
                jars = {f"{a.split(':')[1]}-{a.split(':')[2]}.jar" for a in source.artifacts}
                assert jars <= lock.of(artifact.name).keys()


@pytest.mark.parametrize(
    "published",
    [
        "{digest}  {file}\n",
        "{digest} *{file}\n",
        "{file}: {groups}\n",  # gpg --print-md, in upper-case groups over several lines
        "{digest}",
    ],
)
def test_published_digests_are_read_in_each_of_their_forms(server, published):
    digest, file = sha512(CONTENT), "kafka_2.13-3.8.1.tgz"
    groups = "\n  ".join(
        " ".join(re.findall("." * 8, part)) for part in re.findall("." * 64, digest.upper())
    )
    text = published.format(digest=digest, file=file, groups=groups)
    server.pages["/x.sha512"] = Page(text.encode())
    assert sources.published("sha512", server.url("/x.sha512"), file, DEADLINE_S) == digest


def test_an_archive_whose_digest_is_not_published_is_not_taken(server):
    server.pages["/x.sha512"] = Page(b"<html>not found</html>")
    with pytest.raises(sources.SourceError, match="holds none of"):
        sources.published("sha512", server.url("/x.sha512"), "x.tgz", DEADLINE_S)
    with pytest.raises(sources.SourceError, match="no published sha512: HTTP 404"):
        sources.published("sha512", server.url("/y.sha512"), "y.tgz", DEADLINE_S)


@pytest.mark.parametrize("published", ["{digest}", "{digest}\n", "{digest}  a.tgz\n"])
def test_an_archive_is_taken_by_its_published_sha256(repository, server, published):
    digest = hashlib.sha256(CONTENT).hexdigest()
    server.pages["/a.tgz"] = Page()
    server.pages["/a.tgz.sha256"] = Page(published.format(digest=digest).encode())
    assert fill_by_sha256(repository, server).filled == ["a"]
    assert repository.entry("a")["sha512"] == sha512(CONTENT)


def test_an_archive_that_is_not_the_published_one_is_refused(repository, server):
    server.pages["/a.tgz"] = Page(b"something else")
    server.pages["/a.tgz.sha256"] = Page(hashlib.sha256(CONTENT).hexdigest().encode())
    told = fill_by_sha256(repository, server).failed["a"]
    expected, actual = (hashlib.sha256(data).hexdigest() for data in (CONTENT, b"something else"))
    assert f"wrong checksum: sha256 is {actual}, expected {expected}" in told
    assert not (repository.root / "depot/a.tgz").exists()


def fill_by_sha256(repository, server):
    """Outcome of a fill of `a` by a digest served over http, which depot.yml would not allow."""
    repository.declare(a=[url(server.url("/a.tgz"))])
    depot = repository.depot()
    source = sources.UrlSource(url=server.url("/a.tgz"), sha256_url=server.url("/a.tgz.sha256"))
    declared = dataclasses.replace(depot.artifacts["a"], sources=(source,))
    return depot.fill([declared], repository)


# ── Optional artifacts ───────────────────────────────────────────────────────────────────────────


@pytest.fixture
def optional(repository, closed_port):
    """A repository whose only artifact is optional, at a server that is not there."""
    address = f"http://127.0.0.1:{closed_port}/a.tgz"
    repository.declare(a=[url(address)])
    declare_optional(repository)
    return repository


def declare_optional(repository):
    path = repository.root / "depot.yml"
    document = yaml.safe_load(path.read_text())
    for artifact in document["artifacts"].values():
        artifact["optional"] = True
    path.write_text(yaml.safe_dump(document))


def test_an_optional_artifact_that_nobody_serves_is_left_out_in_one_line(optional):
    process = optional.command("fill")
    output, errors = process.communicate(timeout=DEADLINE_S)
    assert (process.returncode, errors) == (0, "")
    [line] = output.splitlines()
    assert line.startswith("a: 1.0 is optional and is left out (http://127.0.0.1")
    assert "unreachable: Connection refused" in line
    assert line.endswith("python tools/depot.py fill --only a")
    assert not (optional.root / "depot/manifest.json").exists()
    assert optional.leftovers() == []


def test_it_is_not_asked_for_at_every_fill_but_after_a_day(optional, server, monkeypatch):
    optional.declare(a=[url(server.url("/a.tgz"))])
    declare_optional(optional)
    for _ in range(2):
        assert optional.fill().left_out == ["a"]
    assert len(server.requests) == 1
    assert optional.news[0] == optional.news[1]

    tomorrow = time.time() + store.ASK_AGAIN_S
    monkeypatch.setattr(time, "time", lambda: tomorrow)
    server.pages["/a.tgz"] = Page()
    assert optional.fill().filled == ["a"]


@pytest.mark.parametrize("why", ["named", "refresh", "declared otherwise"])
def test_it_is_asked_for_at_once_when_there_is_a_reason(optional, server, why):
    optional.declare(a=[url(server.url("/a.tgz"))])
    declare_optional(optional)
    optional.fill()
    server.pages["/a.tgz"] = Page()
    if why == "declared otherwise":
        optional.declare(a=("2.0", [url(server.url("/a.tgz"))]))
        declare_optional(optional)
    outcome = optional.fill(*(["a"] if why == "named" else []), refresh=why == "refresh")
    assert outcome.filled == ["a"]


def test_named_it_is_as_needed_as_any_other(optional):
    assert "unreachable" in optional.fill("a").failed["a"]


def test_it_is_never_taken_with_a_wrong_checksum(optional, server):
    server.pages["/a.tgz"] = Page(b"something else")
    optional.declare(a=[url(server.url("/a.tgz")), url(server.url("/no"))])
    declare_optional(optional)
    assert "wrong checksum" in optional.fill().failed["a"]
    assert "wrong checksum" in optional.fill().failed["a"], "and is asked for again"


def test_a_silent_server_of_an_optional_artifact_is_not_waited_for_long(optional, monkeypatch):
    monkeypatch.setattr(sources, "OPTIONAL_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        optional.declare(a=[url(f"http://127.0.0.1:{silent.getsockname()[1]}/a.tgz")])
        declare_optional(optional)
        started = time.monotonic()
        assert optional.fill().left_out == ["a"]
        assert time.monotonic() - started < 2


# ── What people see ──────────────────────────────────────────────────────────────────────────────


def test_failure_ends_with_the_remedy_and_exit_code_1(repository, server, capsys):
    repository.declare(a=[url(server.url("/no"))])
    assert cli.main(["fill", "--root", str(repository.root)]) == 1
    errors = capsys.readouterr().err
    assert "a 1.0: no source could serve it" in errors
    assert cli.REMEDY in errors


def test_list_shows_what_is_there(repository, server, capsys):
    server.pages["/a.tgz"] = Page()
    repository.declare(a=[url(server.url("/a.tgz"))], b=[url(server.url("/b.tgz"))])
    repository.fill("a")
    assert cli.main(["list", "--root", str(repository.root)]) == 0
    a, b = capsys.readouterr().out.splitlines()[1:3]
    assert re.match(r" *a +1\.0 +plant +none +1\.0 MB from http", a)
    assert re.match(r" *b +1\.0 +plant +none +no", b)


def test_logs_get_a_line_for_each_quarter(capsys):
    lines = Lines()
    for done in range(0, 101, 5):
        lines.step("a", "downloading", done * 10_000, 1_000_000)
    assert capsys.readouterr().out.splitlines() == [
        f"a: downloading, {mb} MB of 1.0 MB" for mb in ("0.2", "0.5", "0.8", "1.0")
    ]


def test_terminals_get_a_bar_with_what_is_done():
    console = Console(force_terminal=True, width=100, record=True)
    with Progress("{task.description} {task.fields[step]}", console=console) as progress:
        bars = Bars(progress)
        bars.step("a", "downloading [x]", 500_000, 1_000_000)
        bars.say("a", "news [x]")
        assert progress.tasks[0].percentage == 50
        assert "0.5 MB of 1.0 MB" in progress.tasks[0].fields["step"]
        bars.finished("a")
        assert not progress.tasks
    assert "a: news [x]" in console.export_text()
