"""Roles without hosts: what they promise, and the files they would write.

Variables come from real inventories and templates are rendered by Ansible's own engine, in this
process. An undefined variable fails the test as it fails the run.
"""

import hashlib
import re
import sys
from pathlib import Path

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager

from flink_jobs.plant import HEARTBEAT
from plugins.module_utils.preflight import FLINK_PORTS

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))

from vault import Vault

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "inventories" / "demo"
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
TEMPLATES = sorted(
    path.relative_to(ROOT / "roles") for path in ROOT.glob("roles/*/templates/**/*.j2")
)

# What Ansible would find out about a host, as far as templates ask.
FACTS = {
    "memtotal_mb": 16000,
    "processor_vcpus": 2,
    "architecture": "x86_64",
    "virtualization_role": "guest",
    "virtualization_type": "kvm",
    "all_ipv4_addresses": ["192.0.2.1"],
    "ssh_host_key_ed25519_public": "AAAAC3Nz",
}
# What earlier tasks of a role leave for its templates.
RESULTS = {
    "item": {"name": "taskmanager", "runs": True, "metrics_port": 9250, "query_port": 6126},
    "__firewall_rules": [
        {
            **{"protocol": "tcp", "port": 9092, "reason": "Kafka"},
            "sources": {"ip": ["192.0.2.2", "198.51.100.0/24"], "ip6": ["2001:db8::/32"]},
        }
    ],
    "__python_runtime_id": "0" * 12,
    "__flink_jobs_id": "1" * 12,
    "__plant_exporter_certificates": {"results": [{"stat": {"checksum": "2" * 40}}, {"stat": {}}]},
    "__grafana_certificates": {"results": [{"stat": {"checksum": "2" * 40}}, {"stat": {}}]},
    "__flink_jobs_certificates": {"results": [{"stat": {"checksum": "2" * 40}}]},
    "__flink_jobs_packaged": {"stdout": '{"code_sha256": "0123456789abcdef", "files": {}}'},
    "flink_jobs_declared": [
        {"name": "a", "module": "m", "parallelism": 1, "config": {}},
        {"name": "b", "module": "m", "parallelism": 1},
    ],
}

init_plugin_loader()


def loaded(file):
    """A YAML file of the project, its templates trusted; {} where there is none."""
    path = ROOT / file
    return DataLoader().load_from_file(str(path), trusted_as_template=True) if path.exists() else {}


class Plant:
    """The hosts of an inventory and what a role would render for each of them."""

    def __init__(self, source):
        self._loader = DataLoader()
        self._loader.set_basedir(str(ROOT))
        # Where the demo has been made, its passwords are encrypted beside its variables.
        self._loader.set_vault_secrets(Vault().secrets)
        inventory = InventoryManager(self._loader, sources=[str(source)])
        variables = VariableManager(self._loader, inventory)
        own = {"ansible_facts": FACTS, "__ssh_trust_made": {"ssh_public_key": "ssh-ed25519 AAAA"}}
        self.hostvars = {
            host.name: variables.get_vars(host=host, include_hostvars=False) | own
            for host in inventory.get_hosts()
        }
        self.groups = next(iter(self.hostvars.values()))["groups"]

    def templar(self, role, host, **more):
        variables = (
            loaded(f"roles/{role}/defaults/main.yml")
            | self.hostvars[host]
            | loaded(f"roles/{role}/vars/main.yml")
            | RESULTS
            | {
                "hostvars": self.hostvars,
                "role_path": str(ROOT / "roles" / role),
                "ansible_managed": "Ansible managed",
            }
            | more
        )
        return Templar(self._loader, variables=variables)

    def render(self, role, template, host, **more):
        text = (ROOT / "roles" / role / "templates" / template).read_text()
        rendered = self.templar(role, host, **more).template(trust_as_template(text))
        assert isinstance(rendered, str)
        return rendered

    def value(self, role, name, host, **more):
        expression = trust_as_template("{{ " + name + " }}")
        return self.templar(role, host, **more).template(expression)


@pytest.fixture(scope="module")
def demo():
    return Plant(DEMO)


def entries(role):
    """The role's entry points as its argument_specs describe them."""
    return loaded(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]


def main_options(role):
    return entries(role)["main"]["options"]


# The same inside


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_the_same_inside(role):
    files = {
        str(path.relative_to(ROOT / "roles" / role))
        for path in (ROOT / "roles" / role).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files >= {
        "meta/main.yml",
        "meta/argument_specs.yml",
        "tasks/main.yml",
        "vars/main.yml",
    }
    folders = {file.split("/")[0] for file in files}
    assert folders <= {"defaults", "files", "handlers", "meta", "tasks", "templates", "vars"}


@pytest.mark.parametrize("role", ROLES)
def test_options_and_defaults_are_the_same(role):
    options = main_options(role)
    promised = {name: about["default"] for name, about in options.items() if "default" in about}
    assert promised == loaded(f"roles/{role}/defaults/main.yml")


@pytest.mark.parametrize("role", ROLES)
def test_a_required_option_has_no_default(role):
    for name, about in main_options(role).items():
        assert not (about.get("required") and "default" in about), name


@pytest.mark.parametrize("role", ROLES)
def test_every_entry_of_a_role_is_described_and_there(role):
    for entry, about in entries(role).items():
        assert (ROOT / f"roles/{role}/tasks/{entry}.yml").is_file()
        assert about["short_description"]
        for name, option in about["options"].items():
            assert {"type", "description"} <= set(option), name


@pytest.mark.parametrize("role", ROLES)
def test_variables_carry_the_roles_name(role):
    for name in main_options(role):
        assert name.startswith(f"{role}_")
    for name in loaded(f"roles/{role}/vars/main.yml"):
        assert name.startswith(f"__{role}_")


def facts_set(tasks):
    """Names that tasks give to what they found out."""
    for task in tasks:
        yield from task.get("ansible.builtin.set_fact", {})
        yield from [task["register"]] if "register" in task else []
        for inner in ("block", "rescue", "always"):
            yield from facts_set(task.get(inner, []))


@pytest.mark.parametrize("role", ROLES)
def test_no_fact_passes_for_a_variable_of_the_inventory(role):
    # The second site.yml of one run (playbooks/ca_change.yml) would refuse it as a misspelt one.
    for file in (ROOT / "roles" / role).glob("*/*.yml"):
        if file.parent.name in ("tasks", "handlers"):
            for name in facts_set(yaml.safe_load(file.read_text())):
                assert name.startswith("__"), file


@pytest.mark.parametrize("template", TEMPLATES, ids=str)
def test_every_template_renders_for_every_host_of_the_demo(demo, template):
    role, _, name = template.parts
    for host in demo.hostvars:
        text = demo.render(role, name, host)
        assert text.strip()
        # Prometheus' own templates begin with a variable.
        assert "{{" not in text.replace("{{ $", "")
        assert "{%" not in text


# Memory


def settings_of_flink(text):
    """flink-conf.yaml as Flink 1.20 reads it: `key: value`, all from a # on is a comment."""
    settings = {}
    for line in text.splitlines():
        key, separator, value = line.partition("#")[0].strip().partition(": ")
        if key:
            assert separator, line
            assert key not in settings, f"{key} is given twice"
            settings[key] = value
    return settings


def megabytes(size):
    assert size.endswith("m")
    return int(size[:-1])


def memory_of(plant, host, **more):
    """MB that a host's processes are given, by process."""
    flink = settings_of_flink(plant.render("flink", "flink-conf.yaml.j2", host, **more))
    taken = {
        "kafka": int(plant.value("kafka", "kafka_heap_mb", host, **more)),
        "taskmanager": megabytes(flink["taskmanager.memory.process.size"]),
    }
    if host == plant.groups["flink_masters"][0]:
        taken["jobmanager"] = megabytes(flink["jobmanager.memory.process.size"])
    return taken


def test_all_processes_of_a_host_leave_it_room_for_the_page_cache(demo):
    for host, about in demo.hostvars.items():
        assert sum(memory_of(demo, host).values()) < 0.8 * about["host_memory_mb"]


@pytest.mark.parametrize("host_memory_mb", [4096, 8192, 32768, 262144])
def test_memory_fits_hosts_of_any_size(demo, host_memory_mb):
    taken = memory_of(demo, "node1", host_memory_mb=host_memory_mb)
    assert sum(taken.values()) < 0.8 * host_memory_mb
    # A JVM with less does not start, or lives on its garbage collector.
    assert taken["kafka"] >= 512
    assert taken["jobmanager"] >= 768
    assert taken["taskmanager"] >= 1024


# Of TaskManagers of 1 GB, where nothing is to spare, up to 64 GB; and the slots of their cores.
@pytest.mark.parametrize(("memory_mb", "slots"), [(1024, 16), (1392, 2), (4177, 2), (65536, 32)])
def test_state_on_the_heap_has_all_that_python_leaves(demo, memory_mb, slots):
    size = {"flink_taskmanager_memory_mb": memory_mb, "flink_slots": slots}
    text = demo.render("flink", "flink-conf.yaml.j2", "node1", **size)
    managed = megabytes(settings_of_flink(text)["taskmanager.memory.managed.size"])
    # Flink's documentation, "Set up TaskManager Memory": metaspace and JVM overhead first.
    flink = memory_mb - 256 - min(max(0.1 * memory_mb, 192), 1024)
    assert managed <= 0.4 * flink, "more than Flink itself would take"
    assert managed == 256 * slots or managed > 0.3 * flink, "Python's workers have too little"
    read = demo.render(
        "flink", "flink-conf.yaml.j2", "node1", **size, flink_state_backend="rocksdb"
    )
    assert "taskmanager.memory.managed.size" not in settings_of_flink(read)


# Flink


def test_flink_reads_every_setting_as_it_was_meant(demo):
    meant = demo.value("flink", "__flink_config", "node1")
    read = settings_of_flink(demo.render("flink", "flink-conf.yaml.j2", "node1"))
    assert read == {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in meant.items()
    }


def test_all_hosts_of_flink_agree_but_for_their_own_names(demo):
    own = {"taskmanager.host", "taskmanager.resource-id"}
    read = {
        host: settings_of_flink(demo.render("flink", "flink-conf.yaml.j2", host))
        for host in demo.groups["flink"]
    }
    shared = [
        {key: value for key, value in settings.items() if key not in own}
        for settings in read.values()
    ]
    assert all(settings == shared[0] for settings in shared)
    for host, settings in read.items():
        assert {settings[key] for key in own} == {host}
        assert settings["jobmanager.rpc.address"] == demo.groups["flink_masters"][0]


def test_a_setting_of_the_inventory_replaces_ours_and_null_takes_it_away(demo):
    change = {"heartbeat.timeout": 20000, "io.tmp.dirs": None, "restart-strategy.type": "none"}
    read = settings_of_flink(
        demo.render("flink", "flink-conf.yaml.j2", "node1", flink_config=change)
    )
    assert read["heartbeat.timeout"] == "20000"
    assert read["restart-strategy.type"] == "none"
    assert "io.tmp.dirs" not in read


def test_state_lies_on_the_shared_mount_that_the_unit_waits_for(demo):
    shared = {"flink_shared_dir": "/mnt/plant"}
    read = settings_of_flink(demo.render("flink", "flink-conf.yaml.j2", "node1", **shared))
    unit = demo.render("flink", "flink.service.j2", "node1", **shared)
    assert "RequiresMountsFor=/mnt/plant\n" in unit
    writable = unit.partition("ReadWritePaths=")[2].splitlines()[0]
    for key in ("state.checkpoints.dir", "state.savepoints.dir"):
        assert read[key].removeprefix("file://").startswith(f"{writable}/")
    jobs_dir = demo.value("flink_jobs", "flink_jobs_state_dir", "node1", **shared)
    assert jobs_dir == writable


def test_the_demos_jobs_find_slots_even_when_a_worker_is_lost(demo):
    about = demo.hostvars["node1"]
    read = settings_of_flink(demo.render("flink", "flink-conf.yaml.j2", "node1"))
    slots = int(read["taskmanager.numberOfTaskSlots"])
    needed = len(about["plant_models"]) * about["plant_jobs_parallelism"] + HEARTBEAT.partitions
    assert needed <= slots * (len(demo.groups["flink_workers"]) - 1)


def test_processes_of_one_host_serve_their_figures_on_different_ports(demo):
    settings = settings_of_flink(demo.render("flink", "flink-conf.yaml.j2", "node1"))
    assert "metrics.reporter.prom.port" not in settings, "both processes read that file"
    ports = {}
    for item in demo.value("flink", "__flink_units", "node1"):
        unit = demo.render("flink", "flink.service.j2", "node1", item=item)
        command = unit.partition("ExecStart=")[2].replace("\\\n", " ").splitlines()[0]
        ports[item["name"]] = re.findall(r" -D metrics\.(\w+)\S*\.port=(\d+)", command)
    assert ports == {
        "jobmanager": [("internal", "6125"), ("reporter", "9249")],
        "taskmanager": [("internal", "6126"), ("reporter", "9250")],
    }


def test_no_port_of_flink_is_left_to_chance(demo):
    settings = settings_of_flink(demo.render("flink", "flink-conf.yaml.j2", "node1"))
    fixed = {key: settings[key] for keys in FLINK_PORTS.values() for key in keys if key in settings}
    assert fixed == {
        **{"rest.port": "8081", "blob.server.port": "6124"},
        **{"taskmanager.rpc.port": "6122", "taskmanager.data.port": "6121"},
    }


def test_flink_without_metrics_has_no_reporter(demo):
    more = {"flink_metrics": False}
    unit = demo.render("flink", "flink.service.j2", "node1", **more)
    settings = settings_of_flink(demo.render("flink", "flink-conf.yaml.j2", "node1", **more))
    assert "metrics.reporter" not in unit
    assert not any(key.startswith("metrics.reporter") for key in settings)


def test_a_lost_process_is_missed_only_after_several_beats(demo):
    read = settings_of_flink(demo.render("flink", "flink-conf.yaml.j2", "node1"))
    assert int(read["heartbeat.timeout"]) >= 3 * int(read["heartbeat.interval"])


def test_the_clock_serves_all_jobs_that_have_a_configuration(demo):
    unit = demo.render("flink_jobs", "flink-clock.service.j2", "node1")
    [command] = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert command.endswith("--config /etc/plantline/jobs/a.config.json")


def test_the_master_may_log_in_to_all_workers_and_nobody_else_anywhere(demo):
    masters = demo.groups["flink_masters"]
    for host in demo.groups["flink"]:
        admitted = demo.render("ssh_trust", "authorized_keys.j2", host).splitlines()[1:]
        assert len(admitted) == len(masters)
        assert all(line.startswith('from="192.0.2.1",restrict ssh-') for line in admitted)
        known = demo.render("ssh_trust", "known_hosts.j2", host).splitlines()[1:]
        names = {line.split(",")[0] for line in known}
        assert names == (set(demo.groups["flink_workers"]) if host in masters else set())


# Metrics of the plant


@pytest.mark.parametrize("unit", ["plantline-exporter", "plantline-heartbeat"])
@pytest.mark.parametrize("reason", ["__flink_jobs_id", "__python_runtime_id"])
def test_another_package_or_environment_makes_another_unit(demo, unit, reason):
    # A unit that changed is what the role restarts its service for.
    template = f"{unit}.service.j2"
    before = demo.render("plant_exporter", template, "node1")
    assert demo.render("plant_exporter", template, "node1", **{reason: "another"}) != before


@pytest.mark.parametrize(
    ("role", "template"),
    [
        ("plant_exporter", "plantline-exporter.service.j2"),
        ("grafana", "grafana.service.j2"),
        ("flink_jobs", "flink-clock.service.j2"),
    ],
)
def test_other_certificates_make_another_unit(demo, role, template):
    before = demo.render(role, template, "node1")
    other = {"results": [{"stat": {"checksum": "3" * 40}}, {"stat": {}}]}
    assert demo.render(role, template, "node1", **{f"__{role}_certificates": other}) != before


def test_the_heartbeat_is_sent_where_the_plant_has_one(demo):
    for types, sent in (({"pump": [], "_heartbeat": ["beat"]}, True), ({"pump": []}, False)):
        more = {"plant_exporter_machine_types": types}
        assert demo.value("plant_exporter", "__plant_exporter_heartbeat", "node1", **more) is sent


# Kafka


def test_kafka_loads_the_agent_that_the_depot_has(demo):
    agent = loaded("depot.yml")["artifacts"]["jmx-agent"]
    [source] = agent["sources"]
    [jar] = [name.split(":")[1] for name in source["artifacts"]]
    unit = demo.render("kafka", "kafka.service.j2", "node1")
    assert f"/{jar}-{agent['version']}.jar=0.0.0.0:7071:/etc/plantline/kafka/jmx.yml" in unit


def test_the_hash_of_every_password_is_as_kafkas_agent_computes_it(demo):
    for number in range(40):
        password = f"password {number}"
        digest = hashlib.sha256(f"node1:{password}".encode()).digest()
        found = demo.value(
            "kafka", "__kafka_metrics_hash", "node1", kafka_metrics_password=password
        )
        assert found == f"{int.from_bytes(digest):x}"


def test_kafka_without_metrics_loads_no_agent_and_waits_for_none(demo):
    more = {"kafka_metrics": False}
    unit = demo.render("kafka", "kafka.service.j2", "node1", **more)
    assert "javaagent" not in unit
    assert "jmx" not in unit


def kafka_inventory(brokers, combined):
    """An inventory with so many brokers; controllers are the first three of them, or others."""
    names = [f"broker{number}" for number in range(1, brokers + 1)]
    quorum = min(brokers, 3)
    controllers = names[:quorum] if combined else [f"controller{n + 1}" for n in range(quorum)]
    hosts = {
        name: {"ansible_host": f"198.51.100.{number}", "kafka_node_id": number}
        for number, name in enumerate(dict.fromkeys(controllers + names), 1)
    }
    groups = {"kafka_controllers": controllers, "kafka_brokers": names}
    children = {group: {"hosts": {name: {} for name in some}} for group, some in groups.items()}
    return {"all": {"hosts": hosts}, "kafka": {"children": children}}


@pytest.fixture(
    scope="module",
    params=[(n, combined) for n in (1, 2, 3, 5) for combined in (True, False)],
    ids=lambda param: f"{param[0]}-{'combined' if param[1] else 'isolated'}",
)
def kafka(request, tmp_path_factory):
    file = tmp_path_factory.mktemp("inventory") / "hosts.yml"
    file.write_text(yaml.safe_dump(kafka_inventory(*request.param)))
    plant = Plant(file)
    plant.brokers, plant.combined = request.param
    return plant


def properties(text):
    """server.properties as Java reads it, one line per property."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        key, separator, value = line.partition("=")
        assert separator, line
        assert key not in found, f"{key} is given twice"
        assert value == value.strip() != "", line
        found[key] = value
    return found


def of_nodes(plant, **more):
    return {
        host: properties(plant.render("kafka", "server.properties.j2", host, **more))
        for host in plant.hostvars
    }


def endpoints(text):
    """Listeners `NAME://host:port,…` as {name: (host, port)}."""
    parsed = {}
    for listener in filter(None, text.split(",")):
        name, _, address = listener.partition("://")
        host, _, port = address.rpartition(":")
        parsed[name] = (host, port)
    return parsed


def test_every_node_plays_the_roles_of_its_groups(kafka):
    for host, node in of_nodes(kafka).items():
        roles = set(node["process.roles"].split(","))
        assert ("broker" in roles) == (host in kafka.groups["kafka_brokers"])
        assert ("controller" in roles) == (host in kafka.groups["kafka_controllers"])
        assert (len(roles) == 2) == (kafka.combined and "controller" in roles)


def test_all_nodes_name_the_same_voters_where_these_listen(kafka):
    nodes = of_nodes(kafka)
    [voters] = {node["controller.quorum.voters"] for node in nodes.values()}
    by_id = {}
    for voter in voters.split(","):
        number, _, address = voter.partition("@")
        by_id[number] = tuple(address.rsplit(":", 1))
    assert len(by_id) == len(kafka.groups["kafka_controllers"])
    for host in kafka.groups["kafka_controllers"]:
        node = nodes[host]
        address, port = by_id[node["node.id"]]
        assert address == kafka.hostvars[host]["ansible_host"]
        assert port == endpoints(node["listeners"])[node["controller.listener.names"]][1]
    assert len({node["node.id"] for node in nodes.values()}) == len(nodes)


def test_a_node_binds_what_its_roles_need_and_tells_clients_only_of_brokers(kafka):
    for host, node in of_nodes(kafka).items():
        bound = endpoints(node["listeners"])
        told = endpoints(node.get("advertised.listeners", ""))
        roles = node["process.roles"].split(",")
        assert ("CONTROLLER" in bound) == ("controller" in roles)
        assert set(told) == set(bound) - {"CONTROLLER"}
        assert (node["inter.broker.listener.name"] in told) == ("broker" in roles)
        assert all(port == bound[name][1] for name, (_, port) in told.items())
        assert {address for address, _ in told.values()} <= {kafka.hostvars[host]["ansible_host"]}
        mapped = dict(pair.split(":") for pair in node["listener.security.protocol.map"].split(","))
        assert set(bound) | {node["controller.listener.names"]} <= set(mapped)
        assert len({port for _, port in bound.values()}) == len(bound)


def test_records_are_on_up_to_three_brokers_and_outlive_the_loss_of_one(kafka):
    for node in of_nodes(kafka).values():
        replicas = int(node["default.replication.factor"])
        needed = int(node["min.insync.replicas"])
        assert replicas == min(kafka.brokers, 3)
        # Three: what is acknowledged is on two disks at least. Two: one alone may go on.
        assert needed == (2 if replicas == 3 else 1)
        if replicas > 1:
            assert needed < replicas, "the loss of one broker would stop every producer"


def test_what_kafka_keeps_for_itself_is_as_safe_as_the_records(kafka):
    for node in of_nodes(kafka).values():
        for topic in ("offsets.topic", "transaction.state.log"):
            assert node[f"{topic}.replication.factor"] == node["default.replication.factor"]
        assert node["transaction.state.log.min.isr"] == node["min.insync.replicas"]


@pytest.mark.parametrize("security", [True, False])
def test_clients_are_told_the_listeners_of_all_brokers(kafka, security):
    nodes = of_nodes(kafka, kafka_security=security)

    def told_by(listener):
        return {
            ":".join(endpoints(nodes[host]["advertised.listeners"])[listener])
            for host in kafka.groups["kafka_brokers"]
        }

    operators = told_by("OPERATOR" if security else "CLIENT")
    for template in ("client.conf.j2", "client.properties.j2", "admin.properties.j2"):
        told = properties(kafka.render("kafka", template, "broker1", kafka_security=security))
        servers = told["bootstrap.servers"].split(",")
        assert set(servers) == operators
        assert len(servers) == len(operators)
    programs = kafka.value("kafka", "kafka_bootstrap_servers", "broker1", kafka_security=security)
    assert set(programs.split(",")) == told_by("CLIENT")


def test_nobody_is_let_in_unknown_or_unencrypted(kafka):
    for node in of_nodes(kafka).values():
        protocols = dict(
            pair.split(":") for pair in node["listener.security.protocol.map"].split(",")
        )
        assert protocols.pop("CLIENT") == "SASL_SSL"
        assert protocols == dict.fromkeys(("BROKER", "CONTROLLER", "OPERATOR"), "SSL")
        for listener in protocols:
            assert node[f"listener.name.{listener.lower()}.ssl.client.auth"] == "required"
        assert node["allow.everyone.if.no.acl.found"] == "false"
        assert node["authorizer.class.name"].endswith(".StandardAuthorizer")


def test_without_security_kafka_is_as_it_was(kafka):
    for node in of_nodes(kafka, kafka_security=False).values():
        protocols = node["listener.security.protocol.map"]
        assert protocols == "CLIENT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT"
        assert not [name for name in node if "ssl" in name or "sasl" in name or "acl" in name]


@pytest.mark.parametrize(
    ("subject", "user"),
    [
        ("CN=kafka", "kafka"),
        ("CN=pump-gateway,OU=Plant\\, north,O=Acme", "pump-gateway"),
        ("O=Acme,CN=operator", None),
        ("CN=operator\\,CN=kafka", None),
        ("OU=CN\\=operator,CN=guest", None),
    ],
)
def test_a_certificate_is_known_by_its_common_name_or_not_at_all(demo, subject, user):
    [node, *_] = of_nodes(demo).values()
    _, pattern, replacement, _ = re.fullmatch(
        r"(RULE:)((?:\\.|[^\\/])*)/((?:\\.|[^\\/])*)/([LU]?)", node["ssl.principal.mapping.rules"]
    ).groups()
    assert replacement == "$1"
    known = re.fullmatch(pattern, subject)
    assert (known[1] if known else None) == user


def test_another_network_for_data_is_used_throughout(tmp_path):
    inventory = kafka_inventory(3, combined=True)
    for about in inventory["all"]["hosts"].values():
        about["kafka_address"] = about["ansible_host"].replace("198.51.100", "203.0.113")
    file = tmp_path / "hosts.yml"
    file.write_text(yaml.safe_dump(inventory))
    plant = Plant(file)
    for host in plant.hostvars:
        text = plant.render("kafka", "server.properties.j2", host)
        assert "203.0.113." in text
        assert "198.51.100." not in text
        assert "198.51.100." not in plant.render("kafka", "client.conf.j2", host)


def test_a_listener_more_is_bound_and_told_by_brokers_only(tmp_path):
    file = tmp_path / "hosts.yml"
    file.write_text(yaml.safe_dump(kafka_inventory(2, combined=False)))
    listeners = loaded("roles/kafka/vars/main.yml")["__kafka_listeners_secured"]
    more = {"kafka_listeners": listeners | {"PLANT": {"port": 9095, "protocol": "SSL"}}}
    nodes = of_nodes(Plant(file), **more)
    for host, node in nodes.items():
        is_broker = host.startswith("broker")
        assert ("PLANT" in endpoints(node["listeners"])) == is_broker
        assert ("PLANT" in endpoints(node.get("advertised.listeners", ""))) == is_broker
        assert "PLANT:SSL" in node["listener.security.protocol.map"].split(",")


def test_a_property_of_the_inventory_replaces_ours_and_null_takes_it_away(demo):
    change = {"min.insync.replicas": 1, "group.initial.rebalance.delay.ms": None, "x.y": True}
    [read, *_] = of_nodes(demo, kafka_config=change).values()
    assert read["min.insync.replicas"] == "1"
    assert read["x.y"] == "true"
    assert "group.initial.rebalance.delay.ms" not in read
