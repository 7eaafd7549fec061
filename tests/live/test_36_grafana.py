"""Role grafana on the monitoring host, with a stand-in where the depot has no Grafana.

What is asked here holds for both; fake_grafana.py says what the stand-in is good for.
"""

import hashlib
import json
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml
from conftest import INVENTORY, ROOT, on, playbook, run

HOST = "node3"
ETC = "/etc/plantline/grafana"
CA = "/etc/plantline/pki/ca.pem"
URL = "https://localhost:3000"
FAKE = Path(__file__).with_name("fake_grafana.py")


@pytest.fixture(scope="module")
def depot(tmp_path_factory):
    """The depot, with a stand-in added if it has no Grafana; archives are linked, not copied."""
    real = ROOT / "depot"
    manifest = json.loads((real / "manifest.json").read_text())
    if "grafana" in manifest["artifacts"]:
        return real
    folder = tmp_path_factory.mktemp("depot")
    for path in real.glob("*.tar"):
        (folder / path.name).symlink_to(path)
    archive = folder / "grafana-0.tar"
    with tarfile.open(archive, "w") as tar:
        program = tar.gettarinfo(FAKE, "grafana-v0/bin/grafana")
        program.mode = 0o755
        with FAKE.open("rb") as content:
            tar.addfile(program, content)
    digest = hashlib.sha512(archive.read_bytes()).hexdigest()
    manifest["artifacts"]["grafana"] = {"file": archive.name, "sha512": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def apply(depot, *more):
    _, recap = playbook(
        "playbooks/monitoring.yml", "--tags", "grafana", "-e", f"artifact_depot_dir={depot}", *more
    )
    return recap[HOST]


@pytest.fixture(scope="module")
def grafana(plant, depot):
    dry = apply(depot, "--check", "--diff")
    assert dry["failed"] == 0, "a dry run on a host without Grafana"
    yield apply(depot)
    if depot != ROOT / "depot":
        on(
            HOST,
            "systemctl disable --now grafana;"
            f" rm -rf {ETC} /var/lib/grafana /opt/plantline/grafana"
            " /etc/systemd/system/grafana.service; systemctl daemon-reload",
        )


def status_of_login(password):
    ask = f"curl -s --cacert {CA} -o /dev/null -w '%{{http_code}}'"
    return on(HOST, f"{ask} -u 'admin:{password}' {URL}/api/user")


def test_it_answers_and_a_second_run_changes_nothing(grafana, depot):
    assert json.loads(on(HOST, f"curl -fsS --cacert {CA} {URL}/api/health"))["database"] == "ok"
    assert apply(depot)["changed"] == 0


def test_only_grafana_and_root_read_its_secrets(grafana):
    for name in ("admin-password", "secret-key"):
        assert on(HOST, f"stat -c '%a %U %G' {ETC}/{name}") == "640 root grafana"
    for name in ("admin-password", "secret-key"):
        assert on(HOST, f"runuser -u nobody -- cat {ETC}/{name} 2>/dev/null || echo no") == "no"


def test_the_admins_password_is_the_inventorys_also_when_it_changes(grafana, depot):
    assert status_of_login("admin") == "401"
    assert status_of_login("a-password-from-the-vault") == "401"
    apply(depot, "-e", "grafana_admin_password=a-password-from-the-vault")
    assert status_of_login("a-password-from-the-vault") == "200"
    assert apply(depot)["changed"] == 2, "the file, and Grafana's database"
    assert status_of_login("a-password-from-the-vault") == "401"


def test_it_is_given_every_dashboard_and_loses_those_that_are_no_more(grafana, depot):
    committed = sorted(path.name for path in (ROOT / "grafana" / "json").glob("*.json"))
    on(HOST, f"touch {ETC}/dashboards/gone.json")
    assert apply(depot)["changed"] == 1
    assert on(HOST, f"ls {ETC}/dashboards").split() == committed
    assert json.loads(on(HOST, f"cat {ETC}/dashboards/plantline-overview.json")) == json.loads(
        (ROOT / "grafana" / "json" / "plantline-overview.json").read_text("utf-8")
    )


def test_its_data_sources_are_where_they_are_said_to_be(grafana):
    provisioned = yaml.safe_load(on(HOST, f"cat {ETC}/provisioning/datasources/plantline.yml"))
    prometheus, alertmanager = provisioned["datasources"]
    for source in (prometheus, alertmanager):
        ca, certificate, key = (
            source["secureJsonData"][name].removeprefix("$__file{").removesuffix("}")
            for name in ("tlsCACert", "tlsClientCert", "tlsClientKey")
        )
        who = f"--cacert {ca} --cert {certificate} --key {key}"
        assert on(HOST, f"runuser -u grafana -- curl -fsS {who} {source['url']}/-/ready")


def test_without_a_password_it_is_not_installed_and_the_error_names_the_remedy(grafana, depot):
    result = run(
        *("ansible-playbook", "playbooks/monitoring.yml", "-i", INVENTORY),
        *("--tags", "grafana", "-e", f"artifact_depot_dir={depot}"),
        *("-e", '{"grafana_admin_password": ""}'),
        check=False,
    )
    assert result.returncode != 0
    assert "grafana_admin_password must be given for node3" in result.stdout


def test_without_grafana_in_the_depot_one_line_says_so_and_the_run_goes_on(plant, tmp_path):
    shutil.copy(ROOT / "depot" / "manifest.json", tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    manifest["artifacts"].pop("grafana", None)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    result = run(
        *("ansible-playbook", "playbooks/monitoring.yml", "-i", INVENTORY),
        *("--tags", "grafana", "-e", f"artifact_depot_dir={tmp_path}"),
    )
    assert result.stdout.count("Grafana is not installed, because the depot has none") == 1
    assert "changed=0" in result.stdout.split("PLAY RECAP")[1]
