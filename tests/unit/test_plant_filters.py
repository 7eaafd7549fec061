"""plugins/filter/plant.py: from the path of plant.yml to what the roles and modules take."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from flink_jobs import plant as plant_model
from flink_jobs.jobs import anomaly_sql
from flink_jobs.model import Detector

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "inventories/demo/group_vars/all/plant.yml"
spec = importlib.util.spec_from_file_location("plant_filters", ROOT / "plugins/filter/plant.py")
assert spec is not None and spec.loader is not None
filters = importlib.util.module_from_spec(spec)
spec.loader.exec_module(filters)

TWO_TYPES = """\
plant:
  name: small
  machine_types:
    pump:
      window_s: 60
      slide_s: 10
      partitions: 4
      channels:
        pressure: {unit: bar, valid: [-1, 16]}
    fan:
      window_s: 30
      slide_s: 10
      partitions: 2
      channels:
        speed: {unit: 1/s, valid: [0, 100]}
  machines: []
"""
SERVERS = "a:9092,b:9092"


@pytest.fixture
def plant_file(tmp_path):
    file = tmp_path / "plant.yml"
    file.write_text(TWO_TYPES)
    return str(file)


@pytest.fixture
def models(tmp_path):
    for kind in ("pump", "fan"):
        (tmp_path / f"{kind}.onnx").touch()
    return {kind: str(tmp_path / f"{kind}.onnx") for kind in ("pump", "fan")}


def options_of(role, option):
    """What the role takes in each entry of an option."""
    specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())
    return specs["argument_specs"]["main"]["options"][option]["options"]


def test_there_is_one_job_for_each_type_with_a_model(plant_file, models):
    *jobs, heartbeat = filters.plant_jobs(plant_file, SERVERS, models, 2)
    assert [job["name"] for job in jobs] == ["plantline-anomaly-fan", "plantline-anomaly-pump"]
    assert [job["files"] for job in jobs] == [[models["fan"]], [models["pump"]]]
    assert {job["parallelism"] for job in jobs} == {2}
    del models["fan"]
    assert len(filters.plant_jobs(plant_file, SERVERS, models, 2)) == 2
    assert filters.plant_jobs(plant_file, SERVERS, {}, 2) == [heartbeat]


def test_a_job_logs_in_by_its_own_name_and_its_settings_hold_no_secret(plant_file, models):
    for job in filters.plant_jobs(plant_file, SERVERS, models, 2, security=True):
        settings = job["config"]["kafka"]
        assert settings["bootstrap.servers"] == SERVERS
        assert settings["security.protocol"] == "SASL_SSL"
        # Kafka's client puts the value in from a file on the host.
        login = f"/etc/plantline/flink/kafka/{job['name']}.properties"
        assert settings["sasl.jaas.config"] == f"${{file:{login}:sasl.jaas.config}}"
        assert login.startswith(settings["config.providers.file.param.allowed.paths"] + "/")


def test_without_security_a_job_only_knows_the_brokers(plant_file, models):
    for job in filters.plant_jobs(plant_file, SERVERS, models, 2):
        assert job["config"]["kafka"] == {"bootstrap.servers": SERVERS}


def test_the_heartbeat_has_a_job_of_its_own_with_a_model_that_every_plant_has(plant_file):
    [job] = filters.plant_jobs(plant_file, SERVERS, {}, 2)
    assert job["name"] == "plantline-anomaly-_heartbeat"
    assert job["config"]["telemetry_topic"] == "telemetry._heartbeat"
    [topic] = [t for t in filters.plant_topics(plant_file) if t["name"] == "telemetry._heartbeat"]
    assert job["parallelism"] == topic["partitions"] == 1
    [model] = job["files"]
    assert list(Detector.load(Path(model)).channels) == [
        channel["name"] for channel in job["config"]["channels"]
    ]


def test_a_plant_may_go_without_a_heartbeat(plant_file):
    text = Path(plant_file).read_text()
    Path(plant_file).write_text(
        text.replace("  name: small\n", "  name: small\n  heartbeat: false\n")
    )
    assert filters.plant_jobs(plant_file, SERVERS, {}, 2) == []
    assert "_heartbeat" not in filters.plant_channels(plant_file)


def test_the_exporter_watches_every_type_and_the_group_of_every_job(plant_file, models):
    channels = filters.plant_channels(plant_file)
    assert channels == {"pump": ["pressure"], "fan": ["speed"], "_heartbeat": ["beat"]}
    groups = filters.plant_groups(plant_file, {"fan": models["fan"]})
    assert groups == {
        "plantline-anomaly-fan": "telemetry.fan",
        "plantline-anomaly-_heartbeat": "telemetry._heartbeat",
    }
    # A job's group is its name, as it tells its stream.
    for job in filters.plant_jobs(plant_file, SERVERS, {"fan": models["fan"]}, 1):
        settings = json.loads(anomaly_sql.stream_settings(job["config"]))
        assert settings["group"] == job["name"]
        assert settings["topic"] == groups[job["name"]]


def test_a_type_that_names_its_kind_of_model_needs_no_entry_in_plant_models(
    plant_file, models, tmp_path, monkeypatch
):
    monkeypatch.setattr(filters, "ROOT", tmp_path)
    scored = "slide_s: 10\n      models: [anomaly]\n      partitions: 2"
    Path(plant_file).write_text(TWO_TYPES.replace("slide_s: 10\n      partitions: 2", scored))
    with pytest.raises(AnsibleFilterError, match=r"out/models/fan-anomaly\.onnx"):
        filters.plant_jobs(plant_file, SERVERS, {}, 2)
    usual = tmp_path / "out" / "models" / "fan-anomaly.onnx"
    usual.parent.mkdir(parents=True)
    usual.touch()

    def files(given):
        jobs = filters.plant_jobs(plant_file, SERVERS, given, 2)
        return {job["config"]["machine_type"]: job["files"] for job in jobs}

    assert files({})["fan"] == [str(usual)]
    assert "pump" not in files({})
    assert files(models)["fan"] == [models["fan"]]


def test_a_job_reads_its_model_where_the_role_puts_it(plant_file, models):
    role = yaml.safe_load((ROOT / "roles/flink_jobs/vars/main.yml").read_text())
    for job in filters.plant_jobs(plant_file, SERVERS, models, 2):
        [file] = job["files"]
        assert job["config"]["model_file"] == f"{role['__flink_jobs_models']}/{Path(file).name}"


def test_a_job_is_one_that_the_role_takes(plant_file, models):
    known = options_of("flink_jobs", "flink_jobs_declared")
    required = {name for name, about in known.items() if about.get("required")}
    for job in filters.plant_jobs(plant_file, SERVERS, models, 2):
        assert required <= set(job) <= set(known)
        assert importlib.util.find_spec(job["module"].rpartition(".")[0])
        assert json.loads(json.dumps(job)) == job


def test_a_jobs_configuration_is_all_that_it_needs(plant_file, models):
    for job in filters.plant_jobs(plant_file, SERVERS, models, 2):
        definitions, inserts = anomaly_sql.statements(job["config"], "m", "1", 1.0)
        assert f"'{SERVERS}'" in "\n".join(definitions)
        assert f"'kafka:{job['config']['telemetry_topic']}/'" in "\n".join(inserts)
        settings = json.loads(anomaly_sql.stream_settings(job["config"]))
        assert settings["kafka"]["bootstrap.servers"] == SERVERS


def test_state_is_given_up_only_for_what_shapes_it(plant_file, models, tmp_path):
    def versions(text, servers=SERVERS):
        (tmp_path / "plant.yml").write_text(text)
        return {
            job["name"]: job["state_version"]
            for job in filters.plant_jobs(plant_file, servers, models, 2)
        }

    before = versions(TWO_TYPES)
    assert versions(TWO_TYPES, servers="c:9092") == before
    longer = versions(TWO_TYPES.replace("window_s: 60", "window_s: 120"))
    assert [name for name in before if longer[name] != before[name]] == ["plantline-anomaly-pump"]


def test_a_relative_model_lies_in_the_project_wherever_ansible_was_started(
    plant_file, tmp_path, monkeypatch
):
    monkeypatch.setattr(filters, "ROOT", tmp_path)
    (tmp_path / "fan.onnx").touch()
    [job, _] = filters.plant_jobs(plant_file, SERVERS, {"fan": "fan.onnx"}, 1)
    assert job["files"] == [str(tmp_path / "fan.onnx")]


def test_topics_are_those_of_the_plant_model_in_the_form_of_the_module(plant_file):
    declared = filters.plant_topics(plant_file)
    partitions = {topic["name"]: topic["partitions"] for topic in declared}
    assert partitions["telemetry.pump"] == 4
    assert partitions["telemetry.fan"] == 2
    assert len(partitions) == len(declared)
    known = options_of("kafka", "kafka_topics")
    for topic in declared:
        assert set(topic) <= set(known)
        assert all(isinstance(value, str) for value in topic["config"].values())


def test_machines_are_the_registrations_of_the_plant_model():
    expected = plant_model.registrations(plant_model.load_plant(DEMO))
    assert filters.plant_machines(str(DEMO)) == expected != []


def test_a_model_for_an_unknown_type_is_refused(plant_file, models):
    with pytest.raises(AnsibleFilterError) as caught:
        filters.plant_jobs(plant_file, SERVERS, {"pmup": models["pump"]}, 2)
    for part in ("plant_models", "pmup", plant_file, "['fan', 'pump']"):
        assert part in str(caught.value)


def test_more_readers_than_partitions_are_refused(plant_file, models):
    with pytest.raises(AnsibleFilterError) as caught:
        filters.plant_jobs(plant_file, SERVERS, models, 3)
    for part in ("plant_jobs_parallelism is 3", "['fan']", f"partitions in {plant_file}"):
        assert part in str(caught.value)
    assert filters.plant_jobs(plant_file, SERVERS, {"pump": models["pump"]}, 3)


def test_a_missing_model_names_the_command_that_makes_it(plant_file, tmp_path):
    missing = tmp_path / "none.onnx"
    with pytest.raises(AnsibleFilterError) as caught:
        filters.plant_jobs(plant_file, SERVERS, {"pump": str(missing)}, 2)
    for part in ("'pump'", f"tools.train --type pump … --out {missing}"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["plant_topics", "plant_machines", "plant_jobs"])
def test_every_filter_tells_all_faults_of_the_plant_model(name, plant_file, tmp_path):
    (tmp_path / "plant.yml").write_text(
        TWO_TYPES.replace("slide_s: 10", "slide_s: 7").replace("name: small", "name: Small")
    )
    rest = (SERVERS, {}, 2) if name == "plant_jobs" else ()
    with pytest.raises(AnsibleFilterError) as caught:
        filters.FilterModule().filters()[name](plant_file, *rest)
    for line in (2, 6, 12):
        assert f"{plant_file}:{line}: " in str(caught.value)
