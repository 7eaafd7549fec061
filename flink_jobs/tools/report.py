"""A report on the plant's machines: one HTML file that opens without a network.

    python -m flink_jobs.tools.report --config out/client.conf --since 2026-05-01T06:00
        [--truth out/truth.json] [--machines 40] [--out out/report.html]

For each machine its channels, its score against the threshold, its alerts, and the truth where it
is known: from `simulate` or `replay` with --truth FILE.json, and from topic `failures`. `--since`
is the time at which records arrived at Kafka; the times in the report are the machines' own.
"""

from __future__ import annotations

import argparse
import datetime as dt
import math
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from flink_jobs import contracts
from flink_jobs.plant import Plant, load_plant
from flink_jobs.tools import cli, report_charts
from flink_jobs.tools.kafka import Config, read_all, read_config
from flink_jobs.tools.report_charts import MachineChart, machine_chart, strip
from flink_jobs.tools.report_figures import MachineFigures, PlantFigures, Records, plant_figures
from flink_jobs.tools.truth import Truth, read_truths

_DAY_MS = 86_400_000
# The page stays well below 5 MB, which every browser opens at once.
_CHARTS_BYTES: Final = 3_500_000
_ROWS: Final = 1000
_ALERTS: Final = 15
_TRUTH = Path("out/truth.json")


@dataclass(frozen=True)
class Section:
    """A machine that is shown in full."""

    machine: MachineFigures
    chart: MachineChart


def collect(
    config: Config, plant: Plant, since: int, limit: int, truths: Mapping[str, Truth]
) -> Records:
    """Read all that arrived since a time (epoch ms), with the values of `limit` machines.

    Raises ToolError where Kafka cannot be read.
    """
    records = Records(limit)
    progress = cli.Progress("records read")
    count = 0

    def values(topic: str) -> Iterator[bytes]:
        nonlocal count
        for message in read_all(config, topic, since or None):
            yield message.value() or b""
            count += 1
            progress.show(count)

    for raw in values(contracts.PREDICTIONS):
        records.add_prediction(raw)
    for raw in values(contracts.ALERTS):
        records.add_alert(raw)
    # Those machines are to be drawn that have most to explain.
    first = plant_figures(records, plant, truths)
    records.prefer(one.machine_id for one in first.machines)
    for kind in plant.machine_types.values():
        for raw in values(contracts.telemetry_topic(kind.name)):
            records.add_reading(raw, kind)
    for raw in values(contracts.FAILURES):
        records.add_failure(raw)
    return records


def page(
    records: Records,
    plant: Plant,
    truths: Mapping[str, Truth],
    *,
    since: int,
    made: int,
    limit: int,
) -> str:
    """The report as HTML. `since` and `made` are epoch ms; `limit` machines are shown in full."""
    figures = plant_figures(records, plant, truths)
    sections = _sections(figures, records, plant, limit)
    environment = Environment(
        loader=PackageLoader("flink_jobs.tools", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        duration=duration, day_clock=day_clock, moment=moment, figure=figure, plural=plural
    )
    return environment.get_template("report.html.j2").render(
        plant=plant,
        figures=figures,
        sections=sections,
        numbers={one.machine.machine_id: number for number, one in enumerate(sections, 1)},
        rows=[(one, strip(one)) for one in figures.machines[:_ROWS]],
        stretch=stretch(*figures.span) if figures.span else "",
        since=since,
        made=made,
        alerts_shown=_ALERTS,
        left=report_charts.LEFT,
        plot=report_charts.PLOT,
        width=report_charts.WIDTH,
    )


def _sections(figures: PlantFigures, records: Records, plant: Plant, limit: int) -> list[Section]:
    """The machines shown in full: those whose values were kept, as many as fit."""
    sections: list[Section] = []
    room = _CHARTS_BYTES
    for one in figures.machines:
        values = records.machines[one.machine_id].values
        if one.readings and values is None:
            continue
        chart = machine_chart(one, plant.machine_types.get(one.machine_type), values)
        room -= chart.weight
        if room < 0 or len(sections) == limit:
            break
        sections.append(Section(one, chart))
    return sections


def duration(ms: float) -> str:
    """The two largest units that matter: `1 min 50 s`."""
    seconds = round(ms / 1000)
    for unit, size, lesser, part in (
        ("d", 86_400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            return f"{whole} {unit} {rest // part} {lesser}" if rest // part else f"{whole} {unit}"
    return f"{seconds} s"


def day_clock(ts: int) -> str:
    """Date and time in UTC, to the minute."""
    return _utc(ts).strftime("%Y-%m-%d %H:%M")


def moment(ts: int, among: MachineFigures) -> str:
    """The time in UTC, with the date where the machine's data is of more than one day."""
    one_day = _utc(among.begin).date() == _utc(among.end).date()
    return _utc(ts).strftime("%H:%M:%S" if one_day else "%Y-%m-%d %H:%M:%S")


def stretch(begin: int, end: int) -> str:
    """From begin to end in UTC; the date once where it is the same."""
    one_day = _utc(begin).date() == _utc(end).date()
    return f"{day_clock(begin)} to {day_clock(end)[-5:] if one_day else day_clock(end)}"


def _utc(ts: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ts / 1000, dt.UTC)


def figure(value: float) -> str:
    """Three digits, without powers of ten: 0.452, 34.5, 1,230."""
    if not value:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 machine`, `2 machines`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def report(options: argparse.Namespace) -> int:
    """Read, draw, write; returns the exit code."""
    now = int(time.time() * 1000)
    plant = load_plant(options.plant)
    # The default file is there only after a run that wrote it; one that was asked for must be.
    truths = read_truths(options.truth) if options.truth != _TRUTH or _TRUTH.exists() else {}
    since = now - _DAY_MS if options.since is None else options.since
    records = collect(read_config(options.config), plant, since, options.machines, truths)
    text = page(records, plant, truths, since=since, made=now, limit=options.machines)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text, encoding="utf-8")
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {plural(len(records.machines), 'machine')}, {size:.1f} MB")
    return 0


def _since(text: str) -> int:
    return 0 if text == "beginning" else cli.time_argument(text)


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser("report", __doc__)
    parser.add_argument(
        "--since",
        type=_since,
        metavar="TIME",
        help="what arrived at Kafka since then: beginning or a time (default: a day ago)",
    )
    parser.add_argument(
        "--truth", type=Path, default=_TRUTH, help="known faults (%(default)s, if it is there)"
    )
    parser.add_argument("--machines", type=int, default=40, help="how many in full (40)")
    parser.add_argument("--out", type=Path, default=Path("out/report.html"), help="(%(default)s)")
    options = parser.parse_args(argv)
    return cli.run(lambda: report(options))


if __name__ == "__main__":
    sys.exit(main())
