"""Runs module guarded_file, and logs in anew before the file is kept."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

# How much later than its time the former file may come back: the timer, and the service's reload.
GRACE_S = 15


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible has no types
    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        tried = self._call("try", task_vars)
        result |= tried
        if not result.pop("on_trial", False):
            return result
        try:
            # A connection that stands already would prove nothing.
            self._connection.reset()
            kept = self._call("keep", task_vars)
        except AnsibleConnectionFailure as error:
            what = "with it no new login succeeds; the former state is back"
            if not self._comes_back():
                what = "with it no new login succeeds, nor once the former state was to be back"
            ask = "Does it let in where this run comes from, and how it logs in?"
            message = f"{self._task.args['dest']}: {what}. {ask} {error}"
            return result | {"failed": True, "msg": message}
        return result | ({"failed": True, "msg": kept["msg"]} if kept.get("failed") else {})

    def _call(self, stage: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        arguments = self._task.args | {"stage": stage}
        called: dict[str, Any] = self._execute_module(
            module_name="guarded_file", module_args=arguments, task_vars=task_vars
        )
        return called

    def _comes_back(self) -> bool:
        """Whether a login succeeds once the former file is in place again."""
        deadline = time.monotonic() + int(self._task.args.get("confirm_within_s", 60)) + GRACE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(AnsibleConnectionFailure):
                self._connection.reset()
                self._low_level_execute_command("true")
                return True
            time.sleep(1)  # between two attempts
        return False
