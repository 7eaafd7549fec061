"""Only readings that change the zone of a check pass: against a plain model, and case by case."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

NAN = math.nan
INF = math.inf

CHECKS = "pressure: warning 2 8 1, critical - 9 0.5; temperature: rate - 0.5 0, stuck 3"
STUCK_S = 3.0
BOUNDS = {
    ("pressure", "warning"): (2.0, 8.0, 1.0),
    ("pressure", "critical"): (-INF, 9.0, 0.5),
    ("temperature", "rate"): (-INF, 0.5, 0.0),
}


def model(readings):
    """What is to pass, with dictionaries in place of bits."""
    zones, last, shown = {}, {}, {}
    for machine, ts, (pressure, temperature) in readings:
        before, past = last.get(machine, (-INF, NAN))
        changes = []
        if ts > before:
            last[machine] = ts, temperature
            rate = abs(temperature - past) / ((ts - before) / 1000)
            for (channel, kind), (low, high, hysteresis) in BOUNDS.items():
                value = rate if kind == "rate" else pressure
                was = zones.get((machine, kind))
                if math.isnan(value):
                    continue
                if not low <= value <= high:
                    now = -1 if value < low else 1
                elif was == 0:
                    now = 0
                else:
                    is_back = (was == 1 or value >= low + hysteresis) and (
                        was == -1 or value <= high - hysteresis
                    )
                    now = 0 if is_back else was
                if now != was:
                    zones[machine, kind] = now
                    threshold = {-1: low, 1: high}.get(now or was, NAN)
                    changes.append((channel, kind, now, value, threshold))
            changes += stuck(zones, shown, machine, ts, temperature)
        yield changes


def stuck(zones, shown, machine, ts, value):
    """The same for the check of a stuck channel; `shown` has the last value, and since when."""
    if math.isnan(value):
        return
    before, since = shown.get(machine, (None, None))
    if value != before:
        shown[machine] = value, ts
    if before is None or (value == before and ts - since < 1000 * STUCK_S):
        return
    was, now = zones.get((machine, "stuck")), int(value == before)
    if now != was:
        zones[machine, "stuck"] = now
        threshold = NAN if was is None and not now else STUCK_S
        yield "temperature", "stuck", now, value, threshold


READING = st.tuples(
    st.sampled_from(["a", "b", "ü"]),
    st.integers(0, 30).map(lambda second: 500 * second),
    st.tuples(
        st.sampled_from([NAN, 1.0, 2.0, 2.5, 3.0, 7.0, 7.5, 8.0, 8.5, 9.0, 9.5])
        | st.floats(0.0, 10.0),
        st.sampled_from([NAN, 20.0, 20.25, 20.5, 21.0, 30.0]),
    ),
)


@settings(max_examples=500)
@given(st.lists(READING, min_size=1, max_size=40), st.booleans())
def test_any_readings_change_the_zones_that_they_should(jvm, readings, in_order):
    if in_order:
        readings = sorted(readings, key=lambda reading: reading[1])
    # As text, because NaN is not equal to itself.
    assert repr(jvm.judge(CHECKS, readings)) == repr(list(model(readings)))


def zones_of(jvm, check, values):
    changes = jvm.judge(f"x: {check}", [("m", ts, [value]) for ts, value in enumerate(values)])
    return [change[0][2] if change else None for change in changes]


@pytest.mark.parametrize(
    ("values", "zones"),
    [
        ([5, 6, 4, 5], [0, None, None, None]),  # calm: only the first passes
        ([5, 8, 8.1, 9], [0, None, 1, None]),  # the bound itself is well
        ([9, 7.5, 7.1, 7, 7.5, 8.1], [1, None, None, 0, None, 1]),  # back by the hysteresis
        ([1, 2.5, 3], [-1, None, 0]),
        ([9, 1, 9], [1, -1, 1]),
        ([9, 2.5], [1, 0]),  # inside of where it was, however near to the other bound
        ([7.5, 2.5, 5], [None, None, 0]),  # between: not known which, after a start
        ([7.5, 8.1], [None, 1]),
        ([9, NAN, 5], [1, None, 0]),
    ],
)
def test_a_zone_is_left_by_the_hysteresis(jvm, values, zones):
    assert zones_of(jvm, "warning 2 8 1", values) == zones


@pytest.mark.parametrize(
    ("values", "zones"),
    [
        ([5, 6, 7], [None, 0, None]),  # one value alone is neither
        ([5, 5, 5, 5], [None, None, 1, None]),  # the duration itself is too long
        ([5, 5, 5, 6, 6], [None, None, 1, 0, None]),
        ([5, NAN, 5, NAN, 6], [None, None, 1, None, 0]),  # nothing is not another value
        ([5, 5, NAN, NAN, NAN], [None] * 5),  # and not the same one
        ([0.0, -0.0, 0.0], [None, 0, None]),  # bit by bit
        ([5, 6, 6, 6, 5, 5, 5], [None, 0, None, 1, 0, None, 1]),
    ],
)
def test_a_channel_is_stuck_after_a_while_at_one_value(jvm, values, zones):
    changes = jvm.judge("x: stuck 2", [("m", 1000 * i, [value]) for i, value in enumerate(values)])
    assert [change[0][2] if change else None for change in changes] == zones


def test_a_stuck_channel_tells_its_value_and_the_seconds(jvm):
    *_, (change,) = jvm.judge("x: stuck 0.5", [("m", ts, [3.25]) for ts in (7, 506, 507)])
    assert change == ("x", "stuck", 1, 3.25, 0.5)


def test_readings_that_are_not_newer_are_not_judged(jvm):
    changes = jvm.judge("x: warning 2 8 1", [("m", ts, [v]) for ts, v in [(5, 5), (5, 9), (4, 9)]])
    assert [len(change) for change in changes] == [1, 0, 0]


def test_many_machines_and_many_checks_keep_apart(jvm):
    kinds = [f"k{number} - {number + 0.5} 0" for number in range(70)]
    machines = [f"m{number}" for number in range(5_000)]
    first = [(machine, 1, [0.0]) for machine in machines]
    later = [(machine, 2, [float(number % 70)]) for number, machine in enumerate(machines)]
    changes = jvm.judge(f"x: {', '.join(kinds)}", first + later)
    assert [len(change) for change in changes[:5_000]] == [70] * 5_000
    assert [len(change) for change in changes[5_000:]] == [number % 70 for number in range(5_000)]


def test_what_many_machines_showed_last_is_remembered(jvm):
    machines = [f"m{number}" for number in range(5_000)]
    readings = [(one, ts, [float(ts)]) for ts in (1, 1001) for one in machines]
    changes = jvm.judge("x: stuck 60, rate - 0.5 0, stuck 0.1", readings)
    assert [len(change) for change in changes] == [0] * 5_000 + [3] * 5_000


def test_full_memory_forgets_and_begins_again(jvm):
    most = 5_000
    readings = [(f"m{number}", 1, [5.0]) for number in range(most)]
    readings += [("m0", 2, [5.0]), ("another", 2, [5.0]), ("m0", 3, [5.0]), ("another", 3, [5.0])]
    changes = jvm.judge("x: warning 2 8 1", readings, most_machines=most)
    assert [len(change) for change in changes[-5:]] == [1, 0, 1, 1, 0]
