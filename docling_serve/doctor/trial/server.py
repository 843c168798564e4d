"""Start a server of this installation for a trial, and stop it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import httpx
from typing_extensions import Self

READY_WITHIN_S = 180.0
STOP_WITHIN_S = 20.0
_POLL_S = 0.1
_LOG_LINES = 15


class TrialError(Exception):
    """An error that a trial cannot continue from, in words for the terminal."""


class TrialServer:
    """``docling-serve run`` on a free loopback port, with a log file, in ``folder``.

    ``environment`` is the complete environment. Leaving the context stops the server.
    """

    def __init__(self, environment: Mapping[str, str], log_file: Path, folder: Path) -> None:
        self._log_file = log_file
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "docling_serve", "run"]
        with log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The gateway's process id."""
        return self._process.pid

    def wait_ready(self) -> None:
        """Return when the server accepts tasks.

        Raises:
            TrialError: it exited, or was not ready within ``READY_WITHIN_S``.
        """
        deadline = time.monotonic() + READY_WITHIN_S
        pause = threading.Event()
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise TrialError(f"the server exited during its start:\n{self._log_tail()}")
            try:
                if httpx.get(f"{self.url}/ready", timeout=5, trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # it is not listening yet
            pause.wait(_POLL_S)
        raise TrialError(f"the server was not ready in {READY_WITHIN_S:g} s:\n{self._log_tail()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end(self._process, STOP_WITHIN_S)  # if it is killed, its guardian stops the workers

    def _log_tail(self) -> str:
        return "\n".join(self._log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def without_own_settings() -> dict[str, str]:
    """The environment of this process without settings of the server."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DOCLING_SERVE_", "UVICORN_"))
    }


def end(process: subprocess.Popen[bytes], within_s: float) -> None:
    """SIGTERM, then SIGKILL for one that still runs after ``within_s``; returns once it exited."""
    process.terminate()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
