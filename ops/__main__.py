"""`python -m ops`. pyinfra needs gevent in place of blocking calls before it is imported.

Ansible comes first: on import it tries the real socket functions, and gevent's would complain.
"""

import ops.plant  # noqa: I001, F401 - before gevent, for what its import does
from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402 - after the patch, on purpose

from ops.cli import main  # noqa: E402 - after the patch, too

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
