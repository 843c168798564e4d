"""How a worker yields the processors to other processes.

Niceness alone does nothing between sessions where the kernel schedules by autogroup (``man 7
sched``), and every worker has its own session; there the group's own niceness counts. In a
container with a control group it is the other way round, so both are set.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

_AUTOGROUP = Path("/proc/self/autogroup")
_PATIENCE_S = 5.0
_PAUSE_S = 0.11  # without privileges, all processes together may write once per 0.1 s


def give_way(increment: int) -> None:
    """Permanently lower the priority of this process.

    Raises:
        OSError: the priority is unchanged.
    """
    _set_autogroup(os.nice(increment))


def _set_autogroup(nice: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            _AUTOGROUP.write_text(str(nice))
        except FileNotFoundError:
            return  # a kernel without autogroups
        except OSError as exc:
            if exc.errno != errno.EAGAIN or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        else:
            return
