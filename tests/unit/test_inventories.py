"""The inventories that are shipped: what they would become, host by host, without any host."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from test_roles import TEMPLATES, Plant, endpoints, properties, settings_of_flink

from flink_jobs import plant as plant_model
from plugins.module_utils.preflight import ROLE_GROUPS

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ["plant1", "single"]


def folder(name):
    return ROOT / "inventories" / name


@pytest.fixture(scope="module", params=SHIPPED)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def plant(name):
    return Plant(folder(name))


@pytest.fixture(scope="module")
def plant1():
    return Plant(folder("plant1"))


@pytest.fixture(scope="module")
def single():
    return Plant(folder("single"))


def ansible(playbook, inventory, *arguments):
    command = ["ansible-playbook", playbook, "-i", folder(inventory), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_site_can_be_read_with_it(name):
    done = ansible("site.yml", name, "--syntax-check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr


@pytest.fixture
def given(tmp_path):
    """What an inventory expects on the control node: a depot, secrets, a model for each type."""

    def arguments(plant):
        models = {}
        for kind in next(iter(plant.hostvars.values()))["plant"]["machine_types"]:
            models[kind] = str(tmp_path / f"{kind}.onnx")
            Path(models[kind]).touch()
        sources = yaml.safe_load((ROOT / "depot.yml").read_text())["artifacts"]
        held = {
            artifact: {"version": str(about["version"]), "file": "archive.tar"}
            for artifact, about in sources.items()
            if not about.get("optional")
        }
        (tmp_path / "archive.tar").touch()
        (tmp_path / "manifest.json").write_text(json.dumps({"artifacts": held}))
        secrets = {"vault_kafka_passwords": {"plantline-clock": "battery-staple"}}
        return json.dumps({"plant_models": models, "artifact_depot_dir": str(tmp_path), **secrets})

    return arguments


def test_preflight_has_nothing_to_say(name, plant, given):
    done = ansible("playbooks/preflight.yml", name, "--tags", "inventory", "-e", given(plant))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "preflight: inventory and variables are sound" in done.stdout


def test_it_can_be_made_local(single, given):
    more = [given(single), json.dumps({"ansible_connection": "local"})]
    arguments = [word for one in more for word in ("-e", one)]
    done = ansible("playbooks/preflight.yml", "single", "--tags", "inventory", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("template", TEMPLATES, ids=str)
def test_every_template_renders_where_its_role_is_applied(plant, template):
    role, _, file = template.parts
    groups = ROLE_GROUPS.get(role, frozenset())
    for host, about in plant.hostvars.items():
        if not groups or groups & set(about["group_names"]):
            text = plant.render(role, file, host)
            assert text.strip()
            assert "{%" not in text


def test_every_command_that_makes_a_model_names_this_plant(name):
    """What comments tell an engineer to type fits the inventory that they stand in."""
    text = (folder(name) / "group_vars" / "all" / "jobs.yml").read_text()
    for line in text.replace("\\\n#", "").splitlines():
        if "--plant" in line:
            assert f"--plant inventories/{name}/group_vars/all/plant.yml" in line


def test_every_type_has_machines_and_is_scored(name):
    declared = plant_model.load_plant(folder(name) / "group_vars" / "all" / "plant.yml")
    assert {machine.machine_type for machine in declared.machines} == set(declared.machine_types)
    assert all(kind.models == ("anomaly",) for kind in declared.machine_types.values())


# The reference plant


def test_the_reference_plant_has_its_parts_on_hosts_of_their_own(plant1):
    groups = {group: set(names) for group, names in plant1.groups.items()}
    sizes = {
        "kafka_controllers": 3, "kafka_brokers": 3, "flink_masters": 2, "flink_workers": 3,
        "monitoring": 1,
    }  # fmt: skip
    assert {group: len(groups[group]) for group in sizes} == sizes
    assert len(set().union(*(groups[group] for group in sizes))) == sum(sizes.values())


def test_its_controllers_only_vote_and_its_brokers_only_serve(plant1):
    nodes = {
        host: properties(plant1.render("kafka", "server.properties.j2", host))
        for host in plant1.groups["kafka"]
    }
    for host, node in nodes.items():
        is_controller = host in plant1.groups["kafka_controllers"]
        assert node["process.roles"] == ("controller" if is_controller else "broker")
        assert set(endpoints(node["listeners"])) == (
            {"CONTROLLER"} if is_controller else {"CLIENT", "BROKER", "OPERATOR"}
        )
        assert ("advertised.listeners" in node) is not is_controller
        assert ("broker.rack" in node) is not is_controller
    racks = {nodes[host]["broker.rack"] for host in plant1.groups["kafka_brokers"]}
    assert len(racks) == 2
    [voters] = {node["controller.quorum.voters"] for node in nodes.values()}
    assert voters == "1@10.20.30.11:9093,2@10.20.30.12:9093,3@10.20.30.13:9093"


def test_its_standby_is_installed_and_not_started(plant1):
    runs = {
        host: {unit["name"]: unit["runs"] for unit in plant1.value("flink", "__flink_units", host)}
        for host in plant1.groups["flink"]
    }
    assert runs["fm1"] == {"jobmanager": True}
    assert runs["fm2"] == {"jobmanager": False}
    assert all(runs[worker] == {"taskmanager": True} for worker in ("fw1", "fw2", "fw3"))


def test_its_jobs_find_slots_even_when_a_worker_is_lost(plant1):
    about = plant1.hostvars["fw1"]
    scored = [kind for kind in about["plant"]["machine_types"].values() if kind["models"]]
    needed = len(scored) * about["plant_jobs_parallelism"] + 1
    read = settings_of_flink(plant1.render("flink", "flink-conf.yaml.j2", "fw1"))
    assert needed <= int(read["taskmanager.numberOfTaskSlots"]) * 2


def test_its_prometheus_asks_every_host(plant1):
    read = yaml.safe_load(plant1.render("prometheus", "prometheus.yml.j2", "mon1"))
    asked = {
        about["labels"]["instance"]
        for scrape in read["scrape_configs"]
        for about in scrape["static_configs"]
    }
    assert asked == set(plant1.hostvars)


# One machine


def test_one_machine_keeps_one_copy_of_each_record_and_asks_for_no_more(single):
    node = properties(single.render("kafka", "server.properties.j2", "plant"))
    assert node["process.roles"] == "broker,controller"
    for setting in ("default", "offsets.topic", "transaction.state.log"):
        assert node[f"{setting}.replication.factor"] == "1"
    assert node["min.insync.replicas"] == node["transaction.state.log.min.isr"] == "1"
