"""How a worker gives way on the processors.

Niceness alone does nothing between sessions where the kernel schedules by autogroup (``man 7
sched``), and every worker has a session of its own; the group's own niceness counts there. In a
container with a control group it is the other way round, so both are set.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_log = logging.getLogger(__name__)

_LOWEST = 19
_BACKGROUND = 10  # a tenth of a processor that a conversion wants too; all of one that is idle
_AUTOGROUP = Path("/proc/self/autogroup")
_PATIENCE_S = 5.0
_PAUSE_S = 0.11  # a process without privileges may write once in 0.1 s, all of them together


def give_way(increment: int) -> None:
    """Lower the priority of this process for good.

    Raises:
        OSError: it stays as it was.
    """
    _set_autogroup(os.nice(increment))


def run_in_background(function: Callable[[], None]) -> None:
    """Run ``function`` at a low priority, which ends with it.

    In a thread of its own: a process without privileges can lower its niceness, never raise it
    again, but a thread takes its niceness along.
    """
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    low = min(_LOWEST, usual + _BACKGROUND)

    def run() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), low)
        function()

    lowered = _tried(low)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="background") as thread:
            thread.submit(run).result()
    finally:
        if lowered and not _tried(usual):
            _log.warning("process %d stays at a low priority", os.getpid())


def _tried(nice: int) -> bool:
    try:
        _set_autogroup(nice)
    except OSError as exc:
        _log.debug("no niceness for the session: %s", exc)
        return False
    return True


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
