"""The probe: who meets whom, what is measured, the verdicts. Links are real, to this host."""

import itertools
import socket
import threading

import pytest

from ops import probe
from ops.remote import measure
from ops.remote.measure import disk, link, main, quantile, serve

MEBI = 1024 * 1024
TOKEN = "0123456789abcdef"  # noqa: S105 - of this test


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 50])
def test_every_pair_meets_once_and_no_host_is_in_two_places(count):
    hosts = [f"h{number}" for number in range(count)]
    plan = probe.rounds(hosts)
    met = [frozenset(pair) for pairs in plan for pair in pairs]
    assert sorted(map(sorted, met)) == sorted(map(sorted, itertools.combinations(hosts, 2)))
    for pairs in plan:
        busy = [host for pair in pairs for host in pair]
        assert len(busy) == len(set(busy))


def link_of(**changes):
    return {
        "rtt_p50_s": 0.0002,
        "rtt_p99_s": 0.001,
        "out_bytes_per_s": 110 * MEBI,
        "back_bytes_per_s": 112 * MEBI,
        "clock_s": 0.001,
        "clock_error_s": 0.0001,
    } | changes


def disk_of(**changes):
    return {
        "path": "/var/lib/kafka/data",
        "bytes_per_s": 200.0 * MEBI,
        "sync_p50_s": 0.001,
        "sync_p99_s": 0.010,
        "error": None,
    } | changes


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "good"),
        ({"sync_p99_s": 0.05}, "poor"),
        ({"sync_p99_s": 0.2}, "bad"),
        ({"bytes_per_s": 20.0 * MEBI}, "poor"),
        ({"bytes_per_s": 10.0 * MEBI}, "bad"),
        ({"error": "No space left on device"}, "bad"),
    ],
)
def test_disks_are_judged_by_their_worst_figure(changes, verdict):
    assert probe.disk_verdict(disk_of(**changes)) == verdict


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "good"),
        ({"rtt_p99_s": 0.005}, "poor"),
        ({"rtt_p99_s": 0.05}, "bad"),
        ({"back_bytes_per_s": 11 * MEBI}, "poor"),
        ({"out_bytes_per_s": 1 * MEBI}, "bad"),
    ],
)
def test_links_are_judged_by_their_worst_figure(changes, verdict):
    assert probe.link_verdict(link_of(**changes)) == verdict


@pytest.mark.parametrize(
    ("lead_s", "error_s", "verdict"),
    [(0.04, 0.0, "good"), (-0.06, 0.0, "poor"), (0.06, 0.02, "good"), (-3.0, 0.01, "bad")],
)
def test_clocks_are_judged_by_what_is_certain(lead_s, error_s, verdict):
    assert probe.clock_verdict(link_of(clock_s=lead_s, clock_error_s=error_s)) == verdict


def results(disks=None, link=None, unreachable=None):
    return probe.Results(
        disks={"a": [disk_of()], "b": [disk_of()]} if disks is None else disks,
        links={("a", "b"): link_of() if link is None else link},
        unreachable=unreachable or {},
    )


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        (results(disks={"a": "no answer within 60 s"}), "no answer within 60 s"),
        (results(disks={"a": [disk_of(error="Read-only file system")]}), "Read-only file system"),
        (results(link="timed out"), "timed out"),
        (results(link=link_of(clock_s=2.0)), "2.0 s"),
        (results(unreachable={"c": "refused"}), "c cannot be reached: refused"),
    ],
)
def test_what_is_bad_is_shown_and_said_by_the_exit_code(wrong, shown):
    assert probe.bad(wrong)
    assert shown in probe.report(wrong)


def test_what_is_good_is_shown_with_all_its_figures():
    assert not probe.bad(results())
    text = probe.report(results())
    for figure in ("200 MiB/s", "10.00 ms", "0.20 ms", "110 MiB/s", "112 MiB/s", "0.10 ms"):
        assert figure in text
    assert "bad" not in text


def test_the_clock_that_is_ahead_is_named_first():
    for lead_s, words in ((0.3, ["b", "of", "a"]), (-0.3, ["a", "of", "b"])):
        last = probe.report(results(link=link_of(clock_s=lead_s))).splitlines()[-1]
        assert last.split()[:3] == words


@pytest.mark.parametrize(("share", "value"), [(0.5, 3), (0.99, 4), (0.0, 1)])
def test_quantiles_are_values_that_were_seen(share, value):
    assert quantile([4, 1, 3, 2], share) == value


# What runs on the hosts


@pytest.fixture
def serving(monkeypatch):
    """The port of a server as a host runs it."""
    monkeypatch.setattr(measure, "STREAM_S", 0.1)
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    server = threading.Thread(target=serve, args=(port, TOKEN, 20.0))
    server.start()
    yield port
    main("stop", port=port, token=TOKEN)
    server.join(5)
    assert not server.is_alive()


def test_a_link_is_measured_there_and_back(serving):
    found = link("127.0.0.1", serving, TOKEN)
    assert 0 < found["rtt_p50_s"] <= found["rtt_p99_s"] < 1
    assert found["out_bytes_per_s"] > MEBI
    assert found["back_bytes_per_s"] > MEBI


def test_a_clock_that_is_ahead_is_found_out_within_the_stated_error(serving, monkeypatch):
    clock = measure.time.time
    monkeypatch.setattr(
        measure.time,
        "time",
        lambda: clock() + (0 if threading.current_thread() is threading.main_thread() else 7.0),
    )
    found = link("127.0.0.1", serving, TOKEN)
    assert abs(found["clock_s"] - 7.0) <= found["clock_error_s"] + 0.001


def test_a_stranger_gets_no_answer(serving):
    with pytest.raises(ConnectionError):
        link("127.0.0.1", serving, "f" * len(TOKEN))


def test_a_server_that_nobody_stops_ends_by_itself():
    with socket.create_server(("", 0)) as free:
        port = free.getsockname()[1]
    assert serve(port, TOKEN, 0.3) == {}


def test_a_port_that_is_taken_and_a_peer_that_is_not_there_are_told(monkeypatch):
    monkeypatch.setattr(measure, "CONNECT_S", 0.2)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in main("serve", port=port, token=TOKEN, lifetime_s=1.0)["error"]
    assert "refused" in main("link", peer="127.0.0.1", port=port, token=TOKEN)["error"]


def test_a_disk_is_measured_and_nothing_stays_on_it(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "DISK_BYTES", MEBI)
    found = disk(tmp_path / "not" / "there" / "yet")
    assert found["path"] == str(tmp_path)
    assert found["error"] is None
    assert found["bytes_per_s"] > 0
    assert 0 < found["sync_p50_s"] <= found["sync_p99_s"]
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_nearly_full_is_not_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "DISK_SPARE", 2**60)
    assert "nothing was written" in disk(tmp_path)["error"]
