"""The secrets of a plant: made, rotated, and encrypted anew, also where that is interrupted."""

import importlib.util
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))

import vault  # noqa: E402 - found by the path above
import vault_password  # noqa: E402 - found by the path above

PUMP = "plantline-anomaly-pump"


@pytest.fixture
def numbered():
    """Secrets that tell one from another."""
    numbers = iter(range(100))
    return lambda: f"secret-{next(numbers)}"


# What is made


def test_all_that_is_missing_is_made(numbered):
    values = vault.completed({}, [PUMP, "plantline-clock"], numbered)
    assert vault.names(values) == [
        "vault_grafana_admin_password",
        f"vault_kafka_passwords.{PUMP}",
        "vault_kafka_passwords.plantline-clock",
        "vault_metrics_password",
    ]
    assert len({*values["vault_kafka_passwords"].values()}) == 2


def test_what_is_there_stays(numbered):
    present = {"mine": [1], "vault_kafka_passwords": {PUMP: "kept", "gone": "kept too"}}
    values = vault.completed(present, [PUMP, "new"], numbered)
    assert values["mine"] == [1]
    assert values["vault_kafka_passwords"].items() >= present["vault_kafka_passwords"].items()
    assert vault.completed(values, [PUMP, "new"], numbered) == values


def test_a_value_of_another_kind_is_told(numbered):
    with pytest.raises(vault.VaultError, match="vault_kafka_passwords must be"):
        vault.completed({"vault_kafka_passwords": "one for all"}, [PUMP], numbered)


def test_one_is_rotated_and_no_other(numbered):
    before = vault.completed({}, [PUMP, "plantline-clock"], numbered)
    after = vault.rotated(before, f"vault_kafka_passwords.{PUMP}", numbered)
    changed = {
        user
        for user, password in after["vault_kafka_passwords"].items()
        if password != before["vault_kafka_passwords"][user]
    }
    assert changed == {PUMP}
    assert after["vault_grafana_admin_password"] == before["vault_grafana_admin_password"]


@pytest.mark.parametrize("name", ["vault_kafka_passwords", "vault_kafka_passwords.nobody", "x"])
def test_a_name_that_is_none_is_told_with_those_that_are(numbered, name):
    values = vault.completed({}, [PUMP], numbered)
    with pytest.raises(vault.VaultError, match=f"vault_kafka_passwords.{PUMP}"):
        vault.rotated(values, name, numbered)


def test_secrets_differ_and_hold_nothing_that_needs_quoting():
    made = {vault.new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 32 and one.isalnum() and one.isascii() for one in made)


# On the command line, with Ansible's own library


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """An inventory with a plant model, and a password of its own."""
    password = tmp_path / "password"
    password.write_text("first\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(password))
    variables = tmp_path / "plant" / "group_vars" / "all"
    variables.mkdir(parents=True)
    (tmp_path / "plant" / "hosts.yml").write_text("all: {hosts: {node1: {}}}\n")
    model = ROOT / "inventories" / "demo" / "group_vars" / "all" / "plant.yml"
    (variables / "plant.yml").write_text(model.read_text())
    (variables / "kafka.yml").write_text("kafka_users: [historian]\nplant_models: {pump: m.onnx}\n")
    return tmp_path / "plant"


def tool(*arguments):
    command = [sys.executable, ROOT / "tools" / "vault.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def opened(file, password):
    library = VaultLib([("default", VaultSecret(password.encode()))])
    return library.decrypt(file.read_bytes()).decode()


def test_a_plant_gets_its_secrets_once(plant):
    first = tool("make", plant)
    assert first.returncode == 0, first.stderr
    file = plant / vault.FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    assert before.startswith(b"$ANSIBLE_VAULT;")
    text = opened(file, "first")
    for user in (PUMP, "plantline-clock", "plantline-exporter", "historian"):
        assert f"  {user}: " in text
    again = tool("make", plant)
    assert again.returncode == 0, again.stderr
    assert file.read_bytes() == before
    secrets = [line.split(": ")[1] for line in text.splitlines() if line.startswith("  ")]
    told = first.stdout + first.stderr + again.stdout + tool("list", plant).stdout
    assert len(secrets) > 4
    assert not [one for one in secrets if one in told]


def test_a_file_that_is_not_encrypted_is_not_replaced(plant):
    file = plant / vault.FILE
    file.write_text("mine: 1\n")
    done = tool("make", plant)
    assert done.returncode == 1
    assert "ansible-vault encrypt" in done.stderr
    assert file.read_text() == "mine: 1\n"


def test_a_wrong_password_replaces_nothing(plant):
    tool("make", plant)
    before = (plant / vault.FILE).read_bytes()
    (plant.parent / "password").write_text("wrong\n")
    for command in (["make", plant], ["rotate", plant, "vault_grafana_admin_password"]):
        done = tool(*command)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
    assert (plant / vault.FILE).read_bytes() == before


# Another vault password


@pytest.fixture
def locked(tmp_path):
    """A password's file, and three files encrypted with it."""
    password = tmp_path / "vault-password"
    password.write_text("first\n")
    library = VaultLib([("default", VaultSecret(b"first"))])
    files = [tmp_path / name for name in ("vault.yml", "ca.key", "next.key")]
    for file in files:
        file.write_bytes(library.encrypt(file.name.encode(), VaultSecret(b"first")))
    return password, files


def all_open(password, files):
    return [opened(file, password.read_text().strip()) for file in files]


def test_another_password_opens_all_and_the_first_none(locked):
    password, files = locked
    vault.change_password(password, files)
    assert password.read_text() != "first\n"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert all_open(password, files) == [file.name for file in files]
    for file in files:
        with pytest.raises(Exception, match=r"[Dd]ecryption failed"):
            opened(file, "first")


@pytest.mark.parametrize("at", range(5))
def test_an_interrupted_change_of_password_goes_on(locked, monkeypatch, at):
    password, files = locked
    steps = 0
    replace = Path.replace

    def dies(self, target):
        nonlocal steps
        if steps == at:
            raise KeyboardInterrupt
        steps += 1
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        vault.change_password(password, files)
    monkeypatch.undo()
    vault.change_password(password, files)
    assert all_open(password, files) == [file.name for file in files]
    assert sorted(path.name for path in password.parent.iterdir()) == sorted(
        path.name for path in [password, *files]
    )


def test_a_file_with_a_third_password_keeps_all_as_they_are(locked):
    password, files = locked
    stranger = VaultSecret(b"third")
    files[2].write_bytes(VaultLib([("default", stranger)]).encrypt(b"x", stranger))
    before = [file.read_bytes() for file in files]
    with pytest.raises(vault.VaultError, match=r"next\.key is encrypted with another password"):
        vault.change_password(password, files)
    assert [file.read_bytes() for file in files] == before
    assert password.read_text() == "first\n"


# Where the password comes from


def test_the_password_is_made_once_and_for_its_owner_only(tmp_path):
    first = vault_password.password(tmp_path)
    assert vault_password.password(tmp_path) == first
    assert len(first) > 40
    assert stat.S_IMODE((tmp_path / "out" / "vault-password").stat().st_mode) == 0o600


def test_no_password_is_made_where_files_need_another(tmp_path):
    file = tmp_path / "inventories" / "plant1" / "group_vars" / "all" / "vault.yml"
    file.parent.mkdir(parents=True)
    file.write_text("$ANSIBLE_VAULT;1.1;AES256\n00\n")
    with pytest.raises(vault_password.NoPasswordError, match=r"plant1/.*vault\.yml is encrypted"):
        vault_password.password(tmp_path)
    assert not (tmp_path / "out").exists()


def test_while_a_change_is_interrupted_nobody_gets_the_old_password(tmp_path):
    vault_password.password(tmp_path)
    vault_password.successor(tmp_path / "out" / "vault-password").touch()
    with pytest.raises(vault_password.NoPasswordError, match=r"vault\.py rekey"):
        vault_password.password(tmp_path)


def test_no_tool_hides_a_module_of_python():
    """A script's own folder comes first when Python looks for modules."""
    named = {path.stem for path in (ROOT / "tools").glob("*.py")}
    assert not named & set(sys.stdlib_module_names)
    assert importlib.util.find_spec("secrets").origin != str(ROOT / "tools" / "secrets.py")
