"""The checks of a machine type, from the plant model to the function that judges by them."""

import pytest

from flink_jobs.jobs.checks import checked_channels, checks_text
from flink_jobs.plant import job_config, load_plant

PLANT = """\
plant:
  name: small
  machine_types:
    pump:
      window_s: 60
      slide_s: 10
      channels:
        pressure:
          unit: bar
          valid: [-1, 16]
          limits: {critical: {high: 12, hysteresis: 0.2}, warning: {low: 0.5, high: 1.0e+1}}
        flow: {unit: l/min, valid: [0, 1000]}
        temperature: {unit: °C, valid: [-40, 200], max_rate_per_s: 1.0e-5, stuck_after_s: 600}
  machines: []
"""


@pytest.fixture
def channels(tmp_path):
    file = tmp_path / "plant.yml"
    file.write_text(PLANT)
    return job_config(load_plant(file), "pump")["channels"]


def test_the_text_has_the_checks_of_each_channel_that_has_any(channels):
    assert checks_text(channels) == (
        "pressure: warning 0.5 10.0 0.0, critical - 12 0.2; temperature: rate - 1e-05 0, stuck 600"
    )
    assert checked_channels(channels) == ["pressure", "temperature"]


def test_without_checks_there_is_no_text(channels):
    assert checks_text(channels[1:2]) == ""
    assert checked_channels(channels[1:2]) == []


def test_the_judge_understands_the_text(jvm, channels):
    steps = [(0, 5.0, 20.0), (1, 13.0, 20.0), (600, 0.4, 20.0), (601, 0.4, 20.1)]
    readings = [("m", 1000 * second, values) for second, *values in steps]
    changes = jvm.judge(checks_text(channels), readings)
    assert [[change[:3] for change in reading] for reading in changes] == [
        [("pressure", "warning", 0), ("pressure", "critical", 0)],
        [("pressure", "warning", 1), ("pressure", "critical", 1), ("temperature", "rate", 0)],
        [
            ("pressure", "warning", -1),
            ("pressure", "critical", 0),
            ("temperature", "stuck", 1),
        ],
        [("temperature", "rate", 1), ("temperature", "stuck", 0)],
    ]
