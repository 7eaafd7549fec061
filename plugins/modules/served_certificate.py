"""Tells whether a listener shows a certificate that has ended."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.served_certificate import has_ended, trusting

DOCUMENTATION = r"""
module: served_certificate
short_description: Tells whether a listener shows a certificate that has ended
description:
  - A service may go on with an old certificate when there is a new one on the disk.
  - Changes nothing.
options:
  address:
    description: Where the service listens.
    type: str
    required: true
  port:
    description: Its TCP port.
    type: int
    required: true
  tls:
    description: Files on the host to connect with.
    type: dict
    required: true
    suboptions:
      ca:
        description: Certificates of the authorities to trust, PEM.
        type: path
        required: true
      certificate:
        description: Key and certificate in one file, PEM.
        type: path
        required: true
author: Plantline
"""

EXAMPLES = r"""
- name: Look at what Kafka shows
  served_certificate:
    address: 10.0.0.1
    port: 9096
    tls: {ca: /etc/plantline/pki/ca.pem, certificate: /etc/plantline/pki/kafka/bundle.pem}
"""

RETURN = r"""
ended:
  description: Whether it has ended; false for a listener that does not answer.
  type: bool
  returned: always
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "tls": {
                "type": "dict",
                "required": True,
                "options": {
                    "ca": {"type": "path", "required": True},
                    "certificate": {"type": "path", "required": True},
                },
            },
        },
        supports_check_mode=True,
    )
    tls = module.params["tls"]
    try:
        context = trusting(tls["ca"], tls["certificate"])
    except OSError as error:
        module.fail_json(
            msg=f"cannot connect with {tls['certificate']} and {tls['ca']}: {error}. "
            "Role pki writes them: run site.yml without --tags"
        )
    ended = has_ended(module.params["address"], module.params["port"], context)
    module.exit_json(changed=False, ended=ended)


if __name__ == "__main__":
    main()
