"""What must not leave a host in a support bundle, and what must stay readable in it."""

import json

import pytest

from ops.remote.redact import REMOVED, redact

SECRET = "-".join(("hunter2", "Zq9"))

HIDES = {
    "properties": f"ssl.keystore.password={SECRET}",
    "properties, spaced": f"ssl.key.password = {SECRET}",
    "properties, a value of several words": f"admin.password = two {SECRET} words",
    "properties, continued": f"sasl.jaas.config=a.Login required \\\n  u=u \\\n  p={SECRET};",
    "JAAS on one line": f'sasl.jaas.config=a.Login required username="u" x="{SECRET}";',
    "JAAS file": f'KafkaServer {{\n  a.Login required\n  user_alice="{SECRET}";\n}};',
    "listener's JAAS": f"listener.name.client.scram-sha-512.sasl.jaas.config=x y='{SECRET}';",
    "key in the properties": f"ssl.keystore.key={SECRET}",
    "YAML": f"grafana_admin_password: {SECRET}",
    "YAML in a list": f"users:\n  - name: a\n    password: '{SECRET}'",
    "YAML list item": f"  - token: {SECRET}",
    "YAML block": f"client_secret: |\n  first {SECRET}\n  {SECRET}\nnext: 1",
    "YAML nested": f"basic_auth_users:\n  admin: {SECRET}\nnext: 1",
    "YAML list below": f"api_keys:\n- {SECRET}\n- {SECRET}\nnext: 1",
    "JSON": json.dumps({"a": 1, "password": SECRET, "b": 2}, indent=1),
    "JSON on one line": json.dumps({"a": 1, "password": SECRET, "b": 2}),
    "JSON with a quote in it": json.dumps({"password": f'a"{SECRET}', "b": 2}),
    "JSON in JSON": json.dumps({"text": json.dumps({"password": SECRET})}),
    "JSON, nested": json.dumps({"credentials": {"user": "u", "key": SECRET}}, indent=1),
    "ini": f"[security]\nadmin_password = {SECRET}",
    "XML": f"<server><password>{SECRET}</password></server>",
    "environment of a unit": f"Environment=KAFKA_PASSWORD={SECRET}",
    "quoted environment of a unit": f'Environment="KAFKA_PASSWORD=a {SECRET}" B=c',
    "shell": f"export AWS_SECRET_ACCESS_KEY={SECRET}",
    "command line": f"java -Djavax.net.ssl.keyStorePassword={SECRET} -Dx=y Main",
    "flag with =": f"psql --password={SECRET} --host a",
    "flag": f"kafka-configs --entity-name a --password {SECRET} --alter",
    "quoted flag": f"tool --token 'a {SECRET}' b",
    "URL": f"postgresql://telemetry:{SECRET}@db.example:5432/plant",
    "URL's query": f"GET /hook?token={SECRET}&a=b",
    "header": f"Authorization: Bearer {SECRET}abcdefgh",
    "header in a log": f"sent Bearer {SECRET}abcdefgh to host",
    "chat webhook": f"url: https://hooks.slack.com/services/T0/B0/{SECRET}",
    "log": f"INFO config: ssl.truststore.password = {SECRET}, next",
    "private key": f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
    "private key, cut off": f"a\n-----BEGIN PRIVATE KEY-----\nAAA\n{SECRET}",
    "private key on one line": rf"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----",
    "password hash": f"admin:$6$rounds$12345678{SECRET}abcdefghijkl".replace("-", "/"),
}

KEEPS = [
    "listeners=CLIENT://:9092,BROKER://:9094",
    "ssl.keystore.location=/etc/plantline/kafka/keystore.p12",
    "ansible_ssh_private_key_file: out/hosts/demo/id_ed25519",
    "password_file: /etc/prometheus/password",
    "http://node1:8081/jobs/overview",
    "bootstrap.servers=10.0.0.1:9092,10.0.0.2:9092",
    "state.checkpoints.dir: file:///srv/plantline/flink/checkpoints",
    "INFO Password authentication failed for user telemetry",
    "at kafka.server.AbstractFetcherThread.$anonfun$maybeFetch$1$adapted(Fetcher.scala:130)",
    "ii  base-passwd 3.6.1",
    '"plantline.code": "b56c08ceb3c5"',
    "-----BEGIN CERTIFICATE-----",
]


@pytest.mark.parametrize("text", HIDES.values(), ids=HIDES)
def test_a_secret_is_taken_out(text):
    clean = redact(text)
    assert SECRET.replace("-", "/") not in clean.replace("-", "/")
    assert REMOVED in clean


@pytest.mark.parametrize("line", KEEPS)
def test_what_helps_and_is_no_secret_stays(line):
    assert redact(line) == line


def test_what_stands_around_a_secret_stays():
    text = f"before: 1\nclient_secret: |\n  {SECRET}\n  more\nafter: 2\n"
    assert redact(text) == f"before: 1\nclient_secret: {REMOVED}\nafter: 2\n"
    line = f"java -DkeyStorePassword={SECRET} -Dx=y Main"
    assert redact(line) == f"java -DkeyStorePassword={REMOVED} -Dx=y Main"


def test_a_settings_name_stays_readable_and_so_does_the_rest_of_its_line():
    assert redact(f'{{"password": "{SECRET}", "port": 9092}}') == (
        f'{{"password": {REMOVED}, "port": 9092}}'
    )


def test_a_known_secret_goes_wherever_it_stands():
    assert (
        redact("login of correct-horse failed", ["correct-horse"]) == f"login of {REMOVED} failed"
    )


def test_a_known_word_that_is_too_short_to_be_recognised_stays():
    assert redact("the admin is here", ["admin"]) == "the admin is here"


def test_of_two_known_secrets_the_longer_goes_whole():
    assert redact("x=abcdef-123", ["abcdef", "abcdef-123"]) == f"x={REMOVED}"


def test_a_clean_text_is_not_touched():
    text = "a\n\n  - b\n{\n}\n"
    assert redact(text) == text
