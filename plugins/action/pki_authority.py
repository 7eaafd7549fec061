"""Makes the plant's CA on the control node, and changes it in phases; contacts no host.

    pki_authority: {folder: …, plant: …}                    # makes it if there is none
    pki_authority: {folder: …, plant: …, change: begin}     # makes the one that follows
    pki_authority: {folder: …, plant: …, change: advance, hosts: {node1: {…result…}, …}}

`advance` takes what pki_certificates returned on every host and refuses to go on unless all of them
have taken in the present phase. Returns `phase`. plugins/module_utils/pki_authority.py has the
phases.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Ansible finds our module_utils only where it packs a module for a host.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from plugins.module_utils import vault
from plugins.module_utils.pki_authority import Phase, Store, behind
from plugins.module_utils.pki_certificates import PkiError


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible has no types
    _VALID_ARGS = frozenset({"folder", "plant", "validity_days", "change", "hosts"})
    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            return result | self._change(self._task.args)
        except PkiError as error:
            return result | {"failed": True, "msg": str(error)}

    def _change(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        store = Store(Path(arguments["folder"]), vault.of_this_run())
        change = arguments.get("change")
        made = (
            str(arguments["plant"]),
            datetime.now(UTC),
            timedelta(days=float(arguments.get("validity_days", 3650))),
        )
        if not store.exists():
            changed = self._task.check_mode or store.make(*made)
            return {"changed": changed, "phase": str(Phase.STEADY)}
        before = store.phase()
        if change == "begin" and not self._task.check_mode:
            store.begin(*made)
        if change == "advance" and before is not Phase.STEADY:
            problems = behind(store.authority(), arguments["hosts"])
            # In a dry run the hosts stay behind.
            if problems and not self._task.check_mode:
                raise PkiError(f"The change of CA stays in phase {before}:\n" + "\n".join(problems))
            if not self._task.check_mode:
                store.advance()
        phase = store.phase()
        expected = phase if not self._task.check_mode else foreseen(change, before)
        return {"changed": expected is not before, "phase": str(phase)}


def foreseen(change: str | None, before: Phase) -> Phase:
    """The phase that a real run would bring."""
    order = [Phase.STEADY, Phase.TRUST, Phase.REISSUE, Phase.DROP, Phase.STEADY]
    if change == "begin":
        return Phase.TRUST if before is Phase.STEADY else before
    if change == "advance" and before is not Phase.STEADY:
        return order[order.index(before) + 1]
    return before
