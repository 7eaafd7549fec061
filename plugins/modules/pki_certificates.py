"""Keeps a host's certificates: finds what is due, makes keys, puts in place what was signed."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

try:
    from ansible.module_utils import pki_certificates as pki
except ImportError:  # a host that the library is still to be installed on
    pki = None

DOCUMENTATION = r"""
module: pki_certificates
short_description: Keeps keys and certificates of a host
description:
  - The action of this name calls the module on the host, signs on the control node what it asks
    for, and calls it once more.
  - Keys are made on the host and never leave it. What is on a host is written in
    C(plugins/module_utils/pki_certificates.py).
options:
  folder:
    description: Folder of the certificates on the host.
    type: path
    required: true
  ca_dir:
    description: Folder of the plant's CA on the control node; for the action.
    type: path
  identities:
    description: The certificates that the host shall have.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the folder of its files.
        type: str
        required: true
      common_name:
        description: Who the certificate is for; the name of the folder if not given.
        type: str
      names:
        description: Host names and IP addresses that others reach it by.
        type: list
        elements: str
        default: []
      usages:
        description: What it may be used for.
        type: list
        elements: str
        choices: [server, client]
        default: [server, client]
      owner:
        description: User on the host that reads the key; whoever runs the module if not given.
        type: str
      keystore:
        description: Whether Java needs it as a PKCS#12 file.
        type: bool
        default: false
  names:
    description: Host names and IP addresses of all identities, beside their own; for the action.
    type: list
    elements: str
  validity_days:
    description: How long a certificate is valid; for the action.
    type: float
    default: 365
  renew_before_days:
    description: A certificate that ends sooner is replaced.
    type: float
    default: 30
  reissue:
    description: Names of identities to issue anew, whatever they have.
    type: list
    elements: str
    default: []
  metrics_file:
    description: File for the ends of the certificates, for node_exporter; none if not given.
    type: path
  chain:
    description: Certificates of the issuing CA, PEM; from the action.
    type: str
  trusted:
    description: Certificates to trust, PEM; from the action.
    type: str
  java_trust:
    description: The same as a PKCS#12 file, base64; from the action.
    type: str
  now:
    description: The control node's time in seconds since the epoch; from the action.
    type: float
  signed:
    description: Certificates by name of the identity, PEM; from the action.
    type: dict
    default: {}
author: Plantline
"""

EXAMPLES = r"""
- name: Keep the broker's certificate
  pki_certificates:
    folder: /etc/plantline/pki
    ca_dir: inventories/demo/pki
    identities:
      - {name: kafka, names: [node1, 192.0.2.11, localhost], owner: kafka}
"""

RETURN = r"""
due:
  description: Why a certificate was, or is to be, issued, by identity.
  type: dict
  returned: always
ends:
  description: When the certificates stop to be valid, by identity.
  type: dict
  returned: always
trusted:
  description: SHA-256 of each certificate that the host trusts now.
  type: list
  elements: str
  returned: when there is a CA
issuer:
  description: Key that signs now, as certificates name it.
  type: str
  returned: when there is a CA
issuers:
  description: Key that signed, by identity, for all certificates of the host.
  type: dict
  returned: when there is a CA
"""

IDENTITY = {
    "name": {"type": "str", "required": True},
    "common_name": {"type": "str"},
    "names": {"type": "list", "elements": "str", "default": []},
    "usages": {
        "type": "list",
        "elements": "str",
        "choices": ["server", "client"],
        "default": ["server", "client"],
    },
    "owner": {"type": "str"},
    "keystore": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "ca_dir": {"type": "path"},
            "identities": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": IDENTITY,
            },
            "names": {"type": "list", "elements": "str"},
            "validity_days": {"type": "float", "default": 365},
            "renew_before_days": {"type": "float", "default": 30},
            "reissue": {"type": "list", "elements": "str", "default": []},
            "metrics_file": {"type": "path"},
            "chain": {"type": "str"},
            "trusted": {"type": "str"},
            "java_trust": {"type": "str"},
            "now": {"type": "float"},
            "signed": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    if pki is None:
        due = {one["name"]: "there is none" for one in module.params["identities"]}
        if module.check_mode:
            module.exit_json(changed=True, due=due, ends={}, requests={})
        module.fail_json(msg="The host has no python3-cryptography: role pki installs it.")
    try:
        outcome = _reconcile(module.params, dry_run=module.check_mode)
    except pki.PkiError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=outcome.changed,
        diff={"before": outcome.before, "after": outcome.after},
        due=outcome.due,
        ends=outcome.ends,
        issuers=pki.issuers(Path(module.params["folder"])),
        requests=outcome.requests,
    )


def _reconcile(params: dict[str, Any], *, dry_run: bool) -> pki.Outcome:
    folder = Path(params["folder"])
    authority = pki.Authority(
        pki.read_certificates(params["chain"]), pki.read_certificates(params["trusted"])
    )
    outcome = pki.reconcile(
        folder,
        [pki.identity(one) for one in params["identities"]],
        authority,
        base64.b64decode(params["java_trust"]),
        datetime.fromtimestamp(params["now"], UTC),
        timedelta(days=params["renew_before_days"]),
        reissue=frozenset(params["reissue"]),
        signed=params["signed"],
        dry_run=dry_run,
    )
    if params["metrics_file"]:
        pki.write_metrics(
            Path(params["metrics_file"]), folder, authority.issuer, outcome, dry_run=dry_run
        )
    return outcome


if __name__ == "__main__":
    main()
