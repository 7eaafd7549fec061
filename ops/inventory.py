"""The plant as an inventory of the `pyinfra` command, for questions of the moment:

    pyinfra ops/inventory.py exec -- uptime
    PLANTLINE_INVENTORY=inventories/plant1 pyinfra --limit kafka ops/inventory.py exec -- df -h

pyinfra takes every list here for a group.
"""

import os
from pathlib import Path

from gevent import get_hub

# On import Ansible tries what the real socket functions refuse; gevent would print that refusal.
_hub = get_hub()
_stream, _hub.exception_stream = _hub.exception_stream, None

from ops.fleet import pyinfra_inventory  # noqa: E402 - after the silence above
from ops.plant import Plant  # noqa: E402 - as above

_hub.exception_stream = _stream

_plant = Plant(Path(os.environ.get("PLANTLINE_INVENTORY", "inventories/demo")))
_hosts, _groups = pyinfra_inventory(_plant)
globals().update(_groups | {"all": _hosts})
