"""Records and settings that several tests start from."""

from flink_jobs import contracts

UNCHECKED = {"limits": [], "max_rate_per_s": None, "stuck_after_s": None}


def job_config(channels, **changes):
    """An anomaly job's configuration; the channels need a name only."""
    usual = {"unit": "bar", "valid_min": 0, "valid_max": 100, **UNCHECKED}
    return {
        "job_name": "plantline-anomaly-pump",
        "machine_type": "pump",
        "telemetry_topic": "telemetry.pump",
        "kafka": {"bootstrap.servers": "a:9092,b:9092"},
        "severity": "warning",
        "unknown_machines": "accept",
        "machines_file": "/etc/plantline/jobs/machines.json",
        "channels": [usual | channel for channel in channels],
        "window_s": 30,
        "slide_s": 10,
        "commissioning_readings": 400,
        "max_disorder_s": 5,
        "max_clock_ahead_s": 300,
        "silent_after_s": None,
        "forget_after_days": 365,
    } | changes


PREDICTION = contracts.Prediction(
    machine_id="p1",
    machine_type="pump",
    window_start=0,
    window_end=60_000,
    kind="anomaly",
    model="pump-anomaly",
    model_version="1",
    revision=0,
    score=1.5,
    threshold=1.0,
    is_alert=True,
    rul=None,
    rul_unit=None,
    horizon_s=None,
    readings=60,
    top_channels=(contracts.ChannelShare("current", 0.75),),
)

ALERT = contracts.Alert(
    alert_id=contracts.alert_id("p1", "anomaly", "pump-anomaly", 60_000),
    state="raised",
    machine_id="p1",
    machine_type="pump",
    ts=60_000,
    rule="anomaly",
    severity="warning",
    channel=None,
    model="pump-anomaly",
    model_version="1",
    window_end=60_000,
    value=1.5,
    threshold=1.0,
    message="score 1.5 is above 1.0",
    line=None,
    area=None,
)


class Message:
    """Stands in for a record as the Kafka client returns it."""

    def __init__(self, topic, value, appended=0):
        self._topic, self._value, self._appended = topic, value, appended

    def topic(self):
        return self._topic

    def value(self):
        return self._value

    def timestamp(self):
        return 1, self._appended
