"""Start one of the two servers as its users start it, and stop it."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil
from typing_extensions import Self

from benchmarks.peer import ROOT, VERSION
from docling_serve.doctor.trial.server import end, free_port

OURS = "this build"
UPSTREAM = f"docling-serve {VERSION}"
EMBEDDED_OCR = ROOT / "examples" / "ocr-only.yaml"

READY_WITHIN_S = 180.0
STOP_WITHIN_S = 45.0
_POLL_S = 0.01
_LOG_LINES = 15


class ServerFailed(Exception):
    """A server did not start, or exited."""


@dataclass(frozen=True)
class Product:
    """A server to measure: its name, its interpreter, what is on its import path, its profile."""

    name: str
    python: Path
    import_path: Path
    config_file: Path | None = EMBEDDED_OCR

    @property
    def is_ours(self) -> bool:
        """Whether settings of subprocess mode apply to it."""
        return self.name == OURS


def this_build(config_file: Path | None = EMBEDDED_OCR) -> Product:
    """The server of this checkout, run by the interpreter that runs the benchmarks."""
    return Product(OURS, Path(sys.executable), ROOT, config_file)


class Server:
    """``docling-serve run`` on a free loopback port, in an empty folder, with default settings.

    ``settings`` are names without ``DOCLING_SERVE_``. As a context manager it is ready inside the
    block. ``ready_s`` is the time from the start of the process to the first 200 of ``/ready``.
    """

    def __init__(self, product: Product, **settings: str) -> None:
        self.product = product
        self.ready_s = 0.0
        self._folder = tempfile.TemporaryDirectory(prefix="bench-")
        self.port = free_port()
        self._log = Path(self._folder.name) / "server.log"
        self._environment = environment(product, settings, Path(self._folder.name))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server process; its workers are below it."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything that it and its workers have logged."""
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Self:
        command = [str(self.product.python), "-m", "docling_serve", "run", "--host", "127.0.0.1"]
        started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                cwd=self._folder.name,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_ready(started)
        except BaseException:
            self._stop()
            raise
        self.ready_s = time.monotonic() - started
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _wait_ready(self, started: float) -> None:
        assert self._process is not None
        while not _answers(self.port):
            if self._process.poll() is not None:
                raise ServerFailed(f"{self.product.name} ended at its start:\n{self._log_tail()}")
            if time.monotonic() - started > READY_WITHIN_S:
                raise ServerFailed(f"{self.product.name} was not ready:\n{self._log_tail()}")
            time.sleep(_POLL_S)

    def _stop(self) -> None:
        assert self._process is not None
        below: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(self._process.pid).children(recursive=True)
        end(self._process, STOP_WITHIN_S)
        _, left = psutil.wait_procs(below, STOP_WITHIN_S)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._folder.cleanup()

    def _log_tail(self) -> str:
        return "\n".join(self.log.splitlines()[-_LOG_LINES:])


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def environment(product: Product, settings: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Without the caller's own settings, so that a run is the same everywhere."""
    strange = ("DOCLING_SERVE_", "UVICORN_", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(strange)}
    profile = {}
    if product.config_file is not None:
        profile["DOCLING_SERVE_CONFIG_FILE"] = str(product.config_file)
    if product.config_file in (None, EMBEDDED_OCR):
        profile["HF_HUB_OFFLINE"] = "1"  # nothing that is timed needs a model hub
    return {
        **kept,
        **profile,
        "PYTHONPATH": str(product.import_path),
        "PYTHONUNBUFFERED": "1",
        # Not scratch_path: with it tasks outlive the server here, at the price of an fsync each,
        # and upstream has no equivalent.
        "TMPDIR": str(folder),
        "DOCLING_SERVE_MAX_SYNC_WAIT": "600",  # a slow machine is slow, not wrong
        **{f"DOCLING_SERVE_{name.upper()}": value for name, value in settings.items()},
    }
