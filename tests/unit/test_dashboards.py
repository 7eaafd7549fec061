"""The dashboards' JSON: current, what Grafana 11 reads, and readable from afar.

tests/live/test_35_dashboards.py asks a running Prometheus for every expression.
"""

import json
import re
import subprocess

import pytest
import yaml

from grafana import build, kit
from tests import dashboards
from tests.tools import from_depot

UIDS = {
    "plantline-overview",
    "plantline-machine",
    "plantline-pipeline",
    "plantline-kafka",
    "plantline-flink",
    "plantline-hosts",
}
PANEL_TYPES = {"stat", "timeseries", "bargauge", "state-timeline", "table"}


@pytest.fixture(params=dashboards.NAMES)
def dashboard(request):
    return dashboards.load(request.param)


# ── The committed files ──────────────────────────────────────────────────────────────────────────


def test_the_committed_files_are_current():
    old = sorted(build.differing())
    assert not old, f"python -m grafana.build writes them anew: {', '.join(old)}"


def test_a_file_that_no_dashboard_makes_goes(tmp_path):
    (tmp_path / "gone.json").write_text("{}")
    assert build.differing(tmp_path)["gone.json"] is None


def test_there_is_a_dashboard_for_each_question():
    assert {dashboards.load(name)["uid"] for name in dashboards.NAMES} == UIDS


# ── What Grafana reads ───────────────────────────────────────────────────────────────────────────


def test_it_is_of_the_schema_of_grafana_11_6(dashboard):
    assert dashboard["schemaVersion"] == 41
    # A number here would make Grafana look for a dashboard of its own with this number.
    assert dashboard.get("id") is None
    assert re.fullmatch(r"[a-z-]{1,40}", dashboard["uid"])
    assert dashboard["editable"] is False
    assert dashboard["templating"]["list"][0]["name"] == "plant"


def test_panels_have_numbers_of_their_own(dashboard):
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert all(isinstance(number, int) and number > 0 for number in ids)
    assert len(set(ids)) == len(ids)


def test_panels_fill_the_grid_and_do_not_overlap(dashboard):
    taken = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not taken & cells, panel["title"]
        taken |= cells
        # Repeated panels fill their band when Grafana has asked for the variable.
        if panel.get("repeat"):
            taken |= {(x, y) for x in range(24) for _, y in cells}
    height = max(y for _, y in taken) + 1
    assert len(taken) == 24 * height, "there are holes between the panels"


def test_everything_asks_the_provisioned_data_source(dashboard):
    wanted = {"type": "prometheus", "uid": "plantline-prometheus"}
    for panel in dashboard["panels"]:
        assert panel["datasource"] == wanted, panel["title"]
        assert all(target["datasource"] == wanted for target in panel["targets"])
    assert all(v["datasource"] == wanted for v in dashboard["templating"]["list"])


def test_queries_have_names_of_their_own_and_are_instant_unless_drawn_over_time(dashboard):
    for panel in dashboard["panels"]:
        refs = [target["refId"] for target in panel["targets"]]
        assert refs, panel["title"]
        assert len(set(refs)) == len(refs)
        over_time = panel["type"] in ("timeseries", "state-timeline")
        for target in panel["targets"]:
            assert (target["instant"], target["range"]) == (not over_time, over_time)


def test_panels_are_of_types_that_grafana_brings_along(dashboard):
    assert {panel["type"] for panel in dashboard["panels"]} <= PANEL_TYPES


def test_every_variable_is_declared_before_it_is_used(dashboard):
    declared = set()
    for name, series, _, _ in dashboards.variables(dashboard):
        assert dashboards.names_in(series) <= declared, name
        declared.add(name)
    for title, expression in dashboards.expressions(dashboard):
        used = dashboards.names_in(expression)
        assert used <= declared | set(dashboards.BUILT_IN), f"{title}: {used - declared}"
    for panel in dashboard["panels"]:
        assert panel.get("repeat") in declared | {None}


def test_a_choice_of_several_is_matched_as_such(dashboard):
    """`=` compares with a|b as it stands; only `=~` reads it as a choice."""
    several = {name for name, _, _, multi in dashboards.variables(dashboard) if multi}
    repeated = {panel.get("repeat") for panel in dashboard["panels"]}
    for title, expression in dashboards.expressions(dashboard):
        for operator, name in re.findall(r'(=~?)\s*"\$(\w+)\|?"', expression):
            if name in several - repeated:
                assert operator == "=~", f"{title}: {name}"


def links(value):
    """Addresses anywhere inside a dashboard."""
    if isinstance(value, dict):
        found = [value["url"]] if isinstance(value.get("url"), str) else []
        return found + [link for child in value.values() for link in links(child)]
    if isinstance(value, list):
        return [link for child in value for link in links(child)]
    return []


def test_links_lead_to_dashboards_that_are_there_and_set_variables_that_they_have(dashboard):
    for link in filter(None, links(dashboard)):
        if link == "/alerting/list":
            continue
        uid, _, query = link.removeprefix("/d/").partition("?")
        assert uid in UIDS, link
        target = {name for name, *_ in dashboards.variables(dashboards.load(uid))}
        assert set(re.findall(r"var-(\w+)=", query)) <= target, link
        assert "${plant:queryparam}" in query
        assert "${__url_time_range}" in query


def test_every_dashboard_leads_to_the_others_and_to_the_alerts(dashboard):
    to_others, to_alerts = dashboard["links"]
    assert (to_others["type"], to_others["tags"]) == ("dashboards", ["plantline"])
    assert to_others["keepTime"]
    assert to_others["includeVars"]
    assert dashboard["tags"] == ["plantline"]
    assert to_alerts["url"] == "/alerting/list"


@pytest.fixture(scope="module")
def promtool(tmp_path_factory):
    return from_depot("prometheus", "promtool", tmp_path_factory.mktemp("promtool"))


def test_prometheus_can_parse_every_expression(dashboard, promtool, tmp_path):
    values = {name: "x" for name, *_ in dashboards.variables(dashboard)}
    rules = [
        {"record": f"expression:{number}", "expr": dashboards.filled(expression, values)}
        for number, (_, expression) in enumerate(dashboards.expressions(dashboard))
    ]
    rules += [
        {"record": f"variable:{name}", "expr": dashboards.filled(series, values)}
        for name, series, _, _ in dashboards.variables(dashboard)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "expressions", "rules": rules}]}))
    checked = subprocess.run(
        [promtool, "check", "rules", file], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


# ── What people see ──────────────────────────────────────────────────────────────────────────────


def test_every_panel_says_what_it_shows_and_in_which_unit(dashboard):
    assert dashboard["description"]
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert len(panel["description"]) > 15, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
    for variable in dashboard["templating"]["list"]:
        assert variable["label"]
        assert variable["description"]


def test_big_numbers_come_first_and_panels_are_few(dashboard):
    first = [panel for panel in dashboard["panels"] if panel["gridPos"]["y"] == 0]
    assert len(first) >= 5
    assert {panel["type"] for panel in first} == {"stat"}
    assert len(dashboard["panels"]) <= 14


def test_the_overview_fits_a_wall_screen():
    """A row of the grid takes 38 pixels; 1080 less the browser's and Grafana's own bars remain."""
    panels = dashboards.load("plantline-overview")["panels"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    assert bottom * 38 < 900


def test_a_number_without_data_says_so_and_is_never_quiet(dashboard):
    for panel in dashboard["panels"]:
        if panel["type"] != "stat":
            continue
        [absent] = [
            mapping["options"]["result"]
            for mapping in panel["fieldConfig"]["defaults"]["mappings"]
            if mapping["options"].get("match") == "null+nan"
        ]
        assert absent["text"]
        assert absent["color"] in (kit.UNKNOWN, kit.TROUBLE)


def test_colours_are_those_that_everybody_can_tell_apart(dashboard):
    palette = {kit.CALM, kit.NORMAL, kit.WARNING, kit.TROUBLE, kit.UNKNOWN, *kit.KINDS}
    text = json.dumps(dashboard["panels"])
    used = set(re.findall(r'"(?:color|fixedColor)": "([^"]*)"', text))
    assert used
    assert used <= palette


def test_limits_rise(dashboard):
    for panel in dashboard["panels"]:
        first, *others = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert first["value"] is None
        values = [step["value"] for step in others]
        assert values == sorted(set(values)), panel["title"]
