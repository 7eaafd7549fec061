"""Brings artifacts of the depot to a host and unpacks them, where it has not got them already.

    artifact:
      artifacts:
        - {name: kafka, dest: /opt/plantline/kafka-3.8.1}
        - {name: jmx-agent, dest: /opt/plantline/lib/jmx-agent, strip: 0}
    notify: …

name: the artifact's in depot.yml. dest: a folder on the host that holds the artifact's content and
nothing else. strip: how many leading folders of the archive are left out, 1 if not given.

The host is asked once for all of them, and copied to only where something differs. The depot is
variable artifact_depot_dir, else the project's. Returns installed: names of what was (in a dry run:
would be) brought.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

DEPOT = Path(__file__).resolve().parents[2] / "depot"

# Unpacked beside the old content and renamed when complete: a cut at any moment leaves a folder
# whose marker tells what is in it, or none.
UNPACK = """
umask 022
archive=$1 sha512=$2 dest=$3 strip=$4
trap 'rm -f "$archive"' EXIT
if ! echo "$sha512  $archive" | sha512sum --check --status; then
    echo "not what the depot's manifest says: \\`make depot\\` mends it." >&2
    exit 1
fi
rm -rf "$dest.new" "$dest.old"
mkdir -p "$dest.new"
tar --extract --file "$archive" --directory "$dest.new" --strip-components "$strip" \\
    --no-same-owner --no-same-permissions
printf %s "$sha512" > "$dest.new/.sha512"
if [ -e "$dest" ]; then mv "$dest" "$dest.old"; fi
mv "$dest.new" "$dest"
rm -rf "$dest.old"
"""


@dataclass(frozen=True)
class Artifact:
    """What is to be where: an archive of the depot, its digest, and the folder for its content."""

    name: str
    file: Path
    sha512: str
    dest: str
    strip: int

    @property
    def marker(self) -> str:
        """The file beside the content that holds its digest."""
        return f"{self.dest}/.sha512"


def wanted(entries: list[Mapping[str, Any]], depot: Path) -> list[Artifact]:
    """The artifacts asked for, as the depot holds them. Raises AnsibleActionFail."""
    try:
        held = json.loads((depot / "manifest.json").read_text("utf-8"))["artifacts"]
    except OSError:
        held = {}
    if missing := [entry["name"] for entry in entries if entry["name"] not in held]:
        raise AnsibleActionFail(
            f"The depot has no artifact {', '.join(missing)} (in {depot}): `make depot` brings it."
        )
    return [
        Artifact(
            name=entry["name"],
            file=depot / held[entry["name"]]["file"],
            sha512=held[entry["name"]]["sha512"],
            dest=entry["dest"],
            strip=int(entry.get("strip", 1)),
        )
        for entry in entries
    ]


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible has no types
    TRANSFERS_FILES = True
    _VALID_ARGS = frozenset({"artifacts"})

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        depot = self._templar.template(variables.get("artifact_depot_dir", str(DEPOT)))
        artifacts = wanted(self._task.args["artifacts"], Path(depot))
        found = self._markers(artifacts)
        due = [one for one in artifacts if found.get(one.marker) != one.sha512]
        if not self._task.check_mode:
            for artifact in due:
                self._install(artifact, variables)
        result |= {"changed": bool(due), "installed": [one.name for one in due]}
        if due:
            result["diff"] = [
                {
                    "before_header": one.marker,
                    "after_header": one.marker,
                    "before": f"{found.get(one.marker, '(none)')}\n",
                    "after": f"{one.sha512}\n",
                }
                for one in due
            ]
        return result

    def _markers(self, artifacts: list[Artifact]) -> dict[str, str]:
        """Digest by marker file, of those that are there."""
        files = shlex.join(one.marker for one in artifacts)
        script = f'for file in {files}; do test ! -f "$file" || echo "$(cat "$file") $file"; done'
        lines = self._shell(script, "looking at what the host has").splitlines()
        return {file: sha512 for sha512, _, file in (line.partition(" ") for line in lines)}

    def _install(self, artifact: Artifact, variables: dict[str, Any]) -> None:
        # A fixed place, so that what an interrupted run leaves is overwritten by the next one.
        archive = f"{artifact.dest}.archive"
        self._shell(f"mkdir -p {shlex.quote(str(Path(artifact.dest).parent))}", artifact.name)
        task = self._task.copy()
        task.args = {
            "src": str(artifact.file),
            "dest": archive,
            "mode": "0600",
            "decrypt": False,
        }
        copied = self._shared_loader_obj.action_loader.get(
            "ansible.legacy.copy",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        ).run(task_vars=variables)
        if copied.get("failed"):
            raise AnsibleActionFail(f"{artifact.name}: {copied.get('msg', 'not copied')}")
        words = ["sh", archive, artifact.sha512, artifact.dest, str(artifact.strip)]
        self._shell(f"/bin/sh -euc {shlex.quote(UNPACK)} {shlex.join(words)}", artifact.name)

    def _shell(self, script: str, doing: str) -> str:
        """Output of a script on the host. Raises AnsibleActionFail with what it complained of."""
        done = self._low_level_execute_command(script, executable="/bin/sh")
        if done["rc"]:
            raise AnsibleActionFail(f"{doing}: {done['stderr'].strip() or done['stdout'].strip()}")
        return str(done["stdout"])
