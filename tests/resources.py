"""Declares resources of Kafka on a running plant, beside those of the plant itself."""

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PLAYBOOK = ROOT / "tests" / "resources.yml"
RECORDS = "/var/lib/plantline"


@dataclass(frozen=True)
class Declared:
    """How a run ended: tasks that changed something; seconds of all, and of those that declare."""

    ok: bool
    changed: int
    seconds: float
    declaring_s: float
    output: str


def declare(inventory: Path, record: str, *arguments: str, **variables: Any) -> Declared:
    """Declares exactly what the role's variables say (kafka_topics, kafka_users, …).

    record: name of what is remembered between runs. arguments: further ones of ansible-playbook.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(variables | {"__kafka_records": f"{RECORDS}/{record}"}, file)
        file.flush()
        command = [sys.executable, "-m", "ansible", "playbook", str(PLAYBOOK), "-i", str(inventory)]
        begin = time.monotonic()
        done = subprocess.run(
            [*command, "-e", f"@{file.name}", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - begin
    changed = re.search(r" changed=(\d+) ", done.stdout)
    output = done.stdout + done.stderr
    # As profile_tasks (ansible.cfg) sums them up.
    declaring = re.findall(r"^kafka : Declare the .* -+ ([\d.]+)s$", done.stdout, re.MULTILINE)
    return Declared(
        ok=done.returncode == 0,
        changed=int(changed[1]) if changed else 0,
        seconds=seconds,
        declaring_s=sum(map(float, declaring)),
        output=output,
    )
