"""Start a server of our own in one of the modes, and stop it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

import httpx
from typing_extensions import Self

from .plan import CONFIG_FILE, Mode

READY_WITHIN_S = 120.0
STOP_WITHIN_S = 20.0
TASK_WITHIN_S = 240


class DemoError(Exception):
    """What the demonstration cannot go on from, in words for the terminal."""


class DemoServer:
    """``docling-serve run`` on a free loopback port, with a log file.

    It starts in an empty folder and without the caller's DOCLING_SERVE_* variables, so that the
    demonstration is the same everywhere.
    """

    def __init__(self, mode: Mode, log_file: Path) -> None:
        self._log_file = log_file
        self._folder = tempfile.TemporaryDirectory(prefix="docling-serve-demo-")
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "docling_serve", "run"]
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=self._folder.name,
                env=_environment(mode),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """The gateway's process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Return when the server takes tasks.

        Raises:
            DemoError: it ended, or was not ready within ``READY_WITHIN_S``.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise DemoError(f"the server ended at its start:\n{self._log_tail()}")
            try:
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            time.sleep(0.1)
        raise DemoError(f"the server was not ready in {READY_WITHIN_S:g} s:\n{self._log_tail()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end(self._process, STOP_WITHIN_S)
        self._folder.cleanup()

    def _log_tail(self) -> str:
        return "\n".join(self._log_file.read_text(errors="replace").splitlines()[-15:])


def _environment(mode: Mode) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DOCLING_SERVE_", "UVICORN_"))
    }
    return {
        **kept,
        "DOCLING_SERVE_CONFIG_FILE": str(CONFIG_FILE),
        "DOCLING_SERVE_USE_SUBPROCESS": "true" if mode == "on" else "false",
        "DOCLING_SERVE_MAX_SYNC_WAIT": str(TASK_WITHIN_S),  # a busy machine is slow, not wrong
        "HF_HUB_OFFLINE": "1",  # nothing here needs a model hub, and this proves it
        "PYTHONUNBUFFERED": "1",
    }


def end(process: subprocess.Popen[bytes], within_s: float) -> None:
    """SIGTERM, then SIGKILL for one that still runs after ``within_s``; returns at its end."""
    process.terminate()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
