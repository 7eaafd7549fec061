"""Puts a file in place for trial, and keeps it only if a new login still comes through."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: guarded_file
short_description: Writes a file whose mistake could shut Ansible out, and takes it back if it does
description:
  - The new content is checked, put in place and activated. Then the connection is closed and opened
    anew. Only if that succeeds is the file kept.
  - Before anything is activated, systemd is told to put the former file back, and to activate
    that, after I(confirm_within_s). The new connection calls it off. So it does not matter why the
    control node cannot come back, nor whether it still runs.
  - The file is root's, its folder must be there.
options:
  dest:
    description: The file.
    type: path
    required: true
  content:
    description: What it is to hold.
    type: str
    required: true
  mode:
    description: Its mode.
    type: str
    default: "0600"
  validate:
    description: >-
      Command that checks a file, named by C(%s). Not run in check mode where it is not there yet.
    type: list
    elements: str
    required: true
  activate:
    description: Command that makes the service use the file.
    type: list
    elements: str
    required: true
  deactivate:
    description: Command that makes the service do without the file.
    type: list
    elements: str
    required: true
  in_force:
    description: >-
      Whether the service uses the file as it is in place. If not, it is activated, changed or not.
    type: bool
    default: true
  confirm_within_s:
    description: After how many seconds without a new login the former file comes back.
    type: int
    default: 60
  stage:
    description: >-
      C(try) puts the file in place, C(keep) calls the return of the former one off. The action
      plugin calls both.
    type: str
    choices: [try, keep]
    default: try
author: Plantline
"""

EXAMPLES = r"""
- name: Put the settings of sshd in place
  guarded_file:
    dest: /etc/ssh/sshd_config.d/00-plantline.conf
    content: "PasswordAuthentication no\n"
    validate: [/usr/sbin/sshd, -t, -f, "%s"]
    activate: [systemctl, reload, ssh.service]
    deactivate: [systemctl, reload, ssh.service]
"""

RETURN = r"""
on_trial:
  description: The file waits for a new login to be kept.
  type: bool
  returned: by stage C(try), when it put the file in place
"""


class Guarded:
    """The file, its former content beside it while the new one is on trial, and the timer."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._dest = Path(module.params["dest"])
        self._former = self._dest.with_name(f".{self._dest.name}.former")
        self._unit = f"plantline-return-{self._dest.stem}"

    def put_on_trial(self) -> None:
        """Stage try; ends the module."""
        wanted: str = self._module.params["content"]
        before = self._dest.read_text(encoding="utf-8") if self._dest.exists() else None
        diff = {"before": before or "", "after": wanted, "before_header": str(self._dest)}
        diff["after_header"] = str(self._dest)
        if self._on_trial():
            self._fail("another run tries it just now", "Wait a minute, and run again")
        if before == wanted and self._module.params["in_force"]:
            mode = self._module.params["mode"]
            changed = self._module.set_mode_if_different(str(self._dest), mode, False)
            self._module.exit_json(changed=changed, diff=diff)
        staged = self._checked(wanted)
        if self._module.check_mode:
            self._module.exit_json(changed=True, diff=diff)
        self._arm(before is not None)
        self._module.atomic_move(staged, str(self._dest))
        self._module.set_mode_if_different(str(self._dest), self._module.params["mode"], False)
        code, out, error = self._module.run_command(self._module.params["activate"])
        if code:
            # Sooner than the timer would: this login still stands.
            self._run("systemctl", "start", f"{self._unit}.service")
            self._disarm()
            self._fail("could not be activated, and the former state is back", out + error)
        self._module.exit_json(changed=True, on_trial=True, diff=diff)

    def keep(self) -> None:
        """Stage keep; ends the module."""
        if not self._on_trial():
            self._fail("the former state is back", "The new login came too late")
        self._disarm()
        self._former.unlink(missing_ok=True)
        self._module.exit_json(changed=True)

    def _on_trial(self) -> bool:
        command = ["systemctl", "is-active", "--quiet", f"{self._unit}.timer"]
        code: int = self._module.run_command(command)[0]
        return code == 0

    def _checked(self, wanted: str) -> str:
        """Path of a file with the new content, which its checker has passed."""
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=self._module.tmpdir, delete=False
        ) as file:
            file.write(wanted)
        command = [part.replace("%s", file.name) for part in self._module.params["validate"]]
        if self._module.check_mode and shutil.which(command[0]) is None:
            return file.name
        code, out, error = self._module.run_command(command)
        if code:
            self._fail("the new content is refused", out + error)
        return file.name

    def _arm(self, was_there: bool) -> None:
        dest, former = shlex.quote(str(self._dest)), shlex.quote(str(self._former))
        if was_there:
            self._run("cp", "--preserve", str(self._dest), str(self._former))
            back = f"mv {former} {dest} && {shlex.join(self._module.params['activate'])}"
        else:
            back = f"rm {dest} && {shlex.join(self._module.params['deactivate'])}"
        after = f"--on-active={self._module.params['confirm_within_s']}"
        precise = "--timer-property=AccuracySec=1s"
        self._run("systemd-run", f"--unit={self._unit}", after, precise, "sh", "-c", back)

    def _disarm(self) -> None:
        self._run("systemctl", "stop", f"{self._unit}.timer")

    def _run(self, *command: str) -> None:
        code, out, error = self._module.run_command(list(command))
        if code:
            self._fail(f"`{shlex.join(command[:3])}` failed", out + error)

    def _fail(self, what: str, why: str) -> None:
        self._module.fail_json(msg=f"{self._dest}: {what}. {why.strip()}")


def main() -> None:
    texts = {"type": "list", "elements": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "dest": {"type": "path", "required": True},
            "content": {"type": "str", "required": True},
            "mode": {"type": "str", "default": "0600"},
            "validate": texts,
            "activate": texts,
            "deactivate": texts,
            "in_force": {"type": "bool", "default": True},
            "confirm_within_s": {"type": "int", "default": 60},
            "stage": {"type": "str", "choices": ["try", "keep"], "default": "try"},
        },
        supports_check_mode=True,
    )
    guarded = Guarded(module)
    if module.params["stage"] == "keep":
        guarded.keep()
    guarded.put_on_trial()


if __name__ == "__main__":
    main()
