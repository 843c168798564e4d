"""How a worker gives way on the processors.

Niceness alone does nothing between sessions where the kernel schedules by autogroup (``man 7
sched``), and every worker has a session of its own; the group's own niceness counts there. In a
container with a control group it is the other way round, so both are set.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

_AUTOGROUP = Path("/proc/self/autogroup")
_PATIENCE_S = 5.0
_PAUSE_S = 0.11  # a process without privileges may write once in 0.1 s, all of them together


def give_way(increment: int) -> None:
    """Lower the priority of this process for good.

    Raises:
        OSError: it stays as it was.
    """
    _set_autogroup(os.nice(increment))


def _set_autogroup(nice: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            _AUTOGROUP.write_text(str(nice))
        except FileNotFoundError:
            return  # a kernel without them
        except OSError as exc:
            if exc.errno != errno.EAGAIN or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        else:
            return
