"""Panels, variables and dashboards that look alike: one place for colours, sizes and manners.

Colours are those of Okabe and Ito, told apart with every kind of colour vision. What is well is
quiet; only what needs somebody is orange (look at it today) or vermilion (look at it now), and no
state is told by its colour alone. Series of the same kind (one per host, broker, …) are shades of
one colour: they differ in lightness, and the legend names their newest values.

Queries of single values are instant: a range would show the last value of a series that is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = d.DataSourceRef(type_val="prometheus", uid="plantline-prometheus")
TAG = "plantline"
WIDTH = 24  # columns of Grafana's grid

CALM = "#37474F"  # dark slate: white text is readable on it
NORMAL = "#56B4E9"  # sky blue
WARNING = "#E69F00"  # orange
TROUBLE = "#D55E00"  # vermilion
UNKNOWN = "#7A7A7A"
# For series of different kinds in one panel, in this order; none of them is a colour of a state.
KINDS = (NORMAL, "#009E73", "#CC79A7")

Panel = Builder[d.Panel]
Limits = Sequence[tuple[float, str]]  # from this value on, this colour
FROM_THE_BOTTOM = float("-inf")  # a limit that takes the place of the colour of what is well


@dataclass(frozen=True)
class Query:
    """One expression of a panel; `legend` may hold labels as {{label}}."""

    expr: str
    legend: str = ""
    is_limit: bool = False  # drawn as a dashed line, not as a measurement


@dataclass(frozen=True)
class Column:
    """A column of a table: the value of an expression, or a label (`expr` empty)."""

    title: str
    expr: str = ""
    unit: str = "none"
    width: int = 0
    words: Mapping[str, tuple[str, str]] | None = None
    decimals: int | None = None
    link: str = ""


# ── Limits ───────────────────────────────────────────────────────────────────────────────────────


def high(warning: float, trouble: float) -> Limits:
    """Limits of what must not get high."""
    return ((warning, WARNING), (trouble, TROUBLE))


def above(trouble: float) -> Limits:
    """One limit, from which on somebody is needed."""
    return ((trouble, TROUBLE),)


def below(trouble: float) -> Limits:
    """Limits of what is in trouble below a value."""
    return ((FROM_THE_BOTTOM, TROUBLE), (trouble, CALM))


def thresholds(limits: Limits, well: str) -> board.ThresholdsConfig:
    """Colours by value; `well` is the colour below the first limit."""
    steps = [d.Threshold(color=well)]
    for value, colour in limits:
        if value == FROM_THE_BOTTOM:
            steps = [d.Threshold(color=colour)]
        else:
            steps.append(d.Threshold(value=value, color=colour))
    return board.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(steps)


def mappings(
    words: Mapping[str, tuple[str, str]] | None, absent: tuple[str, str]
) -> list[d.ValueMapping]:
    """Words (and colours) in place of values, and of no value."""
    found: list[d.ValueMapping] = [
        d.SpecialValueMap(
            options=d.DashboardSpecialValueMapOptions(
                match=d.SpecialValueMatch.NULL_AND_NAN,
                result=d.ValueMappingResult(text=absent[0], color=absent[1], index=0),
            )
        )
    ]
    if words:
        options = {
            value: d.ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate(words.items(), 1)
        }
        found.append(d.ValueMap(options=options))
    return found


# ── Panels ───────────────────────────────────────────────────────────────────────────────────────

ABSENT = ("no data", UNKNOWN)


def number(
    title: str,
    about: str,
    expr: str,
    *,
    unit: str = "none",
    limits: Limits = (),
    words: Mapping[str, tuple[str, str]] | None = None,
    absent: tuple[str, str] = ABSENT,
    decimals: int | None = None,
    link: str = "",
) -> stat.Panel:
    """One big number, or the word that stands for it."""
    panel = (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(DATASOURCE)
        .with_target(_query(Query(expr), "A", instant=True))
        .unit(unit)
        .mappings(mappings(words, absent))
        .thresholds(thresholds(limits, CALM))
        .color_scheme(board.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .color_mode(c.BigValueColorMode.BACKGROUND_SOLID)
        .graph_mode(c.BigValueGraphMode.NONE)
        .text_mode(c.BigValueTextMode.VALUE)
        .justify_mode(c.BigValueJustifyMode.CENTER)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if decimals is not None:
        panel.decimals(decimals)
    if link:
        panel.data_links([_link(link)])
    return panel


def name(title: str, about: str, expr: str, legend: str) -> stat.Panel:
    """Text out of the labels of one series."""
    panel = number(title, about, expr).text_mode(c.BigValueTextMode.NAME)
    return panel.targets([_query(Query(expr, legend), "A", instant=True)])


def graph(
    title: str,
    about: str,
    queries: Sequence[Query],
    *,
    unit: str,
    limits: Limits = (),
    maximum: float | None = None,
) -> timeseries.Panel:
    """Lines over time: several kinds in colours of their own, or one kind in shades of blue."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(DATASOURCE)
        .targets([_query(query, chr(ord("A") + i)) for i, query in enumerate(queries)])
        .unit(unit)
        .line_width(2)
        .fill_opacity(0)
        .show_points(c.VisibilityMode.NEVER)
        .axis_soft_min(0)
        .thresholds(thresholds(limits, NORMAL))
        .color_scheme(board.FieldColor().mode(d.FieldColorModeId.SHADES).fixed_color(NORMAL))
        .tooltip(
            common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(c.LegendDisplayMode.TABLE)
            .placement(c.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
        )
    )
    if limits:
        style = common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED)
        panel.thresholds_style(style)
    if maximum is not None:
        panel.max(maximum)
    if len(queries) > 1:
        for index, query in enumerate(queries):
            look = [_value("color", {"mode": "shades", "fixedColor": KINDS[index]})]
            if query.is_limit:
                look = [
                    _value("color", {"mode": "fixed", "fixedColor": TROUBLE}),
                    _value("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
                ]
            panel.override_by_query(chr(ord("A") + index), look)
    return panel


def bars(
    title: str,
    about: str,
    expr: str,
    legend: str,
    *,
    unit: str,
    limits: Limits,
    maximum: float | None = None,
    decimals: int | None = None,
    link: str = "",
) -> bargauge.Panel:
    """One bar for each series, now."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(about)
        .datasource(DATASOURCE)
        .with_target(_query(Query(expr, legend), "A", instant=True))
        .unit(unit)
        .min(0)
        .mappings(mappings(None, ABSENT))
        .thresholds(thresholds(limits, NORMAL))
        .color_scheme(board.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .orientation(c.VizOrientation.HORIZONTAL)
        .display_mode(c.BarGaugeDisplayMode.BASIC)
        .value_mode(c.BarGaugeValueMode.TEXT)
        .name_placement(c.BarGaugeNamePlacement.LEFT)
        .show_unfilled(True)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if maximum is not None:
        panel.max(maximum)
    if decimals is not None:
        panel.decimals(decimals)
    if link:
        panel.data_links([_link(link)])
    return panel


def states(
    title: str, about: str, expr: str, legend: str, words: Mapping[str, tuple[str, str]]
) -> statetimeline.Panel:
    """States over time, one lane for each series."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(about)
        .datasource(DATASOURCE)
        .with_target(_query(Query(expr, legend), "A"))
        .unit("none")
        .mappings(mappings(words, ABSENT))
        .thresholds(thresholds((), CALM))
        .color_scheme(board.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .show_value(c.VisibilityMode.NEVER)
        .merge_values(True)
        .row_height(0.8)
        .fill_opacity(90)
        .line_width(0)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(c.LegendDisplayMode.LIST)
            .placement(c.LegendPlacement.BOTTOM)
        )
    )


def rows(title: str, about: str, columns: Mapping[str, Column], *, sort: str) -> table.Panel:
    """A table: expressions with the same labels become columns beside these labels.

    Keys of `columns` are the names of labels, or any name for an expression; `sort` is the title of
    the column whose highest values come first.
    """
    queries = {key: column for key, column in columns.items() if column.expr}
    refs = {key: chr(ord("A") + index) for index, key in enumerate(queries)}
    # A single query's value is called Value, those of several Value #A, Value #B, …
    fields = {
        key: key if key not in refs else f"Value #{refs[key]}" if len(refs) > 1 else "Value"
        for key in columns
    }
    panel = (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(DATASOURCE)
        .targets(
            [
                _query(Query(queries[key].expr), ref, instant=True).format(PromQueryFormat.TABLE)
                for key, ref in refs.items()
            ]
        )
        .unit("none")
        .mappings(mappings(None, ("", UNKNOWN)))
        .thresholds(thresholds((), NORMAL))
        .color_scheme(board.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .filterable(False)
        .sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
        .with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            d.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True},
                    "indexByName": {fields[key]: i for i, key in enumerate(columns)},
                    "renameByName": {fields[key]: columns[key].title for key in columns},
                },
            )
        )
    )
    for column in columns.values():
        if properties := _properties(column):
            panel.override_by_name(column.title, properties)
    return panel


def _properties(column: Column) -> list[d.DynamicConfigValue]:
    found = []
    if column.unit != "none":
        found.append(_value("unit", column.unit))
    if column.decimals is not None:
        found.append(_value("decimals", column.decimals))
    if column.width:
        found.append(_value("custom.width", column.width))
    if column.words:
        found.append(_value("mappings", mappings(column.words, ("", UNKNOWN))))
        cell = {"type": "color-background", "mode": "basic"}
        found.append(_value("custom.cellOptions", cell))
    if column.link:
        found.append(_value("links", [_link(column.link).build()]))
    return found


def _query(query: Query, ref: str, *, instant: bool = False) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(ref).datasource(DATASOURCE)
    target.legend_format(query.legend or "__auto")
    return target.instant() if instant else target.range()


def _value(name: str, content: object) -> d.DynamicConfigValue:
    return d.DynamicConfigValue(id_val=name, value=content)


# ── Links ────────────────────────────────────────────────────────────────────────────────────────


def to(uid: str, **variables: str) -> str:
    """Address of another dashboard, with the plant and the time that are looked at."""
    given = "".join(f"&var-{key}={value}" for key, value in variables.items())
    return f"/d/{uid}?${{plant:queryparam}}{given}&${{__url_time_range}}"


def _link(url: str) -> board.DashboardLink:
    uid = url.removeprefix("/d/").partition("?")[0]
    return board.DashboardLink(f"Open {uid.removeprefix('plantline-')}").url(url)


# ── Variables ────────────────────────────────────────────────────────────────────────────────────


def variable(
    name: str,
    label: str,
    about: str,
    source: str,
    *,
    several: bool = False,
    hidden: bool = False,
) -> board.QueryVariable:
    """A choice among the values of a label: `source` is label_values(series, label)."""
    found = (
        board.QueryVariable(name)
        .label(label)
        .description(about)
        .datasource(DATASOURCE)
        .query({"qryType": 1, "query": source, "refId": f"variable-{name}"})
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.NATURAL_ASC)
        .hide(d.VariableHide.HIDE_VARIABLE if hidden else d.VariableHide.DONT_HIDE)
        .multi(several)
        .include_all(several)
    )
    if several:
        found.current(d.VariableOption(selected=True, text="All", value="$__all"))
    return found


def plant() -> board.QueryVariable:
    return variable(
        "plant", "Plant", "The plant, as its plant model names it.", "label_values(up, plant)"
    )


def machine_type(*, several: bool = True) -> board.QueryVariable:
    return variable(
        "machine_type",
        "Machine type",
        "A machine type of the plant model.",
        'label_values(plantline_machine_info{plant="$plant"}, machine_type)',
        several=several,
    )


# ── Dashboards ───────────────────────────────────────────────────────────────────────────────────


def dashboard(
    uid: str,
    title: str,
    about: str,
    variables: Sequence[board.QueryVariable],
    bands: Sequence[tuple[int, Sequence[Panel]]],
    *,
    since: str = "now-1h",
) -> d.Dashboard:
    """A dashboard of bands, one below the other: (height, panels from left to right).

    The panels of a band are equally wide unless they have a span of their own.
    """
    built = (
        board.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .readonly()
        .timezone("browser")
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time(since, "now")
        .variables([plant(), *variables])
        .annotations([])
        .link(
            board.DashboardLink("Dashboards")
            .type(d.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .keep_time(True)
            .include_vars(True)
            .tooltip("Other dashboards of this plant, at the same time")
        )
        .link(
            board.DashboardLink("Alerts")
            .type(d.DashboardLinkType.LINK)
            .url("/alerting/list")
            .icon("bolt")
            .tooltip("All alert rules, and which of them fire")
        )
        .build()
    )
    built.panels = []
    top = 0
    for height, panels in bands:
        left = 0
        for builder in panels:
            panel = builder.build()
            width = panel.grid_pos.w if panel.grid_pos else WIDTH // len(panels)
            panel.id_val = len(built.panels) + 1
            panel.grid_pos = d.GridPos(x=left, y=top, w=width, h=height)
            built.panels.append(panel)
            left += width
        if left > WIDTH:
            raise ValueError(f"{title}: a band of {left} columns; there are {WIDTH}")
        top += height
    return built
