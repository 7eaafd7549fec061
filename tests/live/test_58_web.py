"""The pages and interfaces of Flink, Prometheus and Alertmanager are for the operator alone."""

import base64
import json

import pytest
from authority import Authority
from tls import page, trusting

# (host, port, path): what tells of the plant, and what a stranger would do to it.
SERVED = {
    "Flink": ("node1", 8081, "/jobs/overview"),
    "Flink's settings": ("node1", 8081, "/jobmanager/config"),
    "Prometheus": ("node3", 9090, "/api/v1/status/config"),
    "Alertmanager": ("node3", 9095, "/api/v2/status"),
}
PASSWORD = base64.b64encode(b"admin:battery-staple").decode()


@pytest.fixture(params=SERVED)
def place(request, settings):
    host, port, path = SERVED[request.param]
    return settings.value(host, "ansible_host"), port, path


def test_the_operator_is_served(place, ca, operator):
    status, body = page(*place, trusting(ca, operator))
    assert status == 200
    assert json.loads(body)


def test_plaintext_is_not_answered(place):
    assert page(*place)[0] != 200


def test_who_has_no_certificate_is_refused(place, ca):
    assert page(*place, trusting(ca)) == (0, "")


@pytest.mark.parametrize("scheme", [f"Basic {PASSWORD}", "Bearer battery-staple"])
def test_a_password_opens_nothing(place, ca, scheme):
    assert page(*place, trusting(ca), {"Authorization": scheme}) == (0, "")


def test_an_expired_certificate_is_refused(place, ca, authority, tmp_path):
    assert page(*place, trusting(ca, authority.bundle("operator", tmp_path)))[0] == 200
    expired = authority.bundle("operator", tmp_path, expired=True)
    assert page(*place, trusting(ca, expired)) == (0, "")


def test_a_certificate_of_another_ca_is_refused(place, ca, tmp_path):
    stranger = Authority.another().bundle("operator", tmp_path)
    assert page(*place, trusting(ca, stranger)) == (0, "")
