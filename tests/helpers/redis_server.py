"""A real Redis of a test's own, on a free port, with a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

import pytest
import redis

from tests.helpers.eventually import eventually
from tests.helpers.ports import HeldPort

_WITHIN_S = 20.0


class RedisServer:
    """Starts, stops and starts again with the data it had. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held_port = HeldPort()
        self._port = self._held_port.number
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/"

    def start(self) -> None:
        """Start it and wait until it answers, its data loaded."""
        binary = _binary()
        options = {
            "--port": str(self._port),
            "--bind": "127.0.0.1",
            "--dir": str(self._folder),
            "--appendonly": "yes",
            "--save": "",
        }
        words = [word for option in options.items() for word in option]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        eventually(self._answers, within_s=_WITHIN_S, what="Redis answers")

    def stop(self) -> None:
        """SIGTERM: it writes what it has, then ends."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_WITHIN_S)
            self._process = None

    def client(self) -> redis.Redis:
        """A connection for a look inside."""
        return redis.Redis.from_url(self.url)

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._held_port.release()

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


def _binary() -> str:
    """Where redis-server is. Without it tests are skipped here, and fail where CI is set."""
    found = shutil.which("redis-server")
    if found is None:
        reason = "redis-server is not installed (Debian: apt-get install redis-server)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
