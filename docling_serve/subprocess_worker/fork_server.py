"""multiprocessing's fork server, which has no interface of its own: one per process, made at need.

It looks for the end of this process only once its imports are done, some seconds after its start,
and leaves a folder for its socket behind when this process is killed or ends by a signal.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from multiprocessing import forkserver, process, util
from pathlib import Path

from docling_serve.guardian import Guardian


def adopt(guardian: Guardian) -> None:
    """Start the fork server, without waiting for its imports, and have ``guardian`` end it."""
    forkserver.ensure_running()
    guardian.remove_folder(Path(util.get_temp_dir()))
    if (pid := _pid()) is not None:
        guardian.watch(pid)


def stop() -> None:
    """End the fork server now, if there is one; the next worker start makes another."""
    pid = _pid()
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    config: dict[str, str] = getattr(process.current_process(), "_config", {})
    shutil.rmtree(config.pop("tempdir", ""), ignore_errors=True)


def _pid() -> int | None:
    pid: int | None = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    return pid
