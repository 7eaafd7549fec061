"""The report's drawings as plain geometry: paths, bars and ticks, which the template makes SVG of.

All x and y are in pixels of the drawing. A curve has at most two points per column of pixels, the
lowest and the highest value there, so that it costs the same for a thousand readings and a million.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from flink_jobs.plant import Channel, MachineType
from flink_jobs.tools.report_figures import MachineFigures, Values, Window

LEFT: Final = 190
PLOT: Final = 960
WIDTH: Final = LEFT + PLOT + 10

_LANE = 20
_BAR = 12
_SCORE = 96
_CHANNEL = 42
_GAP = 12
_AXIS = 34

_LOWEST_RATIO = 0.1
_MIN_BAR = 2.0
_TICK_EVERY = 90  # pixels
_SECOND, _MINUTE, _HOUR, _DAY = 1000, 60_000, 3_600_000, 86_400_000
_STEPS = (
    *(n * _SECOND for n in (1, 2, 5, 10, 15, 30)),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 7, 14, 28, 91, 182, 365, 1825, 3650)),
)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis; `more` stands under its label."""

    at: float
    label: str
    more: str = ""


@dataclass(frozen=True)
class Bar:
    """A stretch of time, with the text that explains it."""

    x: float
    width: float
    title: str


@dataclass(frozen=True)
class Panel:
    """One curve with its own y axis.

    `dots` marks the anomalous windows of a score, `limits` a channel's limits by severity.
    """

    name: str
    unit: str
    top: float
    height: float
    path: str
    ticks: tuple[Tick, ...]
    dots: str = ""
    threshold: float | None = None
    limits: tuple[Tick, ...] = ()


@dataclass(frozen=True)
class Axis:
    """Time from `begin` to `end` (epoch ms) over PLOT pixels from LEFT on."""

    begin: int
    end: int

    def x(self, moment: float) -> float:
        """The place of a moment, kept inside."""
        share = (moment - self.begin) / max(self.end - self.begin, 1)
        return round(LEFT + PLOT * min(max(share, 0.0), 1.0), 1)

    def bar(self, begin: int | None, end: int | None, title: str) -> Bar:
        """From `begin` to `end`; None is the edge."""
        left = self.x(self.begin if begin is None else begin)
        right = self.x(self.end if end is None else end)
        width = max(right - left, _MIN_BAR)
        return Bar(min(left, LEFT + PLOT - width), round(width, 1), title)


@dataclass(frozen=True)
class MachineChart:
    """One machine's drawing: bars for alerts, faults and commissioning above curves, one time axis.

    `known` is the stretch for which the truth is known, None where there is none; `failures` are
    moments.
    """

    height: float
    bottom: float
    alerts: tuple[Bar, ...]
    known: Bar | None
    faults: tuple[Bar, ...]
    failures: tuple[Bar, ...]
    commissioning: tuple[Bar, ...]
    panels: tuple[Panel, ...]
    times: tuple[Tick, ...]

    @property
    def weight(self) -> int:
        """About how many bytes it takes on the page."""
        bars = len(self.alerts) + len(self.faults) + len(self.failures)
        return sum(len(p.path) + len(p.dots) + 900 for p in self.panels) + 200 * bars + 4_000


@dataclass(frozen=True)
class Strip:
    """A machine's alerts and faults without the rest, for the table."""

    whole: Bar
    alerts: tuple[Bar, ...]
    faults: tuple[Bar, ...]


def strip(figures: MachineFigures) -> Strip:
    """The alerts and faults of one machine, from the beginning to the end of its data."""
    axis = Axis(figures.begin, figures.end)
    return Strip(
        axis.bar(None, None, ""),
        tuple(axis.bar(span.begin, span.end, "") for span in figures.alerts),
        tuple(axis.bar(one.fault.begin, one.fault.end, "") for one in figures.outcomes),
    )


def machine_chart(
    figures: MachineFigures, kind: MachineType | None, values: Values | None
) -> MachineChart:
    """Draw one machine. Lines break where it was silent for longer than a window."""
    axis = Axis(figures.begin, figures.end)
    gap_ms = kind.window_s * 1000 if kind else _MINUTE
    top = 2 * _LANE + _GAP
    panels: list[Panel] = []
    for model in sorted({window.model for window in figures.windows}):
        windows = [w for w in figures.windows if w.model == model and w.ratio is not None]
        if windows:
            panels.append(_score_panel(axis, windows, top, gap_ms))
            top += _SCORE + _GAP
    channels = kind.channels if kind and values else ()
    ts = np.array(values.ts if values else [], dtype=np.int64)
    for channel in channels:
        column = np.array(values.columns[channel.name] if values else [], dtype=np.float64)
        panels.append(_channel_panel(axis, channel, ts, column, top, gap_ms))
        top += _CHANNEL + _GAP
    truth = figures.truth
    return MachineChart(
        height=top + _AXIS,
        bottom=top,
        alerts=tuple(
            axis.bar(span.begin, span.end, f"alert: {span.record.message}")
            for span in figures.alerts
        ),
        known=axis.bar(truth.begin, truth.end, "truth known") if truth else None,
        faults=tuple(
            axis.bar(one.fault.begin, one.fault.end, f"{one.fault.fault}: {one.outcome}")
            for one in figures.outcomes
        ),
        failures=tuple(
            axis.bar(one.ts, one.ts, f"failure: {one.component}") for one in figures.failures
        ),
        commissioning=_commissioning(axis, figures.windows),
        panels=tuple(panels),
        times=time_ticks(axis),
    )


def _commissioning(axis: Axis, windows: Sequence[Window]) -> tuple[Bar, ...]:
    """From the first window to the first with a score, where that is not the first one."""
    unscored = [window.end for window in windows if window.score is None]
    first = min((window.end for window in windows if window.score is not None), default=None)
    if not unscored or (first is not None and min(unscored) > first):
        return ()
    return (axis.bar(None, first, "commissioning: not judged yet"),)


def _score_panel(axis: Axis, windows: Sequence[Window], top: float, gap_ms: int) -> Panel:
    """Scores in thresholds on a logarithmic axis, so that normal ones are seen beside faults."""
    ends = np.array([window.end for window in windows], dtype=np.int64)
    ratios = np.array([window.ratio for window in windows], dtype=np.float64)
    levels = np.log10(np.maximum(ratios, _LOWEST_RATIO))
    low, high = math.log10(_LOWEST_RATIO), max(1.0, math.ceil(float(levels.max())))
    scale = _Scale(low, high, top, _SCORE)
    alerts = np.array([window.is_alert for window in windows], dtype=np.bool_)
    ticks = tuple(
        Tick(scale.y(level), f"{10.0**level:g}") for level in range(round(low), round(high) + 1)
    )
    return Panel(
        name="score",
        unit="in thresholds",
        top=top,
        height=_SCORE,
        path=curve(axis, ends, levels, scale, gap_ms),
        ticks=ticks,
        dots=dots(axis, ends[alerts], levels[alerts], scale),
        threshold=scale.y(0.0),
    )


def _channel_panel(
    axis: Axis,
    channel: Channel,
    ts: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    top: float,
    gap_ms: int,
) -> Panel:
    """A channel over its own range, and the limits that are not far outside it."""
    present = values[np.isfinite(values)]
    low, high = (float(present.min()), float(present.max())) if len(present) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    limits = [
        (value, limit.severity)
        for limit in channel.limits
        for value in (limit.low, limit.high)
        if value is not None and 2 * low - high < value < 2 * high - low
    ]
    low, high = (edge(low, high, *(value for value, _ in limits)) for edge in (min, max))
    scale = _Scale(low, high, top, _CHANNEL)
    return Panel(
        channel.name,
        channel.unit,
        top,
        _CHANNEL,
        curve(axis, ts, values, scale, gap_ms),
        tuple(Tick(scale.y(value), label) for value, label in value_ticks(low, high)),
        limits=tuple(Tick(scale.y(value), severity) for value, severity in limits),
    )


@dataclass(frozen=True)
class _Scale:
    """Values from `low` to `high` over `height` pixels, upwards, from `top` on."""

    low: float
    high: float
    top: float
    height: float

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.top + self.height * (1 - share), 1)


def envelope(
    axis: Axis, ts: npt.NDArray[np.int64], values: npt.NDArray[np.float64], gap_ms: int
) -> tuple[
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
    npt.NDArray[np.float64],
    npt.NDArray[np.bool_],
]:
    """Columns of pixels (k,) with values: place from 0 on, lowest and highest value, and whether a
    new line begins there.

    ts (n,) need not be sorted; NaN is left out. A new line begins after more than `gap_ms`.
    """
    present = np.isfinite(values)
    order = np.argsort(ts[present], kind="stable")
    ts, values = ts[present][order], values[present][order]
    if not len(ts):
        nothing = np.empty(0)
        return np.empty(0, np.int64), nothing, nothing, np.empty(0, np.bool_)
    columns = (ts - axis.begin) * PLOT // max(axis.end - axis.begin, 1)
    after_gap = np.append(True, np.diff(ts) > gap_ms)
    first = np.flatnonzero(after_gap | np.append(True, np.diff(columns) > 0))
    return (
        columns[first],
        np.minimum.reduceat(values, first),
        np.maximum.reduceat(values, first),
        after_gap[first],
    )


def curve(
    axis: Axis,
    ts: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    scale: _Scale,
    gap_ms: int,
) -> str:
    """The values as an SVG path of relative steps, in half pixels at most."""
    parts: list[str] = []
    x, y = 0, 0.0
    columns, low, high, begins = envelope(axis, ts, values, gap_ms)
    for column, *ends, new in zip(
        columns.tolist(), low.tolist(), high.tolist(), begins.tolist(), strict=True
    ):
        at = LEFT + column
        near, far = sorted((_half(scale.y(end)) for end in ends), key=lambda end: abs(end - y))
        parts.append(f"M{at} {near:g}h0" if new else f"l{at - x} {near - y:g}")
        if far != near:
            parts.append(f"v{far - near:g}")
        x, y = at, far
    return "".join(parts)


def dots(
    axis: Axis, ts: npt.NDArray[np.int64], values: npt.NDArray[np.float64], scale: _Scale
) -> str:
    """A path of points (lines of no length, for round caps), the highest of each column."""
    columns, _, high, _ = envelope(axis, ts, values, axis.end - axis.begin + 1)
    return "".join(
        f"M{LEFT + column} {_half(scale.y(value)):g}h0"
        for column, value in zip(columns.tolist(), high.tolist(), strict=True)
    )


def _half(y: float) -> float:
    return round(2 * y) / 2


def value_ticks(low: float, high: float, about: int = 2) -> list[tuple[float, str]]:
    """Round values inside [low, high] with their labels; at least one."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    for step in (5 * power, 2 * power, power, power / 2):
        first = math.ceil(low / step - 1e-9)
        last = math.floor(high / step + 1e-9)
        if step <= rough * 1.5 and last - first >= 1:
            break
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(n * step, f"{n * step:,.{decimals}f}") for n in range(first, last + 1)]


def time_ticks(axis: Axis) -> tuple[Tick, ...]:
    """Round times in UTC; the date stands under the first one and where it changes."""
    at_most = PLOT / _TICK_EVERY
    span = max(axis.end - axis.begin, 1)
    step = next((s for s in _STEPS if span / s <= at_most), _STEPS[-1])
    ticks: list[Tick] = []
    day = ""
    for ts in range(-(-axis.begin // step) * step, axis.end + 1, step):
        moment = dt.datetime.fromtimestamp(ts / 1000, dt.UTC)
        date = moment.strftime("%Y-%m-%d")
        if step >= _DAY:
            ticks.append(Tick(axis.x(ts), date))
            continue
        clock = moment.strftime("%H:%M:%S" if step < _MINUTE else "%H:%M")
        ticks.append(Tick(axis.x(ts), clock, date if date != day else ""))
        day = date
    return tuple(ticks)
