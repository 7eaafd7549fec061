"""Module preflight_host, with the control node's time before and after the question."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc] # Ansible has no types
    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        result["asked_at"] = time.time()
        result |= self._execute_module(module_args=self._task.args, task_vars=task_vars)
        result["answered_at"] = time.time()
        return result
