"""A support bundle: what somebody far away needs to see, in one archive, without secrets."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from ops import status
from ops.fleet import Fleet, NoAnswerError
from ops.plant import ROOT, Plant
from ops.remote.redact import redact
from ops.text import bytes_text

TIMEOUT_S = 120
README = """Support bundle of plant {plant}, made {now:%Y-%m-%d %H:%M:%S} on the control node.

status.txt       what `python -m ops status` showed
control/         versions, the inventory and the depot's manifest
<host>/          journals and logs (their ends), settings, the system's own state; on one broker
                 kafka.json, on the first Flink master flink.json

Passwords, keys, tokens and the like were removed on the hosts; <removed> stands in their places.
{silent}"""


def collect(plant: Plant, fleet: Fleet, out: Path, now: datetime) -> str:
    """Make the bundle, readable by its owner only; returns what to tell the user."""
    begin = time.monotonic()
    known = plant.secrets()
    view = status.look(plant, fleet)
    seconds = time.monotonic() - begin
    answers = fleet.ask("gather", questions(plant, fleet, sorted(known)), TIMEOUT_S)
    silent = dict(fleet.unreachable)
    texts = {f"control/{name}": text for name, text in control(plant)}
    texts["status.txt"] = status.screen(view, now, seconds)
    for host, answer in answers.items():
        if isinstance(answer, NoAnswerError):
            silent[host] = str(answer)
        else:
            texts |= {f"{host}/{name}": text for name, text in answer.items()}
    missing = "".join(f"\n{host} did not answer: {why}" for host, why in silent.items())
    texts["README.txt"] = README.format(plant=plant.name, now=now, silent=missing)
    # Once more for all: what came from here has not been looked through yet.
    clean = {name: redact(text, known) for name, text in texts.items()}
    word = re.sub(r"[^\w.-]+", "-", plant.name)
    file = write(out, f"support-{word}-{now:%Y%m%dT%H%M%S}", clean, now)
    hosts = len(answers) - sum(isinstance(answer, NoAnswerError) for answer in answers.values())
    size = bytes_text(file.stat().st_size)
    return (
        f"{file} ({size}): {hosts} of {len(plant.hosts)} hosts.{missing}\n"
        "Secrets are removed by rule. Look through it before it leaves your hands."
    )


def questions(plant: Plant, fleet: Fleet, known: list[str]) -> dict[str, dict[str, object]]:
    """What each host is asked for."""
    asked: dict[str, dict[str, object]] = {host: {"known": known} for host in fleet.connections}
    broker, kafka = status.kafka_question(plant, fleet)
    if broker:
        asked[broker]["kafka"] = kafka
    master = fleet.first(plant.group("flink_masters")[:1])
    if master:
        asked[master]["flink"] = True
    return asked


def control(plant: Plant) -> Iterator[tuple[str, str]]:
    """What the control node contributes."""
    products = ("ansible-core", "pyinfra", "confluent-kafka", "kafka-python")
    yield "versions.json", json.dumps({name: version(name) for name in products}, indent=1)
    yield "revision.txt", subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    manifest = ROOT / "depot" / "manifest.json"
    if manifest.is_file():
        yield "depot-manifest.json", manifest.read_text("utf-8")
    for file in sorted(plant.folder.rglob("*")):
        if file.is_file() and file.suffix in {".yml", ".yaml", ".ini", ".json", ""}:
            yield f"inventory/{file.relative_to(plant.folder)}", file.read_text("utf-8", "replace")


def write(out: Path, name: str, texts: Mapping[str, str], now: datetime) -> Path:
    """Write out/<name>.tar.gz; it appears there whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    file, part = out / f"{name}.tar.gz", out / f".{name}.part"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened, tarfile.open(fileobj=opened, mode="w:gz") as tar:
        for path, text in sorted(texts.items()):
            content = text.encode()
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(now.timestamp())
            tar.addfile(entry, io.BytesIO(content))
    part.rename(file)
    return file
