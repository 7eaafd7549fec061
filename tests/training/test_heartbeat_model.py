"""The heartbeat's model is what its maker makes today."""

from flink_jobs.tools import heartbeat_model


def test_the_committed_model_is_made_anew_byte_by_byte():
    assert heartbeat_model.model() == heartbeat_model.FILE.read_bytes()
