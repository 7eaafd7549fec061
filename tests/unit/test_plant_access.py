"""plugins/filter/plant_access.py: each program may do what it does, and nothing else."""

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError

from plugins.filter import plant_access as access
from plugins.module_utils.kafka_acl_plan import Acl, plan_acls
from plugins.module_utils.kafka_quota_plan import LIMITS
from plugins.module_utils.kafka_user_plan import User, plan_users

ROOT = Path(__file__).resolve().parents[2]

PLANT = """\
plant:
  name: small
  machine_types:
    pump:
      window_s: 60
      slide_s: 10
      models: [anomaly]
      channels:
        pressure: {unit: bar, valid: [-1, 16]}
    fan:
      window_s: 30
      slide_s: 10
      channels:
        speed: {unit: 1/s, valid: [0, 100]}
  machines: []
"""


@pytest.fixture
def plant_file(tmp_path):
    file = tmp_path / "plant.yml"
    file.write_text(PLANT)
    return str(file)


def allowed(rules, user):
    """What a user may do, as `operation resource name`; a * stands for what follows a prefix."""
    return {
        f"{operation} {rule['resource']} {rule['name']}"
        + ("*" if rule["pattern"] == "prefixed" else "")
        for rule in rules
        for operation in rule["operations"]
        if rule["principal"] == f"User:{user}"
    }


def test_every_program_is_a_user_of_its_own(plant_file):
    assert access.plant_users(plant_file, {}) == [
        "plantline-anomaly-pump",
        "plantline-anomaly-_heartbeat",
        "plantline-clock",
        "plantline-registry",
        "plantline-exporter",
        "plantline-heartbeat",
    ]
    assert "plantline-anomaly-fan" in access.plant_users(plant_file, {"fan": "fan.onnx"})


def test_a_job_reads_its_own_readings_writes_results_and_finds_what_it_has_written(plant_file):
    assert allowed(access.plant_acls(plant_file, {}), "plantline-anomaly-pump") == {
        "read topic telemetry.pump",
        "read group plantline-anomaly-pump",
        "write topic predictions",
        "write topic alerts",
        "write topic dlq",
        "read topic predictions",
        "read topic dlq",
        "write transactional_id plantline-anomaly-pump-*",
    }


def test_a_job_that_rejects_unknown_machines_reads_which_are_known(tmp_path, plant_file):
    accepting = access.plant_acls(plant_file, {})
    rejecting = tmp_path / "rejecting.yml"
    rejecting.write_text(PLANT.replace("name: small", "name: small\n  unknown_machines: reject"))
    for job in ("plantline-anomaly-pump", "plantline-anomaly-_heartbeat"):
        more = allowed(access.plant_acls(str(rejecting), {}), job) - allowed(accepting, job)
        assert more == {"read topic machines"}


def test_the_programs_beside_the_jobs_have_what_they_use(plant_file):
    rules = access.plant_acls(plant_file, {})
    assert allowed(rules, "plantline-heartbeat") == {"write topic telemetry._heartbeat"}
    assert allowed(rules, "plantline-registry") == {
        "read topic machines",
        "write topic machines",
        "describe group plantline-tools",
    }
    # Also a topic that no job reads is shown; the heartbeat's is only measured.
    assert allowed(rules, "plantline-exporter") == {
        "read topic predictions",
        "read topic alerts",
        "read topic dlq",
        "read topic telemetry.pump",
        "read topic telemetry.fan",
        "describe topic telemetry._heartbeat",
        "describe group plantline-anomaly-pump",
        "describe group plantline-anomaly-_heartbeat",
        "describe group plantline-exporter",
    }
    assert allowed(rules, "plantline-clock") == {
        f"{operation} topic telemetry.{kind}"
        for operation in ("read", "write")
        for kind in ("pump", "_heartbeat")
    } | {"describe group plantline-clock"}


def test_a_plant_without_a_heartbeat_has_no_user_for_it(tmp_path):
    file = tmp_path / "plant.yml"
    file.write_text(PLANT.replace("  machines: []", "  heartbeat: false\n  machines: []"))
    assert not [user for user in access.plant_users(str(file), {}) if "heartbeat" in user]
    assert not [rule for rule in access.plant_acls(str(file), {}) if "heartbeat" in rule["name"]]


@pytest.mark.parametrize("plant", ["demo", "plant1", "single"])
def test_what_is_derived_can_be_declared(plant):
    file = str(ROOT / f"inventories/{plant}/group_vars/all/plant.yml")
    users = access.plant_users(file, {})
    assert not plan_users([User(user, "long enough") for user in users], {}, {}).refused
    rules = [
        Acl(rule["principal"], operation, rule["resource"], rule["name"], rule["pattern"])
        for rule in access.plant_acls(file, {})
        for operation in rule["operations"]
    ]
    assert not plan_acls(rules, [], []).refused
    assert {rule.principal for rule in rules} == {f"User:{user}" for user in users}
    for quota in access.plant_quotas(file, {}):
        assert quota.pop("user") in users
        assert set(quota) <= LIMITS


def test_rules_and_quotas_have_the_form_that_the_role_takes(plant_file):
    specs = yaml.safe_load((ROOT / "roles/kafka/meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    for rule in access.plant_acls(plant_file, {}):
        assert set(rule) <= set(options["kafka_acls"]["options"])
    for quota in access.plant_quotas(plant_file, {}):
        assert set(quota) <= set(options["kafka_quotas"]["options"])


def test_users_come_with_their_passwords_or_are_named_without():
    assert access.kafka_credentials(["a"], {"a": "x", "b": "y"}) == [{"name": "a", "password": "x"}]
    with pytest.raises(AnsibleFilterError, match=r"users b, c have no password.*make secrets"):
        access.kafka_credentials(["c", "a", "b"], {"a": "x"})


def test_a_faulty_plant_model_is_told(tmp_path):
    file = tmp_path / "plant.yml"
    file.write_text("plant: {}\n")
    with pytest.raises(AnsibleFilterError, match="faults"):
        access.plant_users(str(file), {})
