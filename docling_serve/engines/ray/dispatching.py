"""The process of the dispatcher actor: the dispatcher, its connections, and Ray's actors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from redis import RedisError

from docling_serve.callbacks.delivery import CallbackDelivery, CallbackRules
from docling_serve.engines.ray.config import orchestrator_config
from docling_serve.engines.ray.dispatcher import Dispatcher, Rules, Scaling
from docling_serve.engines.ray.host_parts import Compose
from docling_serve.engines.ray.queues import Ended, TenantQueues
from docling_serve.engines.ray.ray_hosts import HOST_PREFIX, RayHosts
from docling_serve.engines.task_end import ended_event
from docling_serve.internals import jobkit_ray
from docling_serve.settings import DoclingServeSettings

_log = logging.getLogger(__name__)

_TRY_AGAIN_S = 1.0


class Dispatching:
    """Starts nothing before :meth:`require_running`."""

    def __init__(self, settings: DoclingServeSettings, compose: Compose, identity: str) -> None:
        self._look_every_s = settings.eng_ray_dispatcher_interval
        self._state = jobkit_ray.state_manager(
            orchestrator_config(settings), allow_external_plugins=settings.allow_external_plugins
        )
        self._callbacks = CallbackDelivery(CallbackRules.from_settings(settings))
        rules = Rules(
            prefix=f"{HOST_PREFIX}{identity}-",
            scaling=Scaling.from_settings(settings),
            retries=settings.eng_ray_max_task_retries,
            retry_delay_s=settings.eng_ray_retry_delay,
            look_every_s=self._look_every_s,
            heartbeat=settings.eng_ray_enable_heartbeat,
        )
        self._make: Callable[[], Dispatcher] = lambda: Dispatcher(
            TenantQueues(self._state), RayHosts(settings, compose), rules, self._call_back
        )
        self._dispatcher: Dispatcher | None = None
        self._running: asyncio.Task[None] | None = None

    def require_running(self) -> None:
        """Dispatch in the background; start it again if it has failed."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())

    async def clear(self) -> None:
        """Have all task actors free what loaded converters hold."""
        if self._dispatcher is not None:
            await self._dispatcher.clear()

    async def _run(self) -> None:
        dispatcher = self._dispatcher = self._make()
        await jobkit_ray.connection(self._state)
        waking = asyncio.create_task(self._be_woken(dispatcher))
        try:
            await dispatcher.run()
        except Exception:
            _log.exception("the dispatcher failed; it starts again at the next health check")
            raise
        finally:
            waking.cancel()

    async def _be_woken(self, dispatcher: Dispatcher) -> None:
        connection = jobkit_ray.blocking_connection(self._state)
        while True:
            try:
                await connection.blpop([jobkit_ray.WAKE_KEY], timeout=self._look_every_s)
                dispatcher.wake()
            except (RedisError, OSError) as exc:
                _log.warning("Redis does not answer: %s; trying again", exc)
                await asyncio.sleep(_TRY_AGAIN_S)

    def _call_back(self, ended: Ended) -> None:
        if ended.callbacks:
            self._callbacks.send(ended.task_id, ended.callbacks, ended_event(ended.failure))
