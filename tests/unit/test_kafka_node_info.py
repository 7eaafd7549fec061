"""What a Kafka host tells of its disks and of what its process was started with."""

import hashlib

from plugins.modules.kafka_node_info import _differing, _properties


def record(path, *files):
    """As the unit does it: sha256sum FILES > path."""
    path.write_text(
        "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file}\n" for file in files)
    )


def test_a_process_started_with_these_files_needs_no_restart(tmp_path):
    settings = tmp_path / "server.properties"
    settings.write_text("a=1")
    record(tmp_path / "started-with", settings)
    assert _differing(tmp_path / "started-with") == []


def test_changed_and_vanished_files_differ(tmp_path):
    settings, unit, marker = (tmp_path / name for name in ("settings", "unit", ".sha512"))
    for file in (settings, unit, marker):
        file.write_text("before")
    record(tmp_path / "started-with", settings, unit, marker)
    settings.write_text("after")
    marker.unlink()
    assert _differing(tmp_path / "started-with") == [str(settings), str(marker)]


def test_without_a_process_nothing_differs(tmp_path):
    assert _differing(tmp_path / "started-with") == []


def test_properties_are_read_as_kafka_writes_them(tmp_path):
    (tmp_path / "meta.properties").write_text(
        "#\n#a date\nnode.id=2\nversion=1\ncluster.id=rtGNToVyRg-2ybMM0AfRg=\n"
    )
    assert _properties(tmp_path / "meta.properties") == {
        "node.id": "2",
        "version": "1",
        "cluster.id": "rtGNToVyRg-2ybMM0AfRg=",
    }
    assert _properties(tmp_path / "none") == {}
