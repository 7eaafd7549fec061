"""status, collect and probe on the running plant: what an operator sees, and how soon."""

import sys
import tarfile
import time

import pytest
from conftest import INVENTORY, ROOT, eventually, note, on, run

SECRET = "-".join(("battery", "staple"))
VICTIM = "node2"


def ops(command, *arguments):
    """Run one of them; returns (exit code, what it printed, seconds)."""
    begin = time.monotonic()
    done = run(
        *(sys.executable, "-m", "ops", command, "--inventory", INVENTORY, *arguments), check=False
    )
    seconds = time.monotonic() - begin
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout, seconds


def found_wrong():
    """The lines in which status says what is wrong; none if nothing is."""
    _, screen, _ = ops("status")
    return [line for line in screen.splitlines() if line.startswith("  ! ")]


@pytest.fixture
def well(plant):
    """A plant of which status finds nothing wrong."""
    eventually("status finds nothing wrong", lambda: not found_wrong(), 180)


def test_status_shows_three_hosts_on_one_screen(well):
    code, screen, seconds = ops("status")
    note(f"status: {seconds:.1f} s")
    assert code == 0
    for figure in ("plantline-anomaly-pump", "RUNNING", "leader", "0 miss a replica", "Kafka 3."):
        assert figure in screen
    assert len(screen.splitlines()) <= 30


def test_status_names_a_broker_that_is_down_and_nothing_once_it_is_back(well):
    expected = (
        f"{VICTIM} not registered as broker",
        "a replica missing in",
        f"  ! {VICTIM}: kafka.service is inactive",
    )

    def named():
        # The quorum gives a broker some seconds before it calls it lost.
        wrong = "\n".join(found_wrong())
        return all(words in wrong for words in expected)

    on(VICTIM, "systemctl stop kafka")
    try:
        eventually("status names what is wrong", named, 60)
        assert ops("status")[0] == 3
    finally:
        on(VICTIM, "systemctl start kafka")
    eventually("status finds nothing wrong", lambda: not found_wrong(), 180)


def test_a_support_bundle_holds_every_host_and_no_secret(well, tmp_path):
    place = "/etc/plantline/kafka/of-a-test.properties"
    on(VICTIM, f"umask 077; echo 'ssl.keystore.password={SECRET}' > {place}")
    on(VICTIM, f"logger -t of-a-test 'password={SECRET}'")
    try:
        code, _, seconds = ops("collect", "--out", tmp_path)
    finally:
        on(VICTIM, f"rm {place}")
    assert code == 0
    (file,) = tmp_path.iterdir()
    note(f"collect: {seconds:.1f} s, {file.stat().st_size / 1024:.0f} KiB")
    with tarfile.open(file) as tar:
        texts = {entry.name.partition("/")[2]: tar.extractfile(entry).read() for entry in tar}
    assert texts[f"{VICTIM}{place}"] == b"ssl.keystore.password=<removed>\n"
    assert b"plantline-anomaly-pump" in texts["node1/flink.json"]
    assert b"telemetry.pump" in texts["node1/kafka.json"]
    for host in ("node1", "node2", "node3"):
        assert b"kafka" in texts[f"{host}/journal/kafka.service.txt"]
    assert not [name for name, text in texts.items() if SECRET.encode() in text]
    key = (ROOT / "out" / "hosts" / INVENTORY.name / "id_ed25519").read_bytes().splitlines()[1]
    assert not [name for name, text in texts.items() if key in text]


def test_a_probe_measures_every_disk_and_every_pair_and_leaves_nothing(well):
    _, tables, seconds = ops("probe")
    note(f"probe: {seconds:.1f} s")
    lines = [line.split() for line in tables.splitlines()]
    pairs = {frozenset(line[:2]) for line in lines if len(line) > 2 and line[1].startswith("node")}
    assert len(pairs) == 3
    assert sum("/var/lib/kafka" in line for line in tables.splitlines()) == 3
    for host in ("node1", "node2", "node3"):
        assert "7199" not in on(host, "ss -tln")
