"""The board sums up what came, and says nothing about latency where the data is old."""

import dataclasses

import pytest
from rich.console import Console
from samples import ALERT, PREDICTION, Message

from flink_jobs import contracts
from flink_jobs.tools import watch
from flink_jobs.tools.watch import Board


def prediction(appended=10**12, **changes):
    record = dataclasses.replace(PREDICTION, **changes)
    return Message(contracts.PREDICTIONS, contracts.encode_prediction(record), appended)


def alert(**changes):
    return Message(contracts.ALERTS, contracts.encode_alert(dataclasses.replace(ALERT, **changes)))


def board(*messages):
    result = Board()
    for message in messages:
        result.add(message)
    return result


def test_the_summary_counts_windows_machines_and_alerts():
    seen = board(
        prediction(),
        prediction(window_end=70_000, is_alert=False, score=0.5),
        prediction(machine_id="p2", score=None, threshold=None, is_alert=False),
        alert(),
        alert(state="cleared"),
        alert(),
    )
    assert seen.summary() == (
        "2 machines, 3 windows: 2 scored (1 anomalous), 1 while commissioning\n1 alerts raised"
    )


def test_latency_is_told_for_live_windows_only():
    live = board(*(prediction(appended=60_000 + delay) for delay in (100, 200, 300)))
    assert "p50 200 ms, p99 300 ms" in live.summary()
    assert "p50" not in board(prediction()).summary()


def test_the_newest_window_stands_for_a_machine_whatever_the_order():
    seen = board(prediction(window_end=90_000), prediction(window_end=60_000))
    assert seen.machines["p1"].newest.window_end == 90_000
    assert seen.machines["p1"].windows == 2


def test_the_plants_own_machines_are_not_shown():
    own = {"machine_id": "_heartbeat", "machine_type": "_heartbeat"}
    seen = board(prediction(**own), alert(**own))
    assert (seen.machines, seen.predictions, seen.alerts, seen.raised) == ({}, 0, [], set())
    assert seen.add(prediction(**own)) is None, "it must not keep --until-idle waiting"
    assert seen.add(prediction()) is not None


def test_what_cannot_be_read_is_counted():
    seen = board(Message(contracts.PREDICTIONS, b"{"), Message(contracts.ALERTS, None))
    assert seen.unreadable == 2
    assert "2 records could not be read" in seen.summary()


def test_lines_say_what_a_person_wants_to_know():
    seen = board(prediction(), alert())
    assert watch.newest_line(seen) == (
        "1970-01-01T00:01:00Z 1 windows of 1 machines, worst p1: score 1.5, threshold 1,"
        " ANOMALY (current 75%)"
    )
    assert watch.alert_line(seen.alerts[0]) == (
        "1970-01-01T00:01:00Z raised  p1 anomaly [warning] score 1.5 is above 1.0"
    )
    commissioning = board(prediction(score=None, threshold=None, is_alert=False))
    assert watch.newest_line(commissioning).endswith("1 machines, commissioning")


def test_the_table_shows_anomalies_first_and_no_more_than_fits():
    messages = [prediction(machine_id=f"m{n:02}", is_alert=n == 30) for n in range(31)]
    console = Console(width=140)
    with console.capture() as captured:
        console.print(watch.table(board(*messages, alert())))
    text = captured.get()
    assert text.index("m30") < text.index("m00")
    assert "and 11 more machines" in text
    assert "score 1.5 is above 1.0" in text


@pytest.mark.parametrize(
    ("values", "q", "expected"), [([5], 0.5, 5), ([3, 1, 2], 0.5, 2), (list(range(100)), 0.99, 98)]
)
def test_quantiles_are_values_that_occurred(values, q, expected):
    assert watch.quantile(values, q) == expected
