"""The rq engine: two gateways, a Redis, and a host that runs ``docling-serve rq-worker``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.engines.rq.reaper import ReaperTimes
from docling_serve.internals import jobkit_rq
from tests.helpers.api import Api
from tests.helpers.redis_server import RedisServer
from tests.helpers.rq_engines import TENANT, gateway, rq_settings
from tests.helpers.rq_worker import RunningRqWorker
from tests.helpers.server import RunningServer
from tests.integration.promises.fleet import COMMON, ProcessFleet

_LOST_WITHIN_S = 60.0


class RqFleet(ProcessFleet):
    """All of it on this machine, each part a process of its own."""

    engine = "rq"

    def __init__(self, new_folder: Callable[[], Path], known_servers: list[RunningServer]) -> None:
        super().__init__(new_folder, known_servers)
        self.redis = RedisServer(new_folder())
        self._queue = {
            "DOCLING_SERVE_ENG_KIND": "rq",
            "DOCLING_SERVE_ENG_RQ_REDIS_URL": self.redis.url,
        }
        self._gateways = [RunningServer(new_folder(), COMMON | self._queue) for _ in range(2)]
        known_servers.extend(self._gateways)
        # The kernel ends a leashed process with the thread that started it.
        self._threads = ThreadPoolExecutor()

    @property
    def here(self) -> Api:
        return self._gateways[0].api

    @property
    def there(self) -> Api:
        return self._gateways[1].api

    def new_host(self, settings: Mapping[str, str]) -> RunningServer:
        return RunningRqWorker(self._new_folder(), {**settings, **self._queue})

    def hasten_loss(self, task_id: str) -> None:
        """Let the host's sign of life expire, and look for it more often than gateways do."""
        config = jobkit_rq.orchestrator_config(rq_settings(self.redis.url))

        async def look() -> None:
            times = ReaperTimes(look_every_s=0.2, missing_for_s=0.5)
            async with gateway(self.redis.url, times) as engine:
                with self.redis.client() as client:
                    client.delete(jobkit_rq.heartbeat_key(config, task_id))
                async with engine.watch(task_id, TENANT) as watch:
                    async for state in watch:
                        if state.status is TaskStatus.PENDING:
                            return

        asyncio.run(asyncio.wait_for(look(), _LOST_WITHIN_S))

    def stop_store(self) -> None:
        self.redis.stop()

    def start_store(self) -> None:
        self.redis.start()

    def start(self) -> None:
        self.redis.start()
        starts: list[Callable[[], object]] = [self.use_host]
        starts += [gateway_process.start for gateway_process in self._gateways]
        for started in [self._threads.submit(start) for start in starts]:
            started.result()

    def close(self) -> None:
        super().close()
        for gateway_process in self._gateways:
            gateway_process.stop()
            gateway_process.assert_nothing_left()

    def sweep(self) -> None:
        super().sweep()
        for gateway_process in self._gateways:
            gateway_process.sweep()
        self._threads.shutdown()
        self.redis.stop()
