"""Readers of the public data sets: files in, one `Series` of readings per machine out.

A set is recognised by what its files hold (column names, shape), never by how they are called.
docs/tools.md has the mapping. A quantity that a source lacks is left out; a clock that a source
lacks is synthetic and marked so. Times without a zone are read as UTC.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from flink_jobs import contracts

Times = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
# Where clocks without a date begin: 2000-01-01T00:00:00Z.
_BASE_MS = 946_684_800_000
# Epoch numbers above this are milliseconds: as seconds they would be past the year 5000.
_MILLIS_FROM = 1e11


class DatasetError(ValueError):
    """Data that cannot be read; the message begins with its place, `file:line:` where known."""


@dataclass(frozen=True)
class Record:
    """An event beside the telemetry (error code, maintenance, failure): goes to its own topic."""

    topic: str
    ts: int
    machine_id: str
    value: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Series:
    """The readings of one machine, n rows sorted by time, C channels.

    ts int64 (n,) epoch ms; values float64 (n, C), NaN where the source has no value; truth bool
    (n,), True where the source says the machine is not normal, or None where it does not say; rul
    float64 (n,), remaining cycles where known.
    """

    machine_id: str
    machine_type: str
    channels: tuple[str, ...]
    ts: Times
    values: Values
    truth: Flags | None
    source: Path
    rul: Values | None = None
    synthetic_clock: bool = False
    records: tuple[Record, ...] = ()

    def encoded(self, start: int = 0, stop: int | None = None) -> list[bytes]:
        """Readings start..stop as JSON by the contract; a missing value is null."""
        identity = {"machine_id": self.machine_id}
        rows = self.values[start:stop].tolist()
        times = self.ts[start:stop].tolist()
        names, dumps = self.channels, orjson.dumps  # orjson writes NaN as null
        return [
            dumps({**identity, "ts": ts, **dict(zip(names, row, strict=True))})
            for ts, row in zip(times, rows, strict=True)
        ]

    def shifted(self, by_ms: int) -> Series:
        """The same readings and records on a clock moved by `by_ms`."""
        moved = tuple(
            replace(record, ts=record.ts + by_ms, value=record.value | {"ts": record.ts + by_ms})
            for record in self.records
        )
        return replace(self, ts=self.ts + by_ms, records=moved)

    def renamed(self, machine_id: str) -> Series:
        """The same readings under another machine's name."""
        records = tuple(
            replace(r, machine_id=machine_id, value=r.value | {"machine_id": machine_id})
            for r in self.records
        )
        return replace(self, machine_id=machine_id, records=records)


def load(path: Path) -> list[Series]:
    """Every machine found in a file or folder (sub-folders included), sorted by name.

    Raises DatasetError where nothing is recognised, a row is odd, or two files claim one machine.
    """
    if not path.exists():
        raise DatasetError(f"{path}: no such file or folder")
    root = path if path.is_dir() else path.parent
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    found: list[Series] = []
    beside: dict[str, list[Record]] = {}
    tables = (_open(file) for file in files if file.suffix.lower() in {".csv", ".txt", ".jsonl"})
    static = None
    for table in tables:
        if table is None:
            continue
        for recognises, read in _READERS:
            if recognises(table):
                found += read(table, root)
                break
        else:
            for record in _pdm_records(table):
                beside.setdefault(record.machine_id, []).append(record)
            if "Tool wear [min]" in table.header:
                static = table.path
    if not found:
        if static:
            raise DatasetError(f"{static}: AI4I rows have no time; they are for batch scoring only")
        known = "SKAB, PdM, C-MAPSS, FEMTO, IMS, NAB, or the files of simulate --out"
        raise DatasetError(f"{path}: no data set recognised; known are {known}")
    complete = [
        replace(s, records=tuple(sorted(beside.get(s.machine_id, ()), key=lambda r: r.ts)))
        for s in found
    ]
    return sorted(_distinct(complete, root), key=lambda s: natural_key(s.machine_id))


def load_skab(root: Path) -> list[Series]:
    """The SKAB files under `<root>/skab/data/*/`, those with and those without labels."""
    folder = root / "skab" / "data"
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected SKAB's files in its sub-folders")
    found = [s for s in load(folder) if s.source.parent != folder and _is_skab(_sniff(s.source))]
    if not found:
        raise DatasetError(f"{folder}: no SKAB file in its sub-folders")
    return found


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sorts valve1-2 before valve1-10."""
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), part) if part.isdigit() else (1, 0, part) for part in parts]


def parse_time(text: str) -> int:
    """Epoch milliseconds of an ISO time (also with slashes), or of an epoch number in s or ms.

    Raises ValueError.
    """
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        moment = dt.datetime.fromisoformat(text.replace("/", "-"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        # Integer arithmetic: a float of seconds loses milliseconds to rounding.
        return (moment - dt.datetime.fromtimestamp(0, dt.UTC)) // dt.timedelta(milliseconds=1)
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a time")
    return round(number if abs(number) >= _MILLIS_FROM else number * 1000)


@dataclass(frozen=True)
class _Table:
    """A text table; `header` is empty for files that have none (C-MAPSS)."""

    path: Path
    delimiter: str
    header: tuple[str, ...]
    first_row: tuple[str, ...] = field(default=(), compare=False)

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(line number, fields) of each row that is not blank. Raises DatasetError."""
        with self.path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
            if self.delimiter == " ":
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, line.split()
                return
            reader = csv.reader(file, delimiter=self.delimiter)
            try:
                for row in reader:
                    if reader.line_num == 1 or not any(row):
                        continue
                    if len(row) != len(self.header):
                        raise DatasetError(
                            f"{self.path}:{reader.line_num}: {len(row)} fields, the header has"
                            f" {len(self.header)}"
                        )
                    yield reader.line_num, row
            except csv.Error as error:
                raise DatasetError(f"{self.path}:{reader.line_num}: {error}") from error

    def column(self, name: str) -> int:
        return self.header.index(name)


def _open(path: Path) -> _Table | None:
    table = _sniff(path)
    return table if table.header or table.first_row else None


def _sniff(path: Path) -> _Table:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = file.readline().strip("\r\n")
    if path.suffix.lower() == ".jsonl":
        return _Table(path, "", ("jsonl",))
    words = first.split()
    if words and all(_is_number(word) for word in words):
        return _Table(path, " ", (), tuple(words))
    delimiter = max(";,\t", key=first.count)
    return _Table(
        path, delimiter, tuple(name.strip().strip('"') for name in first.split(delimiter))
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(table: _Table, line: int, name: str, text: str) -> float:
    text = text.strip()
    if text.lower() in {"", "nan", "null", "none", "na"}:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise DatasetError(f"{table.path}:{line}: {name} is {text!r}, not a number")
    return value


def _time(table: _Table, line: int, text: str) -> int:
    try:
        return parse_time(text)
    except (ValueError, OverflowError) as error:
        raise DatasetError(f"{table.path}:{line}: {text!r} is not a time") from error


def _columns(
    table: _Table, clock: str, channels: dict[str, str], label: str | None = None
) -> tuple[tuple[str, ...], Times, Values, Flags | None]:
    """The channel names, times, values and labels of a table with one machine, sorted by time."""
    present = {name: column for name, column in channels.items() if column in table.header}
    places = [table.column(column) for column in present.values()]
    clock_at = table.column(clock)
    label_at = table.column(label) if label and label in table.header else None
    ts, values, labels = [], [], []
    for line, row in table.rows():
        ts.append(_time(table, line, row[clock_at]))
        values.append([_number(table, line, table.header[at], row[at]) for at in places])
        if label_at is not None:
            labels.append(_number(table, line, table.header[label_at], row[label_at]) > 0)
    if not ts:
        raise DatasetError(f"{table.path}:1: a header and no rows")
    times = np.array(ts, dtype=np.int64)
    order = np.argsort(times, kind="stable")
    truth = np.array(labels, dtype=np.bool_)[order] if label_at is not None else None
    return tuple(present), times[order], np.array(values, dtype=np.float64)[order], truth


_SKAB = {
    "accelerometer1_rms": "Accelerometer1RMS",
    "accelerometer2_rms": "Accelerometer2RMS",
    "current": "Current",
    "pressure": "Pressure",
    "temperature": "Temperature",
    "thermocouple": "Thermocouple",
    "voltage": "Voltage",
    "volume_flow": "Volume Flow RateRMS",
}


def _is_skab(table: _Table) -> bool:
    return "datetime" in table.header and "Accelerometer1RMS" in table.header


def _skab(table: _Table, root: Path) -> list[Series]:
    channels, ts, values, truth = _columns(table, "datetime", _SKAB, "anomaly")
    machine_id = _legal("skab-" + "-".join(_skab_place(table.path, root)))
    return [Series(machine_id, "pump", channels, ts, values, truth, table.path)]


def _skab_place(path: Path, root: Path) -> tuple[str, ...]:
    """The words that name a SKAB file: folders below skab/data (or the root), then the stem."""
    parts = (*path.parent.parts, path.stem)
    starts = [i + 2 for i in range(len(parts) - 2) if parts[i : i + 2] == ("skab", "data")]
    inner = parts[starts[-1] :] if starts else (*path.parent.relative_to(root).parts, path.stem)
    return inner if len(inner) > 1 else (path.resolve().parent.name, path.stem)


def _pdm(table: _Table, _: Path) -> list[Series]:
    names = {"voltage": "volt", "rotation": "rotate", "pressure": "pressure"}
    names["vibration"] = "vibration"
    places = [table.column(column) for column in names.values()]
    clock_at, machine_at = table.column("datetime"), table.column("machineID")
    rows: dict[str, list[tuple[int, list[float]]]] = {}
    for line, row in table.rows():
        values = [_number(table, line, table.header[at], row[at]) for at in places]
        ts = _time(table, line, row[clock_at])
        rows.setdefault(_legal(f"pdm-{row[machine_at].strip()}"), []).append((ts, values))
    series = []
    for machine_id, readings in rows.items():
        readings.sort(key=lambda reading: reading[0])
        ts_all = np.array([ts for ts, _ in readings], dtype=np.int64)
        values_all = np.array([values for _, values in readings], dtype=np.float64)
        series.append(
            Series(machine_id, "machine", tuple(names), ts_all, values_all, None, table.path)
        )
    return series


def _pdm_records(table: _Table) -> Iterator[Record]:
    """Errors, replacements and failures of PdM; nothing for any other table."""
    kinds: dict[tuple[str, ...], str] = {
        ("datetime", "machineID", "errorID"): contracts.EVENTS,
        ("datetime", "machineID", "comp"): contracts.MAINTENANCE,
        ("datetime", "machineID", "failure"): contracts.FAILURES,
    }
    topic = kinds.get(table.header)
    if topic is None:
        return
    for line, (time, machine, what) in table.rows():
        ts = _time(table, line, time)
        machine_id, code = _legal(f"pdm-{machine.strip()}"), what.strip()
        value: dict[str, Any] = {"machine_id": machine_id, "ts": ts}
        if topic == contracts.FAILURES:
            value["component"] = code
        else:
            value = {"event_id": f"{machine_id}-{ts}-{code}", **value}
            maintenance = {"event": "replacement", "component": code}
            value |= {"code": code} if topic == contracts.EVENTS else maintenance
        yield Record(topic, ts, machine_id, value)


_CMAPSS_FIELDS = 26


def _cmapss(table: _Table, _root: Path) -> list[Series]:
    """Train units run to failure; a test unit ends earlier, its RUL stands in the RUL file."""
    data = []
    for line, row in table.rows():
        if len(row) != _CMAPSS_FIELDS:
            raise DatasetError(f"{table.path}:{line}: {len(row)} fields, C-MAPSS has 26")
        data.append([_number(table, line, "field", text) for text in row])
    array = np.array(data, dtype=np.float64)
    part, _, subset = table.path.stem.partition("_")
    is_test = part.lower() == "test"
    prefix = f"engine-{subset or part}" + ("-test" if is_test else "")
    after_end = _cmapss_rul(table, subset) if is_test else None
    channels = ("op1", "op2", "op3", *(f"s{k}" for k in range(1, 22)), "cycle")
    series = []
    for index, unit in enumerate(dict.fromkeys(array[:, 0].tolist())):
        rows = array[array[:, 0] == unit]
        rows = rows[np.argsort(rows[:, 1], kind="stable")]
        cycle = rows[:, 1]
        rul = None
        if not is_test:
            rul = cycle[-1] - cycle
        elif after_end is not None and index < len(after_end):
            rul = cycle[-1] - cycle + after_end[index]
        series.append(
            Series(
                machine_id=_legal(f"{prefix}-{unit:.0f}"),
                machine_type="engine",
                channels=channels,
                ts=_BASE_MS + cycle.astype(np.int64) * _HOUR_MS,
                values=np.column_stack([rows[:, 2:], cycle]),
                truth=None,
                source=table.path,
                rul=rul,
                synthetic_clock=True,
            )
        )
    return series


def _cmapss_rul(table: _Table, subset: str) -> list[float] | None:
    path = table.path.with_name(f"RUL_{subset}.txt")
    if not path.is_file():
        return None
    rul = _Table(path, " ", ())
    return [_number(rul, line, "RUL", row[0]) for line, row in rul.rows()]


def _femto(table: _Table, _: Path) -> list[Series]:
    """Bearings with a clock but no date; peak and kurtosis are those of the worse axis."""
    names = ("rms_h", "rms_v", "peak_h", "peak_v", "kurt_h", "kurt_v", "temperature_c")
    places = [table.column(name) for name in names]
    clock = [table.column(name) for name in ("h", "m", "s")]
    ts: list[int] = []
    values: list[list[float]] = []
    day = 0
    for line, row in table.rows():
        h, m, s = (_number(table, line, table.header[at], row[at]) for at in clock)
        if not all(map(math.isfinite, (h, m, s))):
            raise DatasetError(f"{table.path}:{line}: h, m and s are not a time")
        moment = _BASE_MS + day + round((h * 3600 + m * 60 + s) * 1000)
        if ts and moment < ts[-1]:  # the run went past midnight
            day += _DAY_MS
            moment += _DAY_MS
        ts.append(moment)
        values.append([_number(table, line, table.header[at], row[at]) for at in places])
    if not ts:
        raise DatasetError(f"{table.path}:1: a header and no rows")
    raw = np.array(values, dtype=np.float64)
    columns = [raw[:, 0], raw[:, 1], np.fmax(raw[:, 2], raw[:, 3]), np.fmax(raw[:, 4], raw[:, 5])]
    channels = ["rms_h", "rms_v", "peak", "kurtosis"]
    if not np.isnan(raw[:, 6]).all():
        channels.append("temperature")
        columns.append(raw[:, 6])
    return [
        Series(
            machine_id=_legal(f"femto-{table.path.stem}"),
            machine_type="bearing",
            channels=tuple(channels),
            ts=np.array(ts, dtype=np.int64),
            values=np.column_stack(columns),
            truth=None,
            source=table.path,
            synthetic_clock=True,
        )
    ]


_IMS_COLUMN = re.compile(r"Bearing (\d+) C\d+")


def _ims(table: _Table, _: Path) -> list[Series]:
    """Four bearings, each the mean of its two accelerometers."""
    clock = table.header[0]
    sensors = {column: column for column in table.header if _IMS_COLUMN.fullmatch(column)}
    channels, ts, values, _none = _columns(table, clock, sensors)
    bearing_of = np.array([int(column.split()[1]) for column in channels])
    return [
        Series(
            machine_id=f"ims-1-b{bearing}",
            machine_type="bearing_rig",
            channels=("vibration",),
            ts=ts,
            values=values[:, bearing_of == bearing].mean(axis=1, keepdims=True),
            truth=None,
            source=table.path,
        )
        for bearing in sorted(set(bearing_of.tolist()))
    ]


def _nab(table: _Table, root: Path) -> list[Series]:
    channels, ts, values, _none = _columns(table, "timestamp", {"temperature": "value"})
    stem = table.path.stem
    name = "ambient" if stem.startswith("ambient_temperature") else stem
    windows = _nab_windows(table.path, root)
    truth = None
    if windows is not None:
        truth = np.zeros(len(ts), dtype=np.bool_)
        for begin, end in windows:
            truth |= (ts >= begin) & (ts <= end)
    return [Series(_legal(f"nab-{name}"), "ambient", channels, ts, values, truth, table.path)]


def _nab_windows(path: Path, root: Path) -> list[tuple[int, int]] | None:
    """The labelled windows of a NAB file, from the label files beside the data; None if none."""
    key = "/".join(path.parts[-2:])
    folders = {root, *list(path.parents)[:3]}
    for file in sorted({f for folder in folders for f in folder.glob("labels/*window*.json")}):
        labels = json.loads(file.read_text(encoding="utf-8"))
        if key in labels:
            return [(parse_time(begin), parse_time(end)) for begin, end in labels[key]]
    return None


def _ours(table: _Table, _: Path) -> list[Series]:
    """The files of `simulate --out`: machine_id, ts, channels; in CSV also fault ("" is none)."""
    rows: dict[str, list[tuple[int, list[float], bool]]] = {}
    names: tuple[str, ...] = ()
    labelled = "fault" in table.header
    if table.header == ("jsonl",):
        with table.path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                try:
                    record = orjson.loads(raw)
                    names = names or tuple(k for k in record if k not in contracts.READING_FIELDS)
                    reading = contracts.parse_reading(raw, names)
                except (contracts.ContractError, ValueError, TypeError) as error:
                    raise DatasetError(f"{table.path}:{number}: {error}") from error
                row = [math.nan if v is None else v for v in reading.values.values()]
                rows.setdefault(reading.machine_id, []).append((reading.ts, row, False))
    else:
        extra = {*contracts.READING_FIELDS, "fault"}
        names = tuple(name for name in table.header if name not in extra)
        places = [table.column(name) for name in names]
        id_at, ts_at = table.column("machine_id"), table.column("ts")
        fault_at = table.column("fault") if labelled else None
        for line, cells in table.rows():
            row = [_number(table, line, table.header[at], cells[at]) for at in places]
            fault = fault_at is not None and cells[fault_at] != ""
            ts = _time(table, line, cells[ts_at])
            rows.setdefault(cells[id_at], []).append((ts, row, fault))
    series = []
    for machine_id, readings in rows.items():
        readings.sort(key=lambda reading: reading[0])
        ts_all, values, faults = zip(*readings, strict=True)
        series.append(
            Series(
                machine_id=machine_id,
                machine_type=_simulated_type(machine_id),
                channels=names,
                ts=np.array(ts_all, dtype=np.int64),
                values=np.array(values, dtype=np.float64),
                truth=np.array(faults, dtype=np.bool_) if labelled else None,
                source=table.path,
            )
        )
    return series


def _simulated_type(machine_id: str) -> str:
    """The simulator calls machines after their type; what is called otherwise passes for a pump."""
    found = re.fullmatch(r"([a-z][a-z0-9_]*)-\d+", machine_id)
    return found[1] if found else "pump"


def _has(*columns: str) -> Callable[[_Table], bool]:
    return lambda table: set(columns) <= set(table.header)


_READERS: Sequence[tuple[Callable[[_Table], bool], Callable[[_Table, Path], list[Series]]]] = (
    (_is_skab, _skab),
    (_has("datetime", "machineID", "volt", "rotate", "pressure", "vibration"), _pdm),
    (lambda table: len(table.first_row) == _CMAPSS_FIELDS, _cmapss),
    (_has("snapshot", "h", "m", "s", "rms_h", "rms_v", "temperature_c"), _femto),
    (lambda table: any(map(_IMS_COLUMN.fullmatch, table.header)), _ims),
    (lambda table: table.header == ("timestamp", "value"), _nab),
    (lambda table: table.header == ("jsonl",) or table.header[:2] == ("machine_id", "ts"), _ours),
)


def _legal(machine_id: str) -> str:
    """A machine id without characters that keys, metrics or file names dislike."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", machine_id)[:128]


def _distinct(series: list[Series], root: Path) -> Iterator[Series]:
    """Different files are different machines, also where their names became the same id."""
    sources: dict[str, set[Path]] = {}
    for one in series:
        sources.setdefault(one.machine_id, set()).add(one.source)
    for one in series:
        if len(sources[one.machine_id]) == 1:
            yield one
            continue
        place = one.source.relative_to(root).as_posix().encode()
        mark = hashlib.blake2b(place, digest_size=3).hexdigest()
        yield one.renamed(f"{one.machine_id[:120]}-{mark}")
