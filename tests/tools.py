"""Programs that the depot holds for the hosts and that tests run on the control node."""

import json
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def from_depot(package, program, folder):
    """Path of a program out of one of the depot's Debian packages, unpacked below `folder`.

    Raises LookupError where the depot does not hold the package.
    """
    path = folder / package / "usr" / "bin" / program
    if not path.exists():
        with tarfile.open(_repository()) as repository:
            debs = [m for m in repository if Path(m.name).name.startswith(f"{package}_")]
            if not debs:
                raise LookupError(f"the depot has no package {package}: `make depot` brings it")
            content = repository.extractfile(debs[0])
            archive = folder / f"{package}.deb"
            archive.write_bytes(content.read())
        subprocess.run(["dpkg-deb", "-x", archive, folder / package], check=True)
    return path


def _repository():
    manifest = ROOT / "depot" / "manifest.json"
    if not manifest.exists():
        raise LookupError("the depot is empty: `make depot` fills it")
    entry = json.loads(manifest.read_text())["artifacts"]["debian-bookworm"]
    return manifest.parent / entry["file"]
