"""How programs connect to Kafka, as Ansible filters: librdkafka's settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

# Written by role pki on every host.
CA = "/etc/plantline/pki/ca.pem"


def kafka_client(bootstrap_servers: str, security: bool) -> dict[str, str]:
    """What all programs have in common; nothing of it is secret."""
    settings = {"bootstrap.servers": bootstrap_servers}
    if not security:
        return settings
    return settings | {
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "ssl.ca.location": CA,
    }


def kafka_login(
    settings: Mapping[str, str], user: str, passwords: Mapping[str, str]
) -> dict[str, str]:
    """The settings of one program, its password with them where the brokers ask for one."""
    if "sasl.mechanism" not in settings:
        return dict(settings)
    return {**settings, "sasl.username": user, "sasl.password": _password(user, passwords)}


def kafka_jaas(user: str, passwords: Mapping[str, str]) -> str:
    """The value of `sasl.jaas.config`, by which a Java client logs in."""
    # It stands in quotes in a properties file, and a backslash has a meaning in both.
    password = _password(user, passwords)
    if not password.isascii() or not password.isprintable() or set(password) & set("\"\\'"):
        raise AnsibleFilterError(
            f"the password of Kafka's user {user} has characters that Java's settings cannot hold; "
            "use ASCII without quotes and backslashes"
        )
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    return f'{module} required username="{user}" password="{password}";'


def _password(user: str, passwords: Mapping[str, str]) -> str:
    if user not in passwords:
        raise AnsibleFilterError(
            f"Kafka's user {user} has no password: vault_kafka_passwords does not name it; "
            "`make secrets` adds what is missing"
        )
    return passwords[user]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "kafka_client": kafka_client,
            "kafka_login": kafka_login,
            "kafka_jaas": kafka_jaas,
        }
