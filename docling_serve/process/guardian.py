"""A small process that cleans up after this one, however it ends.

SIGKILL leaves no time for clean-up, so a shell waits for the end of its standard input, which the
kernel closes when this process is gone. It then kills the process groups it was given, even those
of workers that are stuck in native code, and removes the folders it was given.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path

#: Reads "watch PID", "forget PID" and "folder PATH" lines. Uses parameter expansion only, so that
#: it starts no other process until the end.
_SCRIPT = r"""
groups=
while read -r what value; do
  case $what in
    watch) groups="$groups $value " ;;
    forget) groups="${groups%% $value *}${groups#* $value }" ;;
    folder) set -- "$@" "$value" ;;
  esac
done
for group in $groups; do kill -KILL "-$group" "$group" 2>/dev/null; done
[ $# = 0 ] || { rm -rf -- "$@"; sleep 1; exec rm -rf -- "$@"; }
"""


class Guardian:
    """Starts with its first command. Thread-safe; if it dies, the server runs without it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._shared: tuple[int, ...] = ()

    def watch(self, pid: int) -> None:
        """Kill the process group that ``pid`` leads when this process is gone."""
        self._tell(f"watch {pid}")

    def forget(self, pid: int) -> None:
        """``pid`` has exited."""
        self._tell(f"forget {pid}")

    def share(self, descriptor: int) -> None:
        """Have the guardian hold ``descriptor``, too: a lock on it is free only once both processes
        and the workers are gone. Call this before its first command."""
        self._shared = (*self._shared, descriptor)

    def remove_folder(self, folder: Path) -> None:
        """Remove ``folder`` when this process is gone. No line breaks in its name."""
        self._tell(f"folder {folder}")

    def dismiss(self) -> None:
        """Nothing is left to clean up: end the guardian before it does anything."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()

    def _tell(self, line: str) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._process is None:
                self._process = _start(self._shared)
            assert self._process.stdin is not None
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


def _start(shared: tuple[int, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["/bin/sh", "-c", _SCRIPT, "docling-serve-guardian"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", os.defpath)},  # without our secrets
        text=True,
        pass_fds=shared,
        start_new_session=True,  # Ctrl-C must not reach it
    )
