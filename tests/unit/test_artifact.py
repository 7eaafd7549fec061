"""Action plugin artifact, run by ansible-playbook on this machine: what a host has afterwards."""

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - artifact:
        artifacts: "{{ artifacts }}"
      register: brought
    - debug:
        var: brought.installed
"""


class Depot:
    """A depot with one archive, and the folder that it is unpacked to."""

    def __init__(self, folder):
        self.folder, self.dest = folder / "depot", folder / "opt" / "tool-1"
        self.folder.mkdir()
        self.play = folder / "play.yml"
        self.play.write_text(PLAY)
        self.fill("first")

    def fill(self, text, *, true_digest=True):
        source = self.folder / "content"
        source.write_text(text)
        with tarfile.open(self.folder / "tool.tar.gz", "w:gz") as tar:
            tar.add(source, "tool-1/bin/content")
        archive = (self.folder / "tool.tar.gz").read_bytes() if true_digest else b"another"
        about = {"file": "tool.tar.gz", "sha512": hashlib.sha512(archive).hexdigest()}
        (self.folder / "manifest.json").write_text(json.dumps({"artifacts": {"tool": about}}))

    def run(self, *more, name="tool"):
        """Play; returns (exit code, output, whether anything changed)."""
        told = {
            "artifact_depot_dir": str(self.folder),
            "artifacts": [{"name": name, "dest": str(self.dest)}],
        }
        command = ["ansible-playbook", "-i", "localhost,", "-c", "local", self.play]
        command += ["-e", json.dumps(told), *more]
        home = {"ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp")}
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | home
        )
        return done.returncode, done.stdout + done.stderr, "changed=0" not in done.stdout

    @property
    def content(self):
        return (self.dest / "bin" / "content").read_text()


@pytest.fixture
def depot(tmp_path):
    return Depot(tmp_path)


def test_an_artifact_is_brought_once_and_replaced_as_a_whole(depot):
    code, output, changed = depot.run()
    assert (code, changed, depot.content) == (0, True, "first"), output
    assert depot.run()[2] is False

    (depot.dest / "left-over").touch()
    depot.fill("second")
    code, output, changed = depot.run()
    assert (code, changed, depot.content) == (0, True, "second"), output
    assert not (depot.dest / "left-over").exists()
    assert [path.name for path in depot.dest.parent.iterdir()] == ["tool-1"]


def test_a_dry_run_says_what_it_would_bring_and_brings_nothing(depot):
    code, output, changed = depot.run("--check", "--diff")
    assert (code, changed) == (0, True)
    assert "(none)" in output
    assert "tool" in output.partition("brought.installed")[2]
    assert not depot.dest.exists()


def test_content_whose_marker_is_missing_is_not_trusted(depot):
    depot.run()
    (depot.dest / ".sha512").unlink()
    assert depot.run()[2] is True


def test_an_archive_that_is_not_what_the_manifest_says_changes_nothing(depot):
    depot.run()
    depot.fill("damaged", true_digest=False)
    code, output, _ = depot.run()
    assert code != 0
    assert "tool: not what the depot's manifest says: `make depot` mends it." in output
    assert depot.content == "first"
    assert [path.name for path in depot.dest.parent.iterdir()] == ["tool-1"]


def test_an_artifact_that_the_depot_has_not_got_is_named(depot):
    code, output, _ = depot.run(name="other")
    assert code != 0
    assert "The depot has no artifact other (in " in output
