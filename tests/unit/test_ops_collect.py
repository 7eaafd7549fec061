"""The support bundle, of a plant that is this machine: pyinfra's local connection is real."""

import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from ops.remote import gather
from ops.remote.gather import as_json, configs, logs, tail

ROOT = Path(__file__).resolve().parents[2]
SECRET = "-".join(("correct", "horse"))


@pytest.fixture
def inventory(tmp_path):
    """A plant of one host, this machine, whose inventory holds a secret."""
    folder = tmp_path / "plant"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "hosts.yml").write_text("all: {hosts: {here: {ansible_connection: local}}}\n")
    (folder / "group_vars" / "all.yml").write_text(
        f"plant: {{name: my plant}}\ngrafana_admin_password: {SECRET}\nnote: not {SECRET}\n"
    )
    return folder


def ops(*arguments):
    command = [sys.executable, "-m", "ops", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def bundle(inventory, tmp_path):
    """The archive that `collect` made, and what it said."""
    done = ops("collect", "--inventory", inventory, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out").iterdir()
    return file, done.stdout


def test_the_bundle_is_for_its_owner_only_and_named_after_plant_and_time(bundle):
    file, said = bundle
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.name.startswith("support-my-plant-2")
    assert str(file) in said


def test_the_bundle_holds_every_host_and_no_secret(bundle):
    with tarfile.open(bundle[0]) as tar:
        texts = {
            entry.name.partition("/")[2]: tar.extractfile(entry).read().decode() for entry in tar
        }
    assert {"README.txt", "status.txt", "control/versions.json"} <= set(texts)
    assert "control/inventory/group_vars/all.yml" in texts
    assert "Linux" in texts["here/system/kernel.txt"]
    assert not [name for name, text in texts.items() if SECRET in text]


def test_a_probe_of_one_host_measures_its_disk(inventory):
    done = ops("probe", "--inventory", inventory)
    assert done.returncode in (0, 3), done.stderr
    assert "MiB/s" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error(inventory):
    command = [sys.executable, "-m", "ops", "probe", "--inventory", inventory]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_an_inventory_that_is_none_is_one_line_and_exit_code_1(tmp_path):
    done = ops("status", "--inventory", tmp_path / "absent")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_plant_of_which_no_host_answers_says_which_and_why(tmp_path):
    (tmp_path / "hosts.yml").write_text(
        "all: {hosts: {gone: {ansible_host: 127.0.0.1, ansible_port: 1}}}\n"
    )
    done = ops("status", "--inventory", tmp_path)
    assert done.returncode == 1
    assert "gone" in done.stderr
    assert "onnect" in done.stderr


# What a host gathers


def test_of_a_long_log_the_end_is_taken_from_the_beginning_of_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "LOG_BYTES", 10)
    file = tmp_path / "server.log"
    file.write_text("first line\nsecond\nthird\n")
    assert tail(file) == "third\n"
    file.write_text("short\n")
    assert tail(file) == "short\n"


def test_of_many_logs_the_newest_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "LOG_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(gather, "LOGS_PER_FOLDER", 2)
    for age, name in enumerate(("c.log", "b.log", "a.log")):
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert [text for _, text in logs()] == ["c.log", "b.log"]


def test_settings_are_taken_and_keys_are_not(tmp_path, monkeypatch):
    monkeypatch.setattr(gather, "CONFIG_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(gather, "CONFIG_FILES", (str(tmp_path / "absent"),))
    (tmp_path / "kafka").mkdir()
    (tmp_path / "kafka" / "server.properties").write_text("a=1")
    for name in ("host.key", "host.pem", "keystore.p12", "keystore.jks"):
        (tmp_path / "kafka" / name).write_text(SECRET)
    (tmp_path / "link").symlink_to(tmp_path / "kafka" / "host.key")
    assert [text for _, text in configs()] == ["a=1"]


def test_answers_become_json_with_one_value_a_line():
    text = as_json({"password": "x", "isr": frozenset({2, 1})})
    assert '"password": "x",\n' in text
    assert json.loads(text)["isr"] == [1, 2]
