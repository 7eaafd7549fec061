"""Scripts sent to hosts and their answers, through pyinfra's connection to this machine."""

import socket

import pytest

from ops.fleet import NoAnswerError, connected
from ops.plant import Plant, PlantError


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """A plant of this machine, called `here`, and of one that nobody answers for."""
    monkeypatch.setattr("ops.fleet.ROOT", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "hosts.yml").write_text(
        "all: {hosts: {here: {ansible_connection: local},"
        f" gone: {{ansible_host: 127.0.0.1, ansible_port: {port}}}}}}}\n"
    )
    with connected(Plant(tmp_path)) as both:
        yield both


def test_a_script_runs_with_its_arguments_and_its_answer_comes_back_whole(fleet, tmp_path):
    (tmp_path / "Zürich").mkdir()
    answers = fleet.ask("measure", {"here": {"task": "disks", "paths": [f"{tmp_path}/Zürich"]}}, 60)
    assert answers["here"][0]["path"] == f"{tmp_path}/Zürich"


def test_who_cannot_be_reached_is_known_with_the_reason(fleet):
    assert list(fleet.connections) == ["here"]
    assert "onnect" in fleet.unreachable["gone"]


@pytest.mark.parametrize(
    ("hosts", "first"), [(["gone", "here"], "here"), (["gone"], None), ([], None)]
)
def test_the_first_host_that_is_reached_is_asked(fleet, hosts, first):
    assert fleet.first(hosts) == first


def test_a_script_that_fails_tells_its_last_words(fleet):
    answer = fleet.ask("measure", {"here": {"task": "disks", "no_such": 1}}, 60)["here"]
    assert isinstance(answer, NoAnswerError)
    assert "no_such" in str(answer)


def test_a_script_that_takes_too_long_is_given_up(fleet):
    about = {"task": "serve", "port": 0, "token": "x", "lifetime_s": 3.0}
    answer = fleet.ask("measure", {"here": about}, 1)["here"]
    assert str(answer) == "no answer within 1 s"


def test_a_plant_that_nobody_answers_for_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ops.fleet.ROOT", tmp_path)
    (tmp_path / "hosts.yml").write_text(
        "all: {hosts: {gone: {ansible_host: 127.0.0.1, ansible_port: 1}}}\n"
    )
    refused = pytest.raises(PlantError, match=r"no host of plant plant can be reached; gone: ")
    with refused, connected(Plant(tmp_path)):
        pass
