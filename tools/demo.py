"""The demo: depot, model, three hosts, the whole plant on them, machine data through it, a report.

    demo.py [--inventory inventories/demo] [--data DIR]

Without --data a seeded simulator is the plant's machinery; with it, recorded data is replayed (and
the model trained on the part of it that is known to be normal). Every step can run again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out"
CLIENT = OUT / "client.conf"
TRUTH = OUT / "truth.json"
REPORT = OUT / "report.html"
TRAINING = ROOT / ".venv-train" / "bin" / "python"

# Twelve pumps for forty minutes of their own time, in forty seconds of ours.
PUMPS, READINGS, SPEED = 12, 12 * 2400, 60
NORMAL_READINGS = 12 * 3600
# Longer than a partition may stay idle (plant model, idle_timeout_s): what comes after is the end.
IDLE_S = 40


class Steps:
    """Runs commands one after the other and remembers how long each took."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, float]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A named step; its heading is printed before, its time kept after."""
        print(f"\n== {name}", flush=True)
        begin = time.monotonic()
        yield
        self.taken.append((name, time.monotonic() - begin))

    def run(self, name: str, command: Sequence[str | Path]) -> None:
        """A step that is one command. Its failure ends the demo with its exit code."""
        with self.step(name):
            result = subprocess.run(list(map(str, command)), cwd=ROOT, check=False)
        if result.returncode:
            print(f"\n{name}: failed (exit code {result.returncode})", file=sys.stderr)
            raise SystemExit(result.returncode)


def tool(name: str, *arguments: str | Path) -> list[str | Path]:
    """A command of flink_jobs.tools."""
    return [sys.executable, "-m", f"flink_jobs.tools.{name}", *arguments]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inventory", type=Path, default=Path("inventories/demo"))
    parser.add_argument("--data", type=Path, help="recorded machine data to replay")
    arguments = parser.parse_args()
    if arguments.data and not arguments.data.is_dir():
        parser.error(f"{arguments.data} is not a folder")

    inventory: Path = arguments.inventory
    plant = inventory / "group_vars" / "all" / "plant.yml"
    steps = Steps()
    steps.run("depot", [sys.executable, "tools/depot.py", "fill"])
    train(steps, plant, arguments.data)
    steps.run("secrets", [sys.executable, "tools/vault.py", "make", inventory])
    steps.run("test hosts", [sys.executable, "tools/hosts.py", "up", inventory])
    steps.run("site.yml", ["ansible-playbook", "site.yml", "-i", inventory])
    begin = int(time.time() * 1000)
    stream(steps, plant, arguments.data)
    steps.run("report", report(plant, begin))
    summary(steps, inventory)


def train(steps: Steps, plant: Path, data: Path | None) -> None:
    """Make the model that site.yml deploys, from recorded or simulated normal operation."""
    normal = data or OUT / "normal.csv"
    if data is None:
        simulate = tool("simulate", "--plant", plant, "--machines", str(PUMPS), "--seed", "1")
        simulate += ["--readings", str(NORMAL_READINGS), "--faults", "none", "--out", normal]
        steps.run("normal operation, simulated", simulate)
    fit: list[str | Path] = [TRAINING, "-m", "flink_jobs.tools.train", "--type", "pump"]
    fit += ["--plant", plant, "--data", normal, "--out", OUT / "models" / "pump-anomaly.onnx"]
    steps.run("model", fit)


def stream(steps: Steps, plant: Path, data: Path | None) -> None:
    """Send machine data and show what comes out of the other end while it does."""
    common: list[str | Path] = ["--config", CLIENT, "--plant", plant]
    if data:
        source = tool("replay", data, *common, "--align", "now", "--truth", TRUTH)
    else:
        source = tool("simulate", *common, "--machines", str(PUMPS), "--seed", "2")
        source += ["--readings", str(READINGS), "--truth", TRUTH]
    source += ["--speed", str(SPEED), "--close", "--quiet"]
    with steps.step("machine data: scored windows and alerts as they come"):
        watch = subprocess.Popen(
            list(map(str, tool("watch", *common, "--since", "end", "--until-idle", str(IDLE_S)))),
            cwd=ROOT,
        )
        try:
            sent = subprocess.run(list(map(str, source)), cwd=ROOT, check=False)
            if sent.returncode:
                watch.terminate()
                raise SystemExit(sent.returncode)
            seen = watch.wait()
        finally:
            watch.kill()
    if seen:
        raise SystemExit(seen)


def report(plant: Path, since: int) -> list[str | Path]:
    """The command that reports on what has arrived at Kafka since then (epoch ms)."""
    command = tool("report", "--config", CLIENT, "--plant", plant, "--since", str(since))
    return [*command, "--truth", TRUTH, "--out", REPORT]


def summary(steps: Steps, inventory: Path) -> None:
    """What took how long, and where to look next."""
    print("\n== done")
    for name, seconds in steps.taken:
        print(f"  {seconds:7.1f} s  {name}")
    print(f"  {sum(seconds for _, seconds in steps.taken):7.1f} s  in all")
    print(
        f"""
Where to look next:
  a report on the machines   out/report.html, in any browser
  Prometheus, Flink's pages  https://10.203.77.13:9090, https://10.203.77.11:8081: for a browser
                             with the certificate out/pki/demo/operator/keystore.p12
  any Kafka client           out/client.conf (librdkafka), out/client.properties (Java)
  what comes out             .venv/bin/python -m flink_jobs.tools.watch --since beginning
  more machines              .venv/bin/python -m flink_jobs.tools.simulate --machines 50 --speed 10
  ask the plant how it is    make verify
  run it again: no change    .venv/bin/ansible-playbook site.yml -i {inventory}
  remove it                  make down
"""
    )


if __name__ == "__main__":
    main()
