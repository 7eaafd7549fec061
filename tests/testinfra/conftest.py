"""The plant under test: an inventory, and its hosts by role. Run by playbooks/verify.yml."""

import json
import subprocess

import pytest
import testinfra


def pytest_addoption(parser):
    parser.addoption("--plant-inventory", default="inventories/demo")


def groups(inventory):
    listing = subprocess.run(
        ["ansible-inventory", "-i", inventory, "--list"], capture_output=True, check=True, text=True
    )
    content = json.loads(listing.stdout)

    def members(group):
        found = set(content.get(group, {}).get("hosts", []))
        for child in content.get(group, {}).get("children", []):
            found |= members(child)
        return found

    return {group: sorted(members(group)) for group in content if group != "_meta"}


@pytest.fixture(scope="session")
def inventory(request):
    return request.config.getoption("--plant-inventory")


@pytest.fixture(scope="session")
def plant(inventory):
    """Hosts by group."""
    return groups(inventory)


@pytest.fixture(scope="session")
def on(inventory):
    """A host by name, over the same connection that Ansible uses."""
    return lambda name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory)
