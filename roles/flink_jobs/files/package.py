"""Build the wheel of the package flink_jobs if its sources changed, and say what jobs are made of.

    package.py SOURCE_DIR OUT_DIR [FILE...]

Prints JSON: ``wheel`` (path), ``wheel_sha256``, ``code_sha256``, ``files`` (path -> sha256 of each
FILE) and ``built`` (whether the wheel was built by this call). The checksums of wheel and code are
of their sources, so they do not depend on what builds them; ``code_sha256`` leaves out what jobs
never import (tools, plant model, deployment, metrics): a change there does not restart them.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

PACKAGE = "flink_jobs"
NOT_OF_JOBS = {
    *("tools", "deploy.py", "plant.py", "plant.schema.json", "document.py", "registry.py"),
    *("exporter.py", "picture.py", "heartbeat.py", "beat.py", "heartbeat.onnx"),
}
# The earliest time that a zip file can hold: the same sources make the same wheel, to the byte.
SOURCE_DATE_EPOCH = "315532800"


def sources(root: Path) -> list[Path]:
    """The files that the wheel is made from, relative to the root."""
    package = [
        path.relative_to(root)
        for path in (root / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    return [Path("pyproject.toml"), *sorted(package)]


def checksum(root: Path, files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(
            f"{file}\0{hashlib.sha256((root / file).read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


def build(root: Path, files: Iterable[Path], target: Path) -> None:
    """Build the wheel into the folder target, which appears complete or not at all."""
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        # From a copy: setuptools leaves a folder build/ behind, and packs its stale files later.
        tree, wheels = Path(scratch, "tree"), Path(scratch, "wheels")
        for file in files:
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / file, tree / file)
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
        subprocess.run(
            [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(wheels), str(tree)],
            check=True,
            env={"SOURCE_DATE_EPOCH": SOURCE_DATE_EPOCH, "PATH": "/usr/bin:/bin", "HOME": scratch},
            stdout=sys.stderr,
        )
        wheels.rename(target)


def main() -> int:
    root, out, *files = (Path(argument) for argument in sys.argv[1:])
    wheel_files = sources(root)
    wheel_sha256 = checksum(root, wheel_files)
    of_jobs = [file for file in wheel_files if NOT_OF_JOBS.isdisjoint(file.parts)]
    target = out / wheel_sha256[:16]
    missing = not target.is_dir()
    if missing:
        out.mkdir(parents=True, exist_ok=True)
        build(root, wheel_files, target)
    answer = {
        "wheel": str(next(target.glob("*.whl")).resolve()),
        "wheel_sha256": wheel_sha256,
        "code_sha256": checksum(root, of_jobs),
        "files": {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "built": missing,
    }
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
