"""Who is scraped, and who is told: the configuration files as Prometheus' and Alertmanager's own
checkers understand them.
"""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from test_roles import DEMO, Plant

from tests.tools import from_depot

SHIFT = {"name": "shift", "webhook_configs": [{"url": "http://198.51.100.7/alerts"}]}
CALLED = {"name": "called", "email_configs": [{"to": "called@plant.example"}]}
SMTP = {"smtp_smarthost": "mail.plant.example:587", "smtp_from": "plant@plant.example"}
CRITICAL_CALLS = [{"receiver": "called", "matchers": ['severity="critical"'], "continue": True}]
BOTH = {
    "alertmanager_receivers": [SHIFT, CALLED],
    "alertmanager_routes": [*CRITICAL_CALLS, {"receiver": "shift"}],
    "alertmanager_global": SMTP,
}


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    return {
        "promtool": from_depot("prometheus", "promtool", folder),
        "amtool": from_depot("prometheus-alertmanager", "amtool", folder),
    }


@pytest.fixture(scope="module")
def separated(tmp_path_factory):
    """An inventory in which every host has one task."""
    hosts = {
        "controller1": ["kafka_controllers"],
        "broker1": ["kafka_brokers"],
        "broker2": ["kafka_brokers"],
        "master1": ["flink_masters"],
        "master2": ["flink_masters"],
        "worker1": ["flink_workers"],
        "watch1": ["monitoring"],
    }
    names = sorted({group for groups in hosts.values() for group in groups})
    inventory = {
        "all": {
            "hosts": {
                host: {"ansible_host": f"198.51.100.{number}"}
                for number, host in enumerate(hosts, start=1)
            },
            "vars": {"plant": {"name": "works"}, "flink_metrics_taskmanager_port": 9999},
        },
        **{g: {"hosts": {h: {} for h, of in hosts.items() if g in of}} for g in names},
    }
    file = tmp_path_factory.mktemp("inventory") / "hosts.yml"
    file.write_text(yaml.safe_dump(inventory))
    return Plant(file)


def scrapes(plant, host):
    content = yaml.safe_load(plant.render("prometheus", "prometheus.yml.j2", host))
    return {
        (job["job_name"], target["labels"]["instance"], target["labels"].get("component")): (
            target["targets"],
            target["labels"]["plant"],
        )
        for job in content["scrape_configs"]
        for target in job["static_configs"]
    }


def test_every_process_is_scraped_where_the_inventory_puts_it(separated):
    found = scrapes(separated, "watch1")
    assert set(found) == {
        *(("node", host, None) for host in separated.hostvars),
        *(("kafka", host, None) for host in ["controller1", "broker1", "broker2"]),
        ("flink", "master1", "jobmanager"),
        ("flink", "worker1", "taskmanager"),
        ("plant", "master1", None),
        ("prometheus", "watch1", None),
        ("alertmanager", "watch1", None),
    }
    assert {plant for _, plant in found.values()} == {"works"}
    assert found["node", "broker2", None][0] == ["198.51.100.3:9100"]
    assert found["kafka", "broker2", None][0] == ["198.51.100.3:7071"]


def test_a_port_of_the_inventory_is_the_one_that_is_asked(separated):
    found = scrapes(separated, "watch1")
    assert found["flink", "worker1", "taskmanager"][0] == ["198.51.100.6:9999"]


def test_the_same_inventory_makes_the_same_file():
    first, second = (
        Plant(DEMO).render("prometheus", "prometheus.yml.j2", "node3") for _ in range(2)
    )
    assert first == second
    jobs = yaml.safe_load(first)["scrape_configs"]
    for job in jobs:
        order = [t["labels"].get("component", "") + t["targets"][0] for t in job["static_configs"]]
        assert order == sorted(order), "sets would come in another order with each run"


def test_promtool_accepts_the_configuration_and_its_rules(tools, tmp_path):
    plant = Plant(DEMO)
    text = plant.render("prometheus", "prometheus.yml.j2", "node3")
    (rules,) = yaml.safe_load(text)["rule_files"]
    (tmp_path / "alerts.yml").write_text(plant.render("prometheus", "alerts.yml.j2", "node3"))
    # promtool looks whether the files are there, as on the host they are.
    for file in set(re.findall(r"/etc/plantline/[\w/.-]+(?:pem|password)", text)):
        text = text.replace(file, str(tmp_path / Path(file).name))
        (tmp_path / Path(file).name).touch()
    (tmp_path / "prometheus.yml").write_text(text.replace(rules, str(tmp_path / "alerts.yml")))
    subprocess.run([tools["promtool"], "check", "config", tmp_path / "prometheus.yml"], check=True)


@pytest.fixture
def alertmanager(tools, tmp_path):
    """Calling it with variables gives a question: labels → the receivers that are told."""

    def configured(**variables):
        file = tmp_path / "alertmanager.yml"
        file.write_text(
            Plant(DEMO).render("alertmanager", "alertmanager.yml.j2", "node3", **variables)
        )
        subprocess.run([tools["amtool"], "check-config", file], check=True, capture_output=True)

        def told(**labels):
            command = [tools["amtool"], "config", "routes", "test", f"--config.file={file}"]
            command += [f"{name}={value}" for name, value in labels.items()]
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            return answer.stdout.strip().split(",")

        return told

    return configured


def test_without_a_receiver_nobody_is_told(alertmanager):
    told = alertmanager()
    assert told(alertname="HostDown", severity="critical") == ["nobody"]
    assert told(alertname="Watchdog", severity="none") == ["nobody"]


def test_a_single_receiver_gets_everything_but_the_watchdog(alertmanager):
    told = alertmanager(alertmanager_receivers=[SHIFT])
    assert told(alertname="HostDown", severity="critical") == ["shift"]
    assert told(alertname="ExporterDown", severity="warning") == ["shift"]
    assert told(alertname="Watchdog", severity="none") == ["nobody"]


def test_routes_decide_who_is_called_at_night(alertmanager):
    told = alertmanager(**BOTH)
    assert told(alertname="HostDown", severity="critical") == ["called", "shift"]
    assert told(alertname="ExporterDown", severity="warning") == ["shift"]


def test_the_watchdog_goes_to_its_own_address_and_nowhere_else(alertmanager):
    told = alertmanager(**BOTH, alertmanager_watchdog_url="https://watch.example/plant")
    assert told(alertname="Watchdog", severity="none") == ["watchdog"]
    assert told(alertname="HostDown", severity="critical") == ["called", "shift"]


def test_amtool_refuses_a_route_to_nowhere(alertmanager):
    with pytest.raises(subprocess.CalledProcessError):
        alertmanager(alertmanager_receivers=[SHIFT], alertmanager_routes=CRITICAL_CALLS)


def test_a_secret_stays_out_of_the_configuration():
    secret = {"alertmanager_secrets": {"smtp": "s3cret"}}
    text = Plant(DEMO).render("alertmanager", "alertmanager.yml.j2", "node3", **BOTH, **secret)
    assert "s3cret" not in text
