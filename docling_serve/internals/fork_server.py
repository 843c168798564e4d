"""multiprocessing's fork server, which has no public interface: one per process, made on demand.

It checks whether this process has exited only once its imports are done, some seconds after its
start. It leaves a folder for its socket behind when this process is killed or dies from a signal.

Read from Python 3.10 to 3.13 (``multiprocessing.forkserver``).
Guarded by tests/integration/test_start_methods.py.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from multiprocessing import forkserver, process, util
from pathlib import Path

from docling_serve.process.guardian import Guardian
from docling_serve.process.safe_path import safe_path_for_children

_LAST = -100  # after everything that may still use it


@dataclass(frozen=True)
class ForkServer:
    """What remains when this process is killed: a process, and the folder of its socket."""

    pid: int
    folder: Path

    def entrust_to(self, guardian: Guardian) -> None:
        """Make ``guardian`` end it, and remove its folder."""
        guardian.remove_folder(self.folder)
        guardian.watch(self.pid)

    def take_back_from(self, guardian: Guardian) -> None:
        """It has exited: another process may have its PID by now."""
        guardian.forget(self.pid)


def running() -> ForkServer:
    """The fork server; started if there is none, without waiting for its imports."""
    folder = _temporary_folder()
    with safe_path_for_children():  # before 3.13 it does not get our sys.path
        forkserver.ensure_running()
    number = pid()
    assert number is not None
    return ForkServer(number, folder)


def stop() -> None:
    """End the fork server now, if there is one; the next worker start makes another."""
    number = pid()
    if number is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    shutil.rmtree(_config().pop("tempdir", ""), ignore_errors=True)


def _temporary_folder() -> Path:
    """Where multiprocessing puts its socket. Made here, because a folder it makes itself must still
    exist when the interpreter exits, or the exit prints a traceback."""
    config = _config()
    if "tempdir" not in config:
        config["tempdir"] = tempfile.mkdtemp(prefix="pymp-")
        util.Finalize(None, shutil.rmtree, (config["tempdir"], True), exitpriority=_LAST)
    return Path(config["tempdir"])


def _config() -> dict[str, str]:
    config: dict[str, str] = getattr(process.current_process(), "_config", {})
    return config


def pid() -> int | None:
    """The fork server's process; None if there is none."""
    number: int | None = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    return number
