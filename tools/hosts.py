"""Test hosts: one container per host of an inventory, booting systemd and reached over real SSH.

    hosts.py up|status|down INVENTORY_DIR      hosts.py stop|start INVENTORY_DIR HOST...

Names and addresses are the inventory's (`ansible_host`, all in one /24 of their own); the name of
the inventory's folder keeps fleets apart. All hosts of a fleet share a volume at /srv/plantline.
`up` writes to out/hosts/<inventory>/: id_ed25519 (logs in as root), known_hosts and ssh_config.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEPOT = ROOT / "depot"
OUT = ROOT / "out" / "hosts"
FACTS = ROOT / ".cache" / "facts"
DOCKERD_PID = OUT / "dockerd.pid"
LABEL = "plantline.inventory"
BOOT_DEADLINE_S = 120.0

# The first process of every host. What an image shares and a machine has for itself is made anew
# at the first boot. Docker mounts its own file over /etc/hosts at every start, which can neither
# be replaced atomically nor keeps an edit; without that mount the host owns the file.
# With cgroup v2 Docker mounts the host's private part read-only, and systemd must write to it.
BOOT = """
set -e
if [ ! -e /etc/plantline-host ]; then
    rm -f /etc/ssh/ssh_host_* /etc/machine-id
    ssh-keygen -q -A
    systemd-machine-id-setup
    cat /etc/hosts > /etc/plantline-host
    umount /etc/hosts
    install -m 0644 /etc/plantline-host /etc/hosts
else
    umount /etc/hosts
fi
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mount -o remount,rw /sys/fs/cgroup; fi
exec /lib/systemd/systemd
"""


class HostsError(Exception):
    """Something the user has to know or do; the message says what."""


@dataclass(frozen=True)
class Host:
    """One host of the inventory."""

    name: str
    address: IPv4Address


@dataclass(frozen=True)
class Fleet:
    """The hosts of one inventory and the names of what belongs to them."""

    name: str
    hosts: tuple[Host, ...]
    network: IPv4Network

    @property
    def prefix(self) -> str:
        """Name of the network and the volume, and the beginning of every container's name."""
        return f"plantline-{self.name}"

    @property
    def keys(self) -> Path:
        """Folder of the SSH key, the known hosts and the SSH configuration."""
        return OUT / self.name

    def container(self, host: Host) -> str:
        """Name of the host's container."""
        return f"{self.prefix}-{host.name}"

    def pick(self, names: Sequence[str]) -> tuple[Host, ...]:
        """The named hosts; raises HostsError for a name the inventory does not have."""
        unknown = sorted(set(names) - {host.name for host in self.hosts})
        if unknown:
            raise HostsError(f"not in inventory {self.name}: {', '.join(unknown)}")
        return tuple(host for host in self.hosts if host.name in names)


def parse_inventory(name: str, listing: str) -> Fleet:
    """The fleet in the JSON that `ansible-inventory --list` prints; raises HostsError."""
    groups = json.loads(listing)
    hostvars = groups.pop("_meta")["hostvars"]
    names = {host for group in groups.values() for host in group.get("hosts", [])} | set(hostvars)
    if not names:
        raise HostsError(f"inventory {name} names no hosts")
    hosts = []
    for host in sorted(names):
        address = hostvars.get(host, {}).get("ansible_host", "")
        try:
            hosts.append(Host(host, IPv4Address(address)))
        except ValueError:
            raise HostsError(
                f"inventory {name}, host {host}: ansible_host must be an IPv4 address, "
                f"found {address!r}"
            ) from None
    networks = {IPv4Network((host.address, 24), strict=False) for host in hosts}
    if len(networks) > 1:
        raise HostsError(
            f"inventory {name}: all addresses must lie in one /24, found "
            + ", ".join(sorted(map(str, networks)))
        )
    network = networks.pop()
    taken = (network[0], network[1], network[-1])
    if any(host.address in taken for host in hosts):
        raise HostsError(f"inventory {name}: no host may have {', '.join(map(str, taken))}")
    if len({host.address for host in hosts}) < len(hosts):
        raise HostsError(f"inventory {name}: two hosts have the same address")
    return Fleet(name, tuple(hosts), network)


def read_inventory(folder: Path) -> Fleet:
    """The fleet of an inventory folder; raises HostsError."""
    if not folder.is_dir():
        raise HostsError(f"{folder} is not an inventory folder")
    command = [sys.executable, "-m", "ansible", "inventory", "-i", str(folder), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise HostsError(f"cannot read inventory {folder}:\n{done.stderr.strip()}")
    return parse_inventory(folder.resolve().name, done.stdout)


def wait_until(what: str, probe: Callable[[], bool], seconds: float) -> None:
    """Calls `probe` until it is true; raises HostsError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > deadline:
            raise HostsError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


def as_root(*command: str) -> list[str]:
    """The command, through sudo unless we are root."""
    return list(command) if os.geteuid() == 0 else ["sudo", *command]


class Engine:
    """The Docker engine of this machine, started where it is not running."""

    def __init__(self) -> None:
        if shutil.which("docker") is None:
            raise HostsError("docker is not installed; `make prerequisites` installs it")
        self._command = ["docker"]
        if self._answers():
            return
        # A user with sudo need not be in the docker group.
        self._command = as_root("docker")
        if not self._answers():
            self._start()

    def run(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """Standard output of `docker ARGS`; raises HostsError if it fails and `check` is set."""
        command = [*self._command, *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise HostsError(f"{shlex.join(command[:4])} … failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def names(self, *args: str) -> set[str]:
        """The lines that a listing command prints."""
        return set(self.run(*args).splitlines())

    def state(self, container: str) -> str:
        """`running`, `exited`, …, or `absent`."""
        found = self.run("inspect", "-f", "{{.State.Status}}", container, check=False)
        return found or "absent"

    def _answers(self) -> bool:
        probe = [*self._command, "version", "-f", "{{.Server.Version}}"]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0

    def _start(self) -> None:
        say("starting the container engine")
        if Path("/run/systemd/system").is_dir():
            subprocess.run(as_root("systemctl", "start", "docker"), check=True)
        else:
            OUT.mkdir(parents=True, exist_ok=True)
            command = as_root("dockerd", "--pidfile", str(DOCKERD_PID))
            with (OUT / "dockerd.log").open("ab") as log:
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 start_new_session=True)  # fmt: skip
        wait_until(f"the container engine answers (see {OUT}/dockerd.log)", self._answers, 60)

    def stop_if_ours(self) -> None:
        """Stops the dockerd that this tool started, once no fleet needs it."""
        if not DOCKERD_PID.is_file() or self.run("ps", "-aq", "--filter", f"label={LABEL}"):
            return
        pid = DOCKERD_PID.read_text().strip()
        name = Path("/proc") / pid / "comm"
        if name.is_file() and name.read_text().strip() == "dockerd":
            subprocess.run(as_root("kill", f"-{signal.SIGTERM}", pid), check=True)
            wait_until("the container engine stops", lambda: not DOCKERD_PID.exists(), 60)
        DOCKERD_PID.unlink(missing_ok=True)
        (OUT / "dockerd.log").unlink(missing_ok=True)


def sha512(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha512").hexdigest()


def depot_image() -> Path:
    """The depot's root file system of the test hosts; raises HostsError if it is not there."""
    manifest = DEPOT / "manifest.json"
    if not manifest.is_file():
        raise HostsError("the depot is empty; `make depot` fills it")
    artifact = json.loads(manifest.read_text())["artifacts"].get("node-image")
    if artifact is None:
        raise HostsError("the depot has no node-image; `make depot` brings it")
    return DEPOT / str(artifact["file"])


def import_image(engine: Engine, archive: Path) -> str:
    """Imports a root file system once; returns the image's name, which carries its checksum."""
    image = f"plantline-node:{sha512(archive)[:16]}"
    if not engine.run("images", "-q", image):
        say(f"importing {archive.name}")
        engine.run("import", "--message", "plantline test host", str(archive), image)
    return image


def cgroup_options(version: str) -> list[str]:
    """What systemd needs to have cgroups of its own, by the engine's cgroup version."""
    if version == "2":
        return ["--cgroupns", "private"]
    return ["--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]


def run_options(fleet: Fleet, host: Host, cgroup_version: str) -> list[str]:
    """Options of `docker run` for one host.

    Not `--privileged`: a host gets the two capabilities systemd and network faults need.
    """
    return [
        "--detach", "--name", fleet.container(host), "--hostname", host.name,
        "--label", f"{LABEL}={fleet.name}",
        "--network", fleet.prefix, "--ip", str(host.address), "--network-alias", host.name,
        "--volume", f"{fleet.prefix}:/srv/plantline",
        "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN",
        "--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
        "--tmpfs", "/run", "--tmpfs", "/run/lock",
        "--env", "container=docker", "--stop-signal", "SIGRTMIN+3",
        *cgroup_options(cgroup_version),
    ]  # fmt: skip


def forget_facts(hosts: Iterable[Host]) -> None:
    """Removes what Ansible remembers of hosts (fact_caching in ansible.cfg).

    It knows them by name only: a host made anew, or one of another inventory, passes for the old.
    """
    names = {host.name for host in hosts}
    for file in FACTS.glob("*"):
        # Ansible puts the version of its format before the name.
        if re.sub(r"^s\d+_", "", file.name) in names:
            file.unlink(missing_ok=True)


def make_key(fleet: Fleet) -> str:
    """Makes the fleet's SSH key pair; returns the public key."""
    shutil.rmtree(fleet.keys, ignore_errors=True)
    fleet.keys.mkdir(parents=True, mode=0o700)
    key = fleet.keys / "id_ed25519"
    comment = f"plantline test hosts {fleet.name}"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)]
    subprocess.run(command, check=True)
    return public_key(fleet)


def public_key(fleet: Fleet) -> str:
    """The fleet's public key."""
    return (fleet.keys / "id_ed25519.pub").read_text()


def known_hosts_line(host: Host, key: str) -> str:
    """The line of known_hosts for a host, given the text of its public host key file."""
    kind, value = key.split()[:2]
    return f"{host.name},{host.address} {kind} {value}\n"


def ssh_config(fleet: Fleet) -> str:
    """A configuration for `ssh -F`, `scp -F` and pytest-testinfra."""
    lines = []
    for host in fleet.hosts:
        lines += [f"Host {host.name} {host.address}", f"  HostName {host.address}"]
    lines += [
        "Host *",
        "  User root",
        f'  IdentityFile "{fleet.keys}/id_ed25519"',
        "  IdentitiesOnly yes",
        f'  UserKnownHostsFile "{fleet.keys}/known_hosts"',
        "  StrictHostKeyChecking yes",
        "  BatchMode yes",
        "  ConnectTimeout 5",
    ]
    return "\n".join(lines) + "\n"


def wait_for_boot(engine: Engine, fleet: Fleet, host: Host) -> None:
    """Waits until systemd has started everything; says which units failed."""
    container = fleet.container(host)
    states = {"running", "degraded"}

    def booted() -> bool:
        state = engine.state(container)
        if state != "running":
            raise HostsError(f"{host.name} is {state}:\n{engine.run('logs', container)}")
        query = ("exec", container, "systemctl", "is-system-running")
        return engine.run(*query, check=False) in states

    wait_until(f"{host.name} boots", booted, BOOT_DEADLINE_S)
    list_failed = ("systemctl", "list-units", "--state=failed", "--plain", "--no-legend")
    failed = engine.run("exec", container, *list_failed)
    if failed:
        say(f"{host.name} runs, but these units failed:\n{failed}")


def wait_for_ssh(fleet: Fleet, host: Host) -> None:
    """Waits until a login with the fleet's key succeeds."""
    command = ["ssh", "-F", str(fleet.keys / "ssh_config"), host.name, "true"]

    def logs_in() -> bool:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    wait_until(f"{host.name} lets {shlex.join(command)} in", logs_in, 60)


def up(engine: Engine, fleet: Fleet, archive: Path | None) -> None:
    """Makes and starts what is missing; running hosts are left alone."""
    absent = {host for host in fleet.hosts if engine.state(fleet.container(host)) == "absent"}
    own = ("--label", f"{LABEL}={fleet.name}", fleet.prefix)
    forget_facts(absent)
    if absent:
        image = import_image(engine, archive or depot_image())
        if fleet.prefix not in engine.names("network", "ls", "--format", "{{.Name}}"):
            engine.run("network", "create", "--subnet", str(fleet.network), *own)
        engine.run("volume", "create", *own)
    cgroup_version = engine.run("info", "-f", "{{.CgroupVersion}}")

    def boot(host: Host) -> str:
        if host in absent:
            options = run_options(fleet, host, cgroup_version)
            engine.run("run", *options, image, "/bin/sh", "-c", BOOT)
        else:
            engine.run("start", fleet.container(host))
        wait_for_boot(engine, fleet, host)
        read_key = ("exec", fleet.container(host), "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
        return known_hosts_line(host, engine.run(*read_key))

    def admit(host: Host) -> None:
        write = "umask 077 && mkdir -p /root/.ssh && cat > /root/.ssh/authorized_keys"
        engine.run("exec", "-i", fleet.container(host), "sh", "-c", write, stdin=key)
        wait_for_ssh(fleet, host)

    with ThreadPoolExecutor(len(fleet.hosts)) as pool:
        host_keys = list(pool.map(boot, fleet.hosts))
        keep = len(absent) < len(fleet.hosts) and (fleet.keys / "id_ed25519.pub").is_file()
        key = public_key(fleet) if keep else make_key(fleet)
        (fleet.keys / "known_hosts").write_text("".join(host_keys))
        (fleet.keys / "ssh_config").write_text(ssh_config(fleet))
        list(pool.map(admit, fleet.hosts))
    for host in fleet.hosts:
        say(f"{host.name} {host.address} {'made' if host in absent else 'up'}")
    say(f"log in with: ssh -F {fleet.keys / 'ssh_config'} {fleet.hosts[0].name}")


def down(engine: Engine, fleet: Fleet, with_image: bool) -> None:
    """Removes the fleet's containers, network, volume, keys and facts, and an engine we started."""
    own = ("--filter", f"label={LABEL}={fleet.name}")
    for kind, listing, removal in (
        ("hosts", ("ps", "-aq", *own), ("rm", "--force", "--volumes")),
        ("network", ("network", "ls", "-q", *own), ("network", "rm")),
        ("volume", ("volume", "ls", "-q", *own), ("volume", "rm")),
    ):
        found = engine.run(*listing).split()
        if found:
            engine.run(*removal, *found)
            say(f"removed {kind}")
    if with_image:
        images = engine.run("images", "--format", "{{.Repository}}:{{.Tag}}", "plantline-node")
        for image in images.split():
            engine.run("rmi", image, check=False)  # refused while another fleet runs on it
    forget(fleet)
    engine.stop_if_ours()


def forget(fleet: Fleet) -> None:
    """Removes what this machine knows of hosts that are gone: keys and facts."""
    shutil.rmtree(fleet.keys, ignore_errors=True)
    forget_facts(fleet.hosts)


def start(engine: Engine, fleet: Fleet, hosts: Sequence[Host]) -> None:
    """Starts stopped hosts and waits until they can be logged in to."""

    def boot(host: Host) -> None:
        engine.run("start", fleet.container(host))
        wait_for_boot(engine, fleet, host)
        wait_for_ssh(fleet, host)

    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(boot, hosts))


def stop(engine: Engine, fleet: Fleet, hosts: Sequence[Host]) -> None:
    """Shuts hosts down as `systemctl poweroff` would; after 60 s their power is cut."""
    engine.run("stop", "--time", "60", *(fleet.container(host) for host in hosts))


def status(engine: Engine, fleet: Fleet) -> bool:
    """Prints one line per host; true if all run."""
    states = {host: engine.state(fleet.container(host)) for host in fleet.hosts}
    for host, state in states.items():
        print(f"{host.name}\t{host.address}\t{state}")
    return set(states.values()) == {"running"}


def say(message: str) -> None:
    """One line of progress."""
    print(f"hosts: {message}", file=sys.stderr, flush=True)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="hosts.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    helps = {
        "up": "make and start the hosts, wait until SSH answers",
        "down": "remove all that `up` made",
        "status": "one line per host; exit code 3 unless all run",
        "stop": "shut hosts down",
        "start": "start hosts again, wait until SSH answers",
    }
    parsers = {name: commands.add_parser(name, help=text) for name, text in helps.items()}
    for name, sub in parsers.items():
        sub.add_argument("inventory", type=Path, metavar="INVENTORY_DIR")
        if name in ("stop", "start"):
            sub.add_argument("host", nargs="+", metavar="HOST")
    parsers["up"].add_argument(
        "--image", type=Path, metavar="TAR", help="root file system in place of the depot's"
    )
    parsers["down"].add_argument(
        "--with-image", action="store_true", help="remove the imported image too"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    arguments = parse_arguments(argv)
    try:
        fleet = read_inventory(arguments.inventory)
        if arguments.command == "down" and shutil.which("docker") is None:
            forget(fleet)
            return 0
        engine = Engine()
        match arguments.command:
            case "up":
                up(engine, fleet, arguments.image)
            case "down":
                down(engine, fleet, arguments.with_image)
            case "start":
                start(engine, fleet, fleet.pick(arguments.host))
            case "stop":
                stop(engine, fleet, fleet.pick(arguments.host))
            case "status":
                return 0 if status(engine, fleet) else 3
    except HostsError as error:
        print(f"hosts: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
