"""No secret of the plant is shown to anybody whom it does not concern.

Those looked for are the ones that the plant works with, each as it is and inside base64.
"""

import json
import shutil
import sys
import tarfile

import pytest
import yaml
from canary import look, shown
from conftest import INVENTORY, ROOT, asked, note, on, recap_of, run
from tls import page, trusting

HOSTS = ["node1", "node2", "node3"]
PKI = "/etc/plantline/pki"
VAULT = ("group_vars", "all", "vault.yml")
TOOL = (sys.executable, "tools/vault.py")


def opened(vault):
    """The values in an encrypted file."""
    values = yaml.safe_load(run("ansible-vault", "view", vault).stdout)
    users = values.pop("vault_kafka_passwords")
    return [*values.values(), *users.values()]


def private(key):
    """A line of a key in PEM that no other key has: their beginnings are alike."""
    return key.splitlines()[2]


@pytest.fixture(scope="module")
def passwords(plant):
    return opened(ROOT.joinpath(INVENTORY, *VAULT))


@pytest.fixture(scope="module")
def keys(plant):
    """By host, the keys of its certificates."""
    found = {host: on(host, f"cat {PKI}/*/key.pem") for host in HOSTS}
    begin = "-----BEGIN"
    return {
        host: [private(begin + key) for key in text.split(begin)[1:]]
        for host, text in found.items()
    }


@pytest.fixture(scope="module")
def at_home(pki):
    """What never leaves the control node: keys of the CA and the operator, the vault's password."""
    ca = run("ansible-vault", "decrypt", "--output", "-", ROOT / INVENTORY / "pki/ca/ca.key").stdout
    operator = (pki / "operator" / "key.pem").read_text()
    return [private(ca), private(operator), run("tools/vault_password.py").stdout.strip()]


@pytest.fixture(scope="module")
def secrets(passwords, keys, at_home):
    found = [*passwords, *at_home, *(key for of_host in keys.values() for key in of_host)]
    assert len(found) >= 3 * len(HOSTS)
    assert min(map(len, found)) >= 20
    return found


def shows(texts, secrets):
    """The names of the texts that show a secret."""
    return [name for name, text in texts.items() if shown(secrets, text)]


# Runs


def texts_of(result):
    return {"output": result.stdout, "errors": result.stderr}


def test_a_run_shows_no_secret(secrets, again):
    assert shows(texts_of(again), secrets) == []
    note(f"canary: {len(secrets)} secrets not in {len(again.stdout) / 1e6:.1f} MB of a run")


def test_a_run_that_would_change_every_password_shows_neither_the_old_nor_the_new(
    secrets, tmp_path
):
    copy = tmp_path / INVENTORY.name
    shutil.copytree(ROOT / INVENTORY, copy)
    for name in run(*TOOL, "list", copy).stdout.split():
        run(*TOOL, "rotate", copy, name)
    vault = copy.joinpath(*VAULT)
    verbose = ("-vvv", "--diff", "--check", "-e", f"@{vault}")
    result = run("ansible-playbook", "site.yml", "-i", INVENTORY, *verbose)
    assert shows(texts_of(result), [*secrets, *opened(vault)]) == []
    assert any(counts["changed"] for counts in recap_of(result.stdout).values())


# Hosts


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_keeps_its_own_secrets_for_their_readers(passwords, keys, host):
    open_to_all, kept = asked(host, look, secrets=[*passwords, *keys[host]])
    assert open_to_all == []
    assert [file for file in kept if not file.startswith("/etc/plantline/")] == []
    # It is able to find them.
    assert f"{PKI}/kafka/key.pem" in kept
    assert any(file.startswith("/etc/plantline/flink/kafka/") for file in kept)


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_has_no_secret_of_another_one_or_of_the_control_node(keys, at_home, host):
    others = [key for other in HOSTS if other != host for key in keys[other]]
    assert asked(host, look, secrets=[*others, *at_home]) == [[], []]


# Pages


def test_no_page_shows_a_secret(settings, ca, operator, secrets):
    def get(host, port, path):
        address = settings.value(host, "ansible_host")
        status, body = page(address, port, path, trusting(ca, operator))
        assert status == 200, path
        return body

    jobs = json.loads(get("node1", 8081, "/jobs/overview"))["jobs"]
    assert jobs
    parts = ("", "/config", "/plan", "/exceptions", "/checkpoints/config")
    places = [
        *(("node1", 8081, f"/jobs/{job['jid']}{part}") for job in jobs for part in parts),
        *(("node1", 8081, f"/jobmanager/{part}") for part in ("config", "environment", "logs")),
        *(("node3", 9090, f"/api/v1/status/{part}") for part in ("config", "flags")),
        ("node3", 9090, "/api/v1/targets"),
        ("node3", 9095, "/api/v2/status"),
    ]
    assert shows({place: get(*place) for place in places}, secrets) == []


# The support bundle


def test_the_support_bundle_shows_no_secret(plant, secrets, tmp_path):
    run(sys.executable, "-m", "ops", "collect", "--inventory", INVENTORY, "--out", tmp_path)
    (file,) = tmp_path.iterdir()
    with tarfile.open(file) as tar:
        texts = {
            entry.name: tar.extractfile(entry).read().decode(errors="replace") for entry in tar
        }
    assert len(texts) > 10 * len(HOSTS)
    assert shows(texts, secrets) == []
