"""The options of every module that asks brokers; the same as in module_utils/kafka_client.py."""


class ModuleDocFragment:
    """Documentation fragment `kafka_client`."""

    DOCUMENTATION = r"""
options:
  bootstrap_servers:
    description: Brokers to ask, C(host:port) separated by commas.
    type: str
    required: true
  tls:
    description: Files on the host to connect with by certificate; in plaintext if not given.
    type: dict
    suboptions:
      ca:
        description: Certificates of the authorities to trust, PEM.
        type: path
        required: true
      certificate:
        description: Key and certificate in one file, PEM.
        type: path
        required: true
"""
