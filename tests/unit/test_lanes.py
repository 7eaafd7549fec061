"""Alerts beside the model's: limits, rates, stuck sensors and silence, as Flink makes them."""

import json
import math
from collections import defaultdict
from dataclasses import fields, replace
from random import Random
from zlib import crc32

import pytest

from flink_jobs.contracts import Alert, alert_id, registration
from flink_jobs.jobs import anomaly_sql
from flink_jobs.jobs.checks import checks_text
from tests.unit.samples import job_config

START = 1_700_000_000_000
END = 2 * START  # no reading comes after it
WINDOW_S, SLIDE_S, SILENT_AFTER_S = 30, 10, 60
LIMITS = [
    {"severity": "warning", "low": 2.0, "high": 8.0, "hysteresis": 0.5},
    {"severity": "critical", "low": None, "high": 9.0, "hysteresis": 0.5},
]
CONFIG = job_config(
    channels=[
        {"name": "pressure", "limits": LIMITS},
        {"name": "speed", "unit": "1/s"},
        {"name": "flow", "unit": "l/min", "max_rate_per_s": 0.3, "stuck_after_s": 9},
    ],
    window_s=WINDOW_S,
    slide_s=SLIDE_S,
    silent_after_s=SILENT_AFTER_S,
)
CHANNELS = CONFIG["channels"]
VIEWS = ("zone_alerts", "limit_alerts", "silent_alerts")
FUNCTIONS = ("place_of",)

MACHINES = [
    registration("m1", "pump", valid_from=0, line="line-1", area="Halle Süd"),
    registration("m2", "pump", valid_from=0, area="hall-b"),
]

AFTER = "SELECT * FROM limit_alerts UNION ALL SELECT * FROM silent_alerts"


def lanes(machines_file):
    """The statements of the job that make these alerts, as text."""
    wanted = {f"VIEW {name}" for name in VIEWS} | {f"FUNCTION {name}" for name in FUNCTIONS}
    config = CONFIG | {"machines_file": str(machines_file)}
    statements, _ = anomaly_sql.statements(config, "m", "1", 1.0)
    found = [text for text in statements if " ".join(text.split(" AS")[0].split()[-2:]) in wanted]
    assert len(found) == len(wanted)
    return ";\n".join(found) + ";\n"


def limit_alerts(machine, changes):
    """The alerts of a machine by the changes (ts, channel, kind, zone, value, threshold)."""
    entered = {}
    for ts, channel, kind, zone, value, threshold in changes:
        before, *raise_of = entered.get((channel, kind), (0, 0, 0.0))
        if zone == before:
            continue
        entered[channel, kind] = zone, ts, threshold
        for state, side, (raised_at, bound) in (
            ("cleared", before, raise_of),
            ("raised", zone, (ts, threshold)),
        ):
            rule = "stuck" if kind == "stuck" else "limit"
            subject = {"stuck": channel, "rate": f"{channel}/rate"}.get(
                kind, f"{channel}/{kind}/{'low' if side < 0 else 'high'}"
            )
            severity = kind if kind in ("warning", "critical") else "warning"
            if side:
                yield Alert(
                    *(alert_id(machine, rule, subject, raised_at), state, machine, "pump", ts),
                    *(rule, severity, channel, None, None, None, value, bound, "", None, None),
                )


def silent_alerts(machine, times):
    """The same for silence, by the times of a machine's readings; told by their windows' ends."""
    slide, last = 1000 * SLIDE_S, None
    for ts in [*times, END]:
        if last is not None:
            raised_at = last + 1000 * SILENT_AFTER_S
            # That nothing came is certain for whole slides.
            if ts >= -(-raised_at // slide) * slide:
                yield "raised", alert_id(machine, "silent", "", raised_at), raised_at
                if ts < END:
                    first_end = ts // slide * slide + slide
                    in_window = [one for one in times if one < first_end]
                    yield "cleared", alert_id(machine, "silent", "", raised_at), in_window[-1]
        last = ts


# A restart forgets on which side a value lies in a hysteresis: what is above, restarts, comes next
# into the lower one and rises again is one alert, not two. So none of the machines does that.
HABITS = [(1.0, 2.25, 2.5, 5.0), (2.5, 5.0, 7.5, 7.75, 8.25, 8.75, 9.5), (1.0, 2.5, 7.5, 8.25, 9.5)]


@pytest.fixture(scope="module")
def readings():
    """(ts, values) of each machine, in order; pauses of up to 90 seconds, values of all zones."""
    random = Random(6)  # noqa: S311  (no secret)
    of_machine = {}
    for number in range(60):
        ts, flow, rows = START + random.randrange(20_000), 20.0, []
        for _ in range(random.randrange(20, 80)):
            usual = random.random() < 0.9
            ts += random.choice([500, 1000, 2500]) if usual else random.randrange(40_000, 90_000)
            flow = flow if random.random() < 0.7 else random.choice([20.0, 20.125, 21.0, 25.5])
            pressure = random.choice([*HABITS[number % 3], math.nan])
            rows.append((ts, (pressure, math.nan if random.random() < 0.1 else flow)))
        rows.append((ts + 1000, (5.0, flow)))
        of_machine["ü/1" if number == 0 else f"m{number}"] = rows
    return of_machine


def judged(jvm, machine, rows):
    """The changes of zones that one process sees."""
    answers = jvm.judge(checks_text(CHANNELS), [(machine, ts, values) for ts, values in rows])
    return [
        (ts, *change) for (ts, _), changes in zip(rows, answers, strict=True) for change in changes
    ]


@pytest.fixture(scope="module")
def alerts_of(flink, readings, tmp_path_factory):
    """What Flink makes of the readings, by machine; where the job dies on its way, or does not."""
    machines_file = tmp_path_factory.mktemp("lanes") / "machines.json"
    machines_file.write_text(json.dumps(MACHINES))
    sent = [
        {"machine_id": machine, "ts": ts, "pressure": pressure, "flow": flow, "speed": 1}
        for machine, rows in readings.items()
        for ts, (pressure, flow) in rows
    ]
    records = []
    for reading in sorted(sent, key=lambda reading: reading["ts"]):
        key = reading["machine_id"].encode()
        records.append((crc32(key) % 2, END, key, text_of(reading).encode()))

    def made(*, dies):
        found = defaultdict(list)
        settings = anomaly_sql.stream_settings(CONFIG)
        for row in flink(f"{lanes(machines_file)}\n{AFTER}", settings, records, dies=dies):
            alert = Alert(*map(value_of, fields(Alert), row))
            found[alert.machine_id].append(alert)
        return found

    return made


@pytest.fixture(scope="module")
def alerts(alerts_of):
    return alerts_of(dies=False)


def text_of(row):
    """A row as JSON; what is missing is null there."""
    return json.dumps(row).replace("NaN", "null")


def value_of(field, text):
    """A column as Flink prints it."""
    if text == "null":
        return None
    return int(text) if "int" in field.type else float(text) if "float" in field.type else text


def of_rule(alerts, *rules):
    return [alert for alert in alerts if alert.rule in rules]


def test_readings_beyond_a_limit_raise_and_clear_alerts(alerts, jvm, readings):
    kinds = set()
    for machine, rows in readings.items():
        expected = limit_alerts(machine, judged(jvm, machine, rows))
        found = of_rule(alerts[machine], "limit", "stuck")
        texts = [repr(replace(alert, message="", line=None, area=None)) for alert in found]
        assert sorted(texts) == sorted(map(repr, expected))
        assert_in_order(found)
        kinds |= {(alert.rule, alert.severity, alert.state, alert.channel) for alert in found}
    assert len(kinds) == 2 * 4  # two severities, a rate and a stuck channel


def test_messages_say_what_is_the_matter(alerts):
    messages = {alert.message for found in alerts.values() for alert in found}
    assert {
        "pressure is 9.5 bar, above 9.0",
        "pressure is 5.0 bar, no longer above 8.0",
        "pressure is 1.0 bar, below 2.0",
        "flow changes by 11.0 l/min per second, more than 0.3",
        "flow changes by 0.0 l/min per second, no longer more than 0.3",
        "flow has shown exactly 25.5 l/min for 9.0 s",
        "flow shows another value, 20.125 l/min",
        "sends readings again",
    } <= messages
    assert any(message.startswith("no reading since 2023-11-14 22:1") for message in messages)


def test_alerts_say_where_their_machine_stands(alerts):
    for machine in MACHINES:
        found = alerts[machine["machine_id"]]
        assert {alert.rule for alert in found} >= {"limit", "silent"}
        places = {(alert.line, alert.area) for alert in found}
        assert places == {(machine["line"], machine["area"])}
    assert {(alert.line, alert.area) for alert in alerts["m3"]} == {(None, None)}


def test_a_restart_changes_no_alert_of_a_limit_nor_of_silence(alerts, alerts_of, readings):
    times = sorted(ts for rows in readings.values() for ts, _ in rows)
    # About there the job dies, with alerts that go on.
    assert standing(alerts, times[len(times) // 2]) == {"limit", "stuck", "silent"}
    again = alerts_of(dies=True)
    assert again.keys() == alerts.keys()
    for machine, found in again.items():
        assert_in_order(found)
        assert kept(found) == kept(alerts[machine])


def standing(alerts, ts):
    """The rules of alerts that were raised before, and are cleared after."""
    raised_at = {
        a.alert_id: a.ts for found in alerts.values() for a in found if a.state == "raised"
    }
    return {
        alert.rule
        for found in alerts.values()
        for alert in found
        if alert.state == "cleared" and raised_at[alert.alert_id] < ts < alert.ts
    }


def kept(alerts):
    """What a restart forgets nothing of."""
    return sorted(
        (alert.alert_id, alert.state, alert.ts)
        for alert in alerts
        if alert.channel == "pressure" or alert.rule == "silent"
    )


def test_a_machine_that_stops_sending_raises_an_alert_until_it_sends_again(alerts, readings):
    count = 0
    for machine, rows in readings.items():
        found = of_rule(alerts[machine], "silent")
        assert [(alert.state, alert.alert_id, alert.ts) for alert in found] == list(
            silent_alerts(machine, [ts for ts, _ in rows])
        )
        assert {alert.threshold for alert in found} == {SILENT_AFTER_S}
        count += len(found)
    assert count > 3 * len(readings)


def assert_in_order(alerts):
    """Each is raised, then cleared, before another one of the same kind is raised."""
    last = {}
    for alert in alerts:
        kind = alert.channel, alert.severity, alert.rule, alert.threshold
        before = last.get(kind)
        if alert.state == "raised":
            assert before is None or before.state == "cleared"
        else:
            assert (before.state, before.alert_id) == ("raised", alert.alert_id)
        last[kind] = alert
