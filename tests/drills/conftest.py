"""The plant of the live tests, for what takes longer than a test may."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "live"))

from tests.live.conftest import (  # noqa: F401 - fixtures, and a hook
    bare_hosts,
    client,
    kind,
    pki,
    plant,
    pytest_terminal_summary,
    settings,
)
