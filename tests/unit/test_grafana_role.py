"""What role grafana would write: closed to strangers, silent to the world, and fitting together.

tests/live/test_36_grafana.py runs it on a host.
"""

import configparser
import re

import pytest
from test_roles import DEMO, ROOT, Plant

from grafana import kit
from tests import dashboards

HOST = "node3"
GIVEN = "a-password-from-the-vault"


@pytest.fixture(scope="module")
def plant():
    return Plant(DEMO)


@pytest.fixture(scope="module")
def settings(plant):
    parser = configparser.ConfigParser(interpolation=None)
    text = plant.render("grafana", "grafana.ini.j2", HOST, grafana_admin_password=GIVEN)
    parser.read_string(text.removeprefix("; Ansible managed\n"))
    return parser


def test_nobody_gets_in_without_a_password(settings):
    assert not settings.getboolean("auth.anonymous", "enabled")
    assert not settings.getboolean("users", "allow_sign_up")
    assert not settings.getboolean("users", "allow_org_create")
    assert not settings.getboolean("snapshots", "enabled")
    assert not settings.getboolean("public_dashboards", "enabled")


def test_secrets_are_in_files_of_their_own(settings):
    for name in ("admin_password", "secret_key"):
        assert re.fullmatch(
            r"\$__file\{/etc/plantline/grafana/[a-z-]+\}", settings["security"][name]
        )
    assert GIVEN not in str({section: dict(settings[section]) for section in settings})


def test_nothing_is_asked_of_or_told_to_the_world(settings):
    assert not any(settings.getboolean("analytics", name) for name in settings["analytics"])
    assert not settings.getboolean("news", "news_feed_enabled")
    assert not settings.getboolean("plugins", "plugin_admin_enabled")
    assert settings.getboolean("plugins", "preinstall_disabled")
    assert settings.getboolean("plugins", "public_key_retrieval_disabled")
    assert settings.getboolean("security", "disable_gravatar")


def test_it_opens_with_the_overview_which_is_there(settings):
    home = settings["dashboards"]["default_home_dashboard_path"]
    assert home.rpartition("/")[2].removesuffix(".json") in dashboards.NAMES


def test_dashboards_ask_the_data_source_that_is_provisioned(plant):
    prometheus, alertmanager = plant.value("grafana", "__grafana_datasources", HOST)
    assert (prometheus["type"], prometheus["uid"]) == (
        kit.DATASOURCE.type_val,
        kit.DATASOURCE.uid,
    )
    assert prometheus["isDefault"]
    assert prometheus["jsonData"]["alertmanagerUid"] == alertmanager["uid"]
    # Grafana takes rates over at least four scrapes: it has to know how far apart they are.
    scrape_s = plant.hostvars[HOST]["prometheus_scrape_interval_s"]
    assert prometheus["jsonData"]["timeInterval"] == f"{scrape_s}s"


@pytest.mark.parametrize(
    ("manifest", "there"),
    [
        ('{"artifacts": {"grafana": {"file": "g.tgz"}}}', True),
        ('{"artifacts": {"kafka": {"file": "k.tgz"}}}', False),
        (None, False),
    ],
)
def test_it_is_installed_only_where_the_depot_has_it(plant, tmp_path, manifest, there):
    if manifest:
        (tmp_path / "manifest.json").write_text(manifest)
    found = plant.value("grafana", "__grafana_is_there", HOST, artifact_depot_dir=str(tmp_path))
    assert found is there


def test_its_unit_writes_only_where_its_data_is(plant):
    unit = plant.render("grafana", "grafana.service.j2", HOST)
    assert "ProtectSystem=strict" in unit
    assert "StateDirectory=grafana" in unit
    assert "ReadWritePaths" not in unit
    assert plant.value("grafana", "__grafana_data", HOST) == "/var/lib/grafana"


def test_the_dashboards_that_are_copied_are_the_committed_ones(plant):
    folder = plant.value("grafana", "__grafana_dashboards", HOST)
    assert (ROOT / "roles" / "grafana" / folder).resolve() == dashboards.FOLDER
