"""What a model sees of a window: named features, one library for training and the jobs.

A model names its features; `Features` computes exactly those, of all windows of a batch at once.

    <channel>.<statistic>                   e.g. pressure.mean; the statistics are in `PER_CHANNEL`
    <channel>.correlation[<channel>]        how two channels move together
    <channel>.power[<low>:<high>]           how much a channel swings at low ≤ frequency < high, Hz
    <channel>.mode[<low>:<high>]            operating mode: share of values with low ≤ x < high
    type[<name>]                            1 for machines of that type, else 0

Windows may hold any number of readings at any times; a value that is missing (NaN) is left out, and
what a window cannot tell is NaN. Sums run over deviations from the mean (two passes): E[x²] - E[x]²
loses channels such as pressure. Below, x are the n known values of a channel in a window at the
times t, x̄ their mean, d = x - x̄, m₂ = mean of d².
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flink_jobs.cleaning import MAD_TO_STD, Repairs
from flink_jobs.windows import Windows

# The features of the anomaly model.
STATISTICS = ("mean", "std", "count")

# A spectrum needs this many readings.
_MIN_SPECTRUM = 8
# Intervals that differ by more than this part of their mean are no regular sampling.
_JITTER = 0.1

_NAME = re.compile(r"(?:([a-z][a-z0-9_]*)\.)?([a-z][a-z0-9_]*)(?:\[([^\[\]]+)\])?")

Column = NDArray[np.float64]  # one number per window, (B,)
Table = NDArray[np.float64]  # one number per window and channel, (B, C)


def feature_names(
    channels: Sequence[str], statistics: Sequence[str] = STATISTICS
) -> tuple[str, ...]:
    """Names of these statistics of all channels: first of the one, then of the next."""
    return tuple(f"{channel}.{statistic}" for statistic in statistics for channel in channels)


def window_features(ts: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features (3 C,) of one window; ts (n,), values (n, C), n ≥ 1.

    The mean of a channel without values is NaN, so is the standard deviation of fewer than two.
    Raises ValueError for an empty window or shapes that do not belong together.
    """
    if values.ndim != 2 or ts.shape != values.shape[:1]:  # noqa: PLR2004 - rows and columns
        raise ValueError(f"times {ts.shape} and values {values.shape} do not belong together")
    return windows_features(values, np.zeros(1, dtype=np.intp)).ravel()


def windows_features(values: NDArray[np.float64], starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Mean, standard deviation and count (B, 3 C) of B windows one after another in values (n, C).

    starts (B,) are the first rows of the windows, rising; a window ends where the next one starts.
    Raises ValueError for an empty window.
    """
    rows = np.diff(starts, append=len(values))
    if not len(starts) or starts[0] != 0 or (rows < 1).any():
        raise ValueError("windows must hold at least one reading and cover all values")
    # Channel by channel, however the table lies in memory.
    columns = np.ascontiguousarray(values.T)
    known = np.isfinite(columns)
    if known.all():
        count = np.repeat(rows[None].astype(np.float64), len(columns), axis=0)
        mean = np.add.reduceat(columns, starts, axis=1) / count
        deviations = (
            _less(column, centre, rows) for column, centre in zip(columns, mean, strict=True)
        )
    else:
        count = np.add.reduceat(known.astype(np.float64), starts, axis=1)
        total = np.add.reduceat(np.where(known, columns, 0.0), starts, axis=1)
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        deviations = (
            np.where(there, _less(column, centre, rows), 0.0)
            for column, centre, there in zip(columns, mean, known, strict=True)
        )
    squares = np.stack([np.add.reduceat(one * one, starts) for one in deviations])
    std = np.sqrt(np.divide(squares, count - 1, out=np.full_like(squares, np.nan), where=count > 1))
    return np.ascontiguousarray(np.concatenate([mean, std, count]).T)


def _less(
    column: NDArray[np.float64], mean: NDArray[np.float64], rows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """One channel (n,) less a number (B,) for each window."""
    if (rows == rows[0]).all():
        return (column.reshape(len(rows), rows[0]) - mean[:, None]).ravel()
    return column - np.repeat(mean, rows)


class Features:
    """The features that a model names, of windows of these channels and this machine type."""

    def __init__(self, names: Sequence[str], channels: Sequence[str], machine_type: str) -> None:
        """Raises ValueError for a name that the library does not know."""
        self.names = tuple(names)
        self._columns = [_column(name, list(channels), machine_type) for name in names]
        # The anomaly model's own: no need to take its table apart and put it together again.
        self._plain = self.names == feature_names(channels)

    def of(self, windows: Windows, repairs: Repairs) -> NDArray[np.float64]:
        """Features (B, F) of B windows of which `repairs` have been made."""
        if not len(windows.starts):
            return np.empty((0, len(self.names)))
        if self._plain:
            return windows_features(windows.values, windows.starts)
        batch = Batch(windows, repairs)
        return np.column_stack([column(batch) for column in self._columns])


class Batch:
    """Windows with what several of their features need, computed when first asked for."""

    def __init__(self, windows: Windows, repairs: Repairs) -> None:
        self.windows = windows
        self.repairs = repairs
        self._tables: dict[str, Table] = {}

    def table(self, statistic: str) -> Table:
        """A statistic of PER_CHANNEL, computed once."""
        if statistic not in self._tables:
            self._tables[statistic] = PER_CHANNEL[statistic](self)
        return self._tables[statistic]

    @cached_property
    def basic(self) -> tuple[Table, Table, Table]:
        """Mean, standard deviation and count."""
        mean, std, count = np.split(
            windows_features(self.windows.values, self.windows.starts), len(STATISTICS), axis=1
        )
        return mean, std, count

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Which values are known, (n, C)."""
        return np.isfinite(self.windows.values)

    @cached_property
    def deviation(self) -> NDArray[np.float64]:
        """d, (n, C); 0 where the value is missing, and exactly 0 where all values are equal."""
        return self.known_or_0(self.windows.values - self.each(self.centre))

    @cached_property
    def centre(self) -> Table:
        """The mean; rounding must not put it beside values that are all equal."""
        return np.clip(self.basic[0], self.table("min"), self.table("max"))

    @cached_property
    def square(self) -> Table:
        """m₂."""
        return self.mean(self.deviation**2)

    @cached_property
    def change(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """From the known value before to this one: change and seconds, (n, C); 0 without one."""
        before = self.windows.known_before(self.known)
        both = self.known & (before >= 0)
        change = self.windows.values - np.take_along_axis(self.windows.values, before, axis=0)
        seconds = (self.windows.ts[:, None] - self.windows.ts[before]) / 1000
        return np.where(both, change, 0.0), np.where(both, seconds, 0.0)

    def each(self, table: Table) -> NDArray[np.float64]:
        """A number per window for each of its readings, (n, C)."""
        return np.repeat(table, self.windows.rows, axis=0)

    def known_or_0(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(self.known, values, 0.0)

    def sum(self, values: NDArray[np.float64]) -> Table:
        """Sums over the readings of each window."""
        result: Table = np.add.reduceat(values, self.windows.starts, axis=0)
        return result

    def mean(self, values: NDArray[np.float64]) -> Table:
        """Means over the known readings of each window; `values` are 0 at the others."""
        return _ratio(self.sum(values), self.basic[2])


def mean(batch: Batch) -> Table:
    """x̄, in the channel's unit."""
    return batch.basic[0]


def std(batch: Batch) -> Table:
    """Sample standard deviation √(Σd² / (n - 1)); NaN for fewer than two values."""
    return batch.basic[1]


def count(batch: Batch) -> Table:
    """n."""
    return batch.basic[2]


def minimum(batch: Batch) -> Table:
    """The least value."""
    result: Table = np.fmin.reduceat(batch.windows.values, batch.windows.starts, axis=0)
    return result


def maximum(batch: Batch) -> Table:
    """The greatest value."""
    result: Table = np.fmax.reduceat(batch.windows.values, batch.windows.starts, axis=0)
    return result


def median(batch: Batch) -> Table:
    """The middle value, or halfway between the two middle ones: robust location."""
    return batch.windows.medians(batch.windows.values)


def mad(batch: Batch) -> Table:
    """1.4826 · median |x - median x|: robust spread, of normal scatter its standard deviation.

    F. R. Hampel, J. Am. Stat. Assoc. 69 (1974).
    """
    away = np.abs(batch.windows.values - batch.each(batch.table("median")))
    return MAD_TO_STD * batch.windows.medians(away)


def rms(batch: Batch) -> Table:
    """Root mean square √(mean of x²), as √(x̄² + m₂)."""
    return np.hypot(batch.centre, np.sqrt(batch.square))


def crest(batch: Batch) -> Table:
    """Crest factor of the deviations, max |d| / √m₂; NaN for a channel that stands still.

    Of the deviations, so that a vibration sensor's offset does not hide the peaks (R. B. Randall,
    Vibration-based Condition Monitoring, 2nd ed. 2021).
    """
    peak = np.maximum.reduceat(np.abs(batch.deviation), batch.windows.starts, axis=0)
    return _ratio(peak, np.sqrt(batch.square))


def kurtosis(batch: Batch) -> Table:
    """Mean of d⁴ / m₂²: 3 for normal scatter, more with impacts; NaN for a still channel.

    D. Dyer, R. M. Stewart, Detection of rolling element bearing damage by statistical vibration
    analysis, J. Mech. Des. 100 (1978). In units of √m₂, since fourth powers leave the range early.
    """
    standard = batch.deviation / batch.each(
        np.sqrt(np.where(batch.square > 0, batch.square, np.nan))
    )
    return batch.mean(batch.known_or_0((standard * standard) ** 2))


def slope(batch: Batch) -> Table:
    """Least squares slope Σ(t - t̄)d / Σ(t - t̄)², per second; NaN for fewer than two values."""
    seconds = _seconds(batch)
    away = batch.known_or_0(seconds - batch.each(batch.mean(batch.known_or_0(seconds))))
    return _ratio(batch.sum(away * batch.deviation), batch.sum(away**2))


def rate(batch: Batch) -> Table:
    """Mean rate of change Σ|Δx| / Σ Δt between neighbouring values, per second."""
    change, seconds = batch.change
    return _ratio(batch.sum(np.abs(change)), batch.sum(seconds))


def peak_rate(batch: Batch) -> Table:
    """The greatest rate of change |Δx| / Δt between neighbouring values, per second."""
    change, seconds = batch.change
    rates = np.divide(np.abs(change), seconds, out=np.full_like(change, np.nan), where=seconds > 0)
    result: Table = np.fmax.reduceat(rates, batch.windows.starts, axis=0)
    return result


def stuck(batch: Batch) -> Table:
    """How many values cleaning removed since the sensor was stuck."""
    return batch.repairs.stuck.astype(np.float64)


def outliers(batch: Batch) -> Table:
    """How many values cleaning removed as outliers."""
    return batch.repairs.outliers.astype(np.float64)


def filled(batch: Batch) -> Table:
    """How many values cleaning put in."""
    return batch.repairs.filled.astype(np.float64)


PER_CHANNEL: dict[str, Callable[[Batch], Table]] = {
    "min": minimum,
    "max": maximum,
    **{
        one.__name__: one
        for one in (
            *(mean, std, count, median, mad, rms, crest, kurtosis, slope, rate, peak_rate),
            *(stuck, outliers, filled),
        )
    },
}


def correlation(batch: Batch, channel: int, other: int) -> Column:
    """Pearson's Σ d e / √(Σd² Σe²) over the readings that have both values, -1 to 1.

    NaN for fewer than two, or where one of the channels stands still.
    """
    pair = batch.windows.values[:, [channel, other]]
    both = np.isfinite(pair).all(axis=1, keepdims=True)
    joint = Windows(batch.windows.ts, np.where(both, pair, np.nan), batch.windows.starts)
    common = Batch(joint, batch.repairs)
    scale = np.sqrt(np.where(common.square > 0, common.square, np.nan))
    standard = common.deviation / common.each(scale)
    product = common.known_or_0(np.broadcast_to(standard.prod(axis=1, keepdims=True), pair.shape))
    return np.clip(common.mean(product)[:, 0], -1.0, 1.0)


def power(batch: Batch, channel: int, low: float, high: float) -> Column:
    """Mean square of the channel's swing at frequencies low ≤ f < high (Hz), in its unit squared.

    The periodogram of d (A. Schuster, 1898), so that all bands together give m₂, but for a swing at
    exactly half the rate of readings: its phase hides how large it is, and it is left out. Only
    where the sampling is regular enough: at least 8 readings, none without a value, no interval
    more than 10 % off their mean; and where the window can tell: the band holds a multiple of 1 /
    its length, and ends no higher (by the same 10 %) than half the rate. NaN elsewhere.
    """
    result = np.full(len(batch.windows.starts), np.nan)
    for which, rows in batch.windows.of_equal_length():
        length = rows.shape[1]
        if length < _MIN_SPECTRUM:
            continue
        intervals = np.diff(batch.windows.ts[rows], axis=1) / 1000
        usual = intervals.mean(axis=1, keepdims=True)
        regular = (np.abs(intervals - usual) <= _JITTER * usual).all(axis=1)
        whole = batch.known[rows, channel].all(axis=1)
        swings = np.arange(1, (length + 1) // 2)  # in the window
        frequency = swings / (length * usual)
        inside = (frequency >= low) & (frequency < high)
        spectrum = np.fft.rfft(batch.deviation[rows, channel], axis=1)[:, swings] / length
        told = regular & whole & inside.any(axis=1) & (2 * high * usual[:, 0] <= 1 + _JITTER)
        # Twice: negative frequencies hold as much.
        swing = 2 * (np.abs(spectrum) ** 2 * inside).sum(axis=1)
        result[which] = np.where(told, swing, np.nan)
    return result


def mode(batch: Batch, channel: int, low: float, high: float) -> Column:
    """Operating mode: the share of the channel's values in low ≤ x < high, 0 to 1.

    A mode is a declared range of the channel that commands the machine (speed, load, a setting).
    Ranges that touch make a one-hot code, softened where the mode changes inside the window.
    """
    values = batch.windows.values
    inside = batch.known_or_0(((values >= low) & (values < high)).astype(np.float64))
    return batch.mean(inside)[:, channel]


_IN_RANGE: dict[str, Callable[[Batch, int, float, float], Column]] = {"power": power, "mode": mode}


def _column(name: str, channels: list[str], machine_type: str) -> Callable[[Batch], Column]:
    """What computes one feature."""
    found = _NAME.fullmatch(name)
    channel, statistic, argument = found.groups() if found else (None, "", None)
    if channel is None and statistic == "type" and argument is not None:
        is_type = float(argument == machine_type)
        return lambda batch: np.full(len(batch.windows.starts), is_type)
    if channel in channels:
        place = channels.index(channel)
        if statistic in PER_CHANNEL and argument is None:
            return lambda batch: batch.table(statistic)[:, place]
        if statistic == "correlation" and argument in channels:
            other = channels.index(argument)
            return lambda batch: correlation(batch, place, other)
        if statistic in _IN_RANGE and argument is not None:
            low, high = _range(name, argument)
            return lambda batch: _IN_RANGE[statistic](batch, place, low, high)
    raise ValueError(f"no feature {name!r} of the channels {', '.join(channels)}")


def _range(name: str, text: str) -> tuple[float, float]:
    low, separator, high = text.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        separator = ""
    if not separator or not ends[0] < ends[1]:
        raise ValueError(f"{name!r} needs a range such as [0:1.5]")
    return ends


def _seconds(batch: Batch) -> NDArray[np.float64]:
    """Seconds (n, C) since the first reading of the window, exact to the millisecond."""
    since = (batch.windows.ts - batch.windows.ts[batch.windows.first_row]) / 1000
    return np.broadcast_to(since[:, None], batch.windows.values.shape)


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
