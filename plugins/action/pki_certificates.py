"""Module pki_certificates on a host, and between its two calls the control node's signatures.

One call where nothing is due. The CA's key is read only when there is something to sign.
"""

from __future__ import annotations

import base64
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Ansible finds our module_utils only where it packs a module for a host.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from plugins.module_utils import vault
from plugins.module_utils.pki_authority import Store, fingerprint, java_trust
from plugins.module_utils.pki_certificates import PkiError, identity, key_id, pem


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible has no types
    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        try:
            return result | self._keep(task_vars)
        except PkiError as error:
            return result | {"failed": True, "msg": str(error)}

    def _keep(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        arguments = dict(self._task.args)
        validity, renew_before = (
            float(arguments.get(name, usual))
            for name, usual in (("validity_days", 365), ("renew_before_days", 30))
        )
        if renew_before >= validity:
            raise PkiError(
                f"Certificates valid for {validity:g} days cannot be renewed {renew_before:g} days "
                "before they end: every run would do it. Change pki_validity_days or "
                "pki_renew_before_days."
            )
        store = Store(Path(arguments["ca_dir"]), vault.of_this_run())
        names = arguments.pop("names", [])
        arguments["identities"] = [
            one | {"names": list(dict.fromkeys([*names, *one.get("names", [])]))}
            for one in arguments["identities"]
        ]
        identities = {one["name"]: identity(one) for one in arguments["identities"]}
        if self._task.check_mode and not store.exists():
            due = dict.fromkeys(identities, "there is none")
            return {"changed": True, "due": due, "ends": {}}
        authority = store.authority()
        arguments |= {
            "chain": pem(*authority.chain),
            "trusted": pem(*authority.trusted),
            "java_trust": base64.b64encode(java_trust(authority.trusted)).decode("ascii"),
            "now": time.time(),
        }
        told: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        if requests := told.pop("requests", None):
            now = datetime.fromtimestamp(arguments["now"], UTC)
            signed = {
                name: store.sign(request, identities[name], now, timedelta(days=validity))
                for name, request in requests.items()
            }
            # What was to be issued anew is being brought now.
            arguments |= {"signed": signed, "reissue": []}
            done = self._execute_module(module_args=arguments, task_vars=task_vars)
            done.pop("requests", None)
            told = merged(told, done)
        return told | {
            "trusted": [fingerprint(one) for one in authority.trusted],
            "issuer": key_id(authority.issuer).hex(),
        }


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The result of both calls: what was due is from the first, what is there from the second."""
    if second.get("failed"):
        return second
    diff = {
        side: first.get("diff", {}).get(side, {}) | second.get("diff", {}).get(side, {})
        for side in ("before", "after")
    }
    return second | {"changed": True, "due": first["due"], "diff": diff}
