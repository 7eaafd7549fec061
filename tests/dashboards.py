"""The committed dashboards as Grafana would read them: panels, expressions, variables."""

import json
import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "grafana" / "json"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))

# Grafana's own variables, and what it would put in their place here: four scrapes of 15 s.
BUILT_IN = {"__rate_interval": "1m"}
VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}")
LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def expressions(dashboard):
    """(panel's title, expression) of all queries."""
    return [
        (panel["title"], target["expr"])
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


def variables(dashboard):
    """(name, series, label, whether several may be chosen) in the order in which they are asked."""
    found = []
    for variable in dashboard["templating"]["list"]:
        source = LABEL_VALUES.fullmatch(variable["query"]["query"])
        assert source, f"{variable['name']}: not label_values(series, label)"
        found.append((variable["name"], source["series"], source["label"], variable["multi"]))
    return found


def names_in(text):
    """Names of the variables in an expression or address."""
    return {short or long for short, long in VARIABLE.findall(text)}


def filled(text, values):
    """An expression with the variables' values put in, as Grafana does."""
    return VARIABLE.sub(lambda found: (BUILT_IN | values)[found[1] or found[2]], text)
