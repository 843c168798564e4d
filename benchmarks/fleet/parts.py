"""The parts of a fleet as processes of this machine, which can be killed and started again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
import psutil
import redis

from benchmarks.servers import Product, ServerFailed, environment
from docling_serve.doctor.trial.server import free_port

_READY_WITHIN_S = 300.0
_STOP_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05
_LOG_LINES = 15


class Part:
    """A process with a log, started by ``start``. ``cpu_s`` is the processor time of all its runs,
    descendants included."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        env: Mapping[str, str] | None,
        ready: Callable[[Part], bool],
    ) -> None:
        self.name = name
        self.kills = 0
        self._command = command
        self._folder = folder
        self._env = env
        self._ready = ready
        self._log = folder / "log"
        self._spent_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(exist_ok=True)

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            ServerFailed: it ended at once, or took too long.
        """
        self.begin()
        self.wait_ready()

    def begin(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self._command),
                cwd=self._folder,
                env=None if self._env is None else dict(self._env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Wait until it is ready; raises as ``start`` does."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while not self._ready(self):
            if self._running.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(self.log.splitlines()[-_LOG_LINES:])
                raise ServerFailed(f"{self.name} did not start:\n{tail}")
            time.sleep(_LOOK_EVERY_S)

    def kill(self) -> None:
        """SIGKILL, without a chance to clean up."""
        self.kills += 1
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        if self._process is not None:
            self._end(signal.SIGTERM)

    def kill_child(self) -> bool:
        """SIGKILL to one of its conversion processes; False if it has none now."""
        for process in self._below():
            with contextlib.suppress(psutil.Error):
                command = " ".join(process.cmdline())
                if "spawn_main" in command:
                    process.kill()
                    return True
        return False

    @property
    def log(self) -> str:
        """All that it has printed, in every run."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def cpu_s(self) -> float:
        """User and system time until now."""
        return self._spent_s + (self._spent_now() if self._process is not None else 0.0)

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        return self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    def _below(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    def _spent_now(self) -> float:
        total = 0.0
        with contextlib.suppress(psutil.Error):
            for process in (psutil.Process(self.pid), *self._below()):
                with contextlib.suppress(psutil.Error):
                    total += sum(process.cpu_times()[:4])  # children that were reaped included
        return total

    def _end(self, number: signal.Signals) -> None:
        below = self._below()
        self._spent_s += self._spent_now()
        self._running.send_signal(number)
        try:
            self._running.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._process = None
        _, left = psutil.wait_procs(below, _STOP_WITHIN_S)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()


class Redis(Part):
    """A Redis that appends every write to a file; ``url`` is its address."""

    def __init__(self, folder: Path) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise ServerFailed("redis-server is not installed")
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/"
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        kept = ["--appendonly", "yes", "--save", ""]
        super().__init__("Redis", [binary, *options, *kept], folder, None, _pings)

    def used_bytes(self) -> int:
        """Memory of the data, without what the allocator keeps."""
        with redis.Redis.from_url(self.url) as client:
            return int(client.info("memory")["used_memory_dataset"])


class Gateway(Part):
    """``docling-serve run``; ``url`` is its address."""

    def __init__(self, name: str, product: Product, folder: Path, **settings: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [str(product.python), "-m", "docling_serve", "run", "--host", "127.0.0.1"]
        env = environment(product, settings, folder)
        super().__init__(name, [*command, "--port", str(port)], folder, env, _answers)


class Host(Part):
    """``docling-serve rq-worker``."""

    def __init__(self, name: str, product: Product, folder: Path, **settings: str) -> None:
        command = [str(product.python), "-m", "docling_serve", "rq-worker"]
        env = environment(product, settings, folder)
        super().__init__(name, command, folder, env, _listens)
        self.starts = 0

    def begin(self) -> None:
        self.starts += 1
        super().begin()


def _pings(part: Part) -> bool:
    assert isinstance(part, Redis)
    with redis.Redis.from_url(part.url) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def _answers(part: Part) -> bool:
    assert isinstance(part, Gateway)
    try:
        return httpx.get(f"{part.url}/ready", timeout=10, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _listens(part: Part) -> bool:
    assert isinstance(part, Host)
    return part.log.count("Listening on") >= part.starts
