"""Every expression of every dashboard, asked of the plant's Prometheus: no data is a failure."""

import json
import subprocess
import urllib.parse
import urllib.request

import pytest
from conftest import INVENTORY, ROOT, eventually, note, operator_context, tool

from tests import dashboards

SINCE_S = 1800
COMPLETE_WITHIN_S = 300  # rates need a few scrapes
# One of the machines that send.
CHOSEN = {"machine_type": "pump", "machine": "pump-001"}


@pytest.fixture(scope="module")
def prometheus(plant):
    """Function that asks Prometheus' HTTP API."""
    listing = subprocess.run(
        ["ansible-inventory", "-i", INVENTORY, "--list"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    inventory = json.loads(listing.stdout)
    host = inventory["_meta"]["hostvars"][inventory["monitoring"]["hosts"][0]]
    base = f"https://{host['ansible_host']}:{host.get('prometheus_port', 9090)}/api/v1/"

    def ask(path, **parameters):
        url = f"{base}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(  # noqa: S310 (ours)
            url, timeout=30, context=operator_context()
        ) as answer:
            return json.load(answer)["data"]

    return ask


@pytest.fixture(scope="module")
def moving(plant, prometheus, client, kind):
    """Machines that send and are scored, so that each panel has something to show."""
    tool(
        *("simulate", "--config", ROOT / "out" / "client.conf", "--quiet"),
        *("--plant", ROOT / INVENTORY / "group_vars" / "all" / "plant.yml"),
        *("--machines", 4, "--readings", 8_000, "--seed", 35, "--flat-out", "--close"),
    )
    eventually(
        "a score in Prometheus",
        lambda: prometheus("query", query='plantline_machine_score{machine_id="pump-001"}')[
            "result"
        ],
        within_s=120,
    )


def choices(prometheus, dashboard):
    """A value of each variable, asked for as Grafana does. Fails where there is none."""
    values = {}
    for name, series, label, several in dashboards.variables(dashboard):
        matcher = dashboards.filled(series, values)
        found = prometheus(f"label/{label}/values", **{"match[]": matcher})
        assert found, f"variable {name} has no values: {matcher}"
        repeated = any(panel.get("repeat") == name for panel in dashboard["panels"])
        one = CHOSEN.get(name, found[0])
        assert one in found
        values[name] = "|".join(found) if several and not repeated else one
    return values


def answers(prometheus, panel, target, values):
    """The series of a query, over time or now, as the panel asks for it."""
    expression = dashboards.filled(target["expr"], values)
    if target["instant"]:
        return prometheus("query", query=expression)["result"]
    now = float(prometheus("query", query="time()")["result"][1])
    span = {"start": now - SINCE_S, "end": now, "step": 15}
    return prometheus("query_range", query=expression, **span)["result"]


@pytest.mark.parametrize("name", dashboards.NAMES)
def test_every_panel_has_data(moving, prometheus, name):
    dashboard = dashboards.load(name)
    values = choices(prometheus, dashboard)

    def empty():
        return [
            f"{panel['title']} ({target['refId']}): {dashboards.filled(target['expr'], values)}"
            for panel in dashboard["panels"]
            for target in panel["targets"]
            if not answers(prometheus, panel, target, values)
        ]

    without = []

    def complete():
        without[:] = empty()
        return not without

    try:
        eventually(f"all panels of {name}", complete, within_s=COMPLETE_WITHIN_S)
    except pytest.fail.Exception:
        pytest.fail("no data:\n" + "\n".join(without), pytrace=False)
    asked = sum(len(panel["targets"]) for panel in dashboard["panels"])
    note(f"{name}: {len(dashboard['panels'])} panels, {asked} expressions, all with data")
