"""The local engine: one server that is gateway, host and store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.helpers.api import Api
from tests.helpers.server import RunningServer
from tests.integration.promises.fleet import ProcessFleet


class LocalFleet(ProcessFleet):
    """A server that keeps its tasks in a folder, which the next one takes over."""

    engine = "local"

    def __init__(self, new_folder: Callable[[], Path], known_servers: list[RunningServer]) -> None:
        super().__init__(new_folder, known_servers)
        self._scratch = new_folder() / "kept"

    @property
    def here(self) -> Api:
        return self.host.api

    @property
    def there(self) -> Api:
        return self.host.api

    def new_host(self, settings: Mapping[str, str]) -> RunningServer:
        kept = {"DOCLING_SERVE_SCRATCH_PATH": str(self._scratch)}
        return RunningServer(self._new_folder(), {**settings, **kept})

    def stop_store(self) -> None:
        raise AssertionError("it has no store of its own")

    def start_store(self) -> None:
        raise AssertionError("it has no store of its own")

    def start(self) -> None:
        self.use_host()
