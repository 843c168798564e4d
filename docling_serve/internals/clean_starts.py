"""The environment of what multiprocessing starts: workers, the fork server, the resource tracker.

multiprocessing has no argument for it; each process gets a copy of ours. A secret of ours would
stay in its memory, even if the process deletes it later.

Read from Python 3.10 to 3.14 (``multiprocessing.util.spawnv_passfds``).
Guarded by tests/unit/internals/test_clean_starts.py.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import util

_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def starting_with(environ: Callable[[], Mapping[str, str]]) -> Iterator[None]:
    """Give processes that multiprocessing starts meanwhile what ``environ`` returns then."""

    def start(path: str | bytes, arguments: Sequence[str | bytes], passed: Sequence[int]) -> int:
        started = subprocess.Popen(
            arguments,
            executable=path,
            env=environ(),
            pass_fds=tuple(map(int, passed)),
            restore_signals=False,
        )
        started.returncode = 0  # multiprocessing waits for it
        return started.pid

    with _one_at_a_time:
        usual = util.spawnv_passfds
        util.spawnv_passfds = start  # type: ignore[assignment]  # it takes what is asked here
        try:
            yield
        finally:
            util.spawnv_passfds = usual
