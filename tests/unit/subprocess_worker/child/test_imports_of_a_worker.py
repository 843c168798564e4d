"""What a worker imports before anything else."""

from __future__ import annotations

import subprocess
import sys

_OF_THE_SERVER = """
import sys
import docling_serve.subprocess_worker.child.main
print([name for name in sys.modules if name.startswith("docling_serve.subprocess_worker.pool")])
"""


def test_a_worker_imports_nothing_of_the_pool() -> None:
    """It is the server's half, and would cost every start a tenth of a second."""
    done = subprocess.run(
        [sys.executable, "-c", _OF_THE_SERVER], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
