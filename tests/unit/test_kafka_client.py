"""Modules on a Kafka host connect with the host's own certificate, or say why they cannot."""

import sys
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from plugins.module_utils import kafka_roller
from plugins.module_utils.pki_authority import new_ca
from plugins.module_utils.pki_certificates import pem

# The name that Ansible gives it where it packs a module.
sys.modules.setdefault("ansible.module_utils.kafka_roller", kafka_roller)

from plugins.module_utils.kafka_client import (  # noqa: E402 - needs the name above
    TLS_OPTION,
    NotAnsweringError,
    Tls,
    _security,
    admin,
    tls_of,
)

SERVERS = "127.0.0.1:1"


def test_without_files_a_module_connects_in_plaintext():
    assert tls_of(None) is None


def test_what_a_task_gives_is_what_the_client_takes():
    given = {"ca": "/pki/ca.pem", "certificate": "/pki/kafka/bundle.pem"}
    assert set(given) == set(TLS_OPTION["options"])
    assert tls_of(given) == Tls(**given)


@pytest.mark.parametrize("broken", ["ca", "certificate"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_files_that_are_no_certificates_are_named_before_any_broker_is_asked(
    tmp_path, broken, content
):
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "certificate")}
    certificate, key = new_ca("small", datetime.now(UTC), timedelta(days=1))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for file in files.values():
        file.write_text(private + pem(certificate))
    _security(Tls(**{name: str(file) for name, file in files.items()}))
    if content is None:
        files[broken].unlink()
    else:
        files[broken].write_text(content)
    with (
        pytest.raises(NotAnsweringError, match=r"cannot connect with .*certificate\.pem.*ca\.pem"),
        admin(SERVERS, 1.0, Tls(**{name: str(file) for name, file in files.items()})),
    ):
        pass
