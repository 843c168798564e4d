"""Metrics of the tenants of a Ray engine: what they queue, what runs, and how tasks ended.

The counters are jobkit's own in Redis; they only grow and are shared by all gateways.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from redis import RedisError

from docling_serve.internals.jobkit_ray import RedisStateManager, TenantSnapshot

_log = logging.getLogger(__name__)

Value = Callable[[TenantSnapshot], int]

_COUNTERS: dict[str, tuple[str, Value]] = {
    "tasks_enqueued": ("Tasks queued.", lambda s: s.counters.tasks_enqueued_total),
    "tasks_dispatched": ("Tasks given to Ray.", lambda s: s.counters.tasks_dispatched_total),
    "tasks_started": ("Tasks begun.", lambda s: s.counters.tasks_started_total),
    "tasks_succeeded": ("Tasks that ended well.", lambda s: s.counters.tasks_succeeded_total),
    "tasks_failed": ("Tasks that failed.", lambda s: s.counters.tasks_failed_total),
    "documents": ("Documents done.", lambda s: s.stats.total_documents),
    "documents_succeeded": ("Documents converted.", lambda s: s.stats.successful_documents),
    "documents_failed": ("Documents that failed.", lambda s: s.stats.failed_documents),
}
_GAUGES: dict[str, tuple[str, Value]] = {
    "queued_tasks": ("Tasks that wait.", lambda s: s.queue_size),
    "active_tasks": ("Tasks given to Ray that have not ended.", lambda s: s.active_count),
    "active_documents": ("Documents at work.", lambda s: s.limits.active_documents),
}
_PREFIX = "docling_ray_tenant_"


class TenantCollector(Collector):
    """Reports the last values read from Redis, and reads them every ``every_s`` seconds."""

    def __init__(self, state: RedisStateManager, every_s: float) -> None:
        self._state = state
        self._every_s = every_s
        self._snapshots: list[TenantSnapshot] = []

    async def follow(self) -> None:
        """Read for as long as the engine runs."""
        while True:
            await self.read()
            await asyncio.sleep(self._every_s)

    async def read(self) -> None:
        """Read once; while Redis does not answer there is nothing to report."""
        try:
            counted = await self._state.get_all_tenants_with_task_counters()
            waiting = await self._state.get_all_tenants_with_any_tasks()
            tenants = sorted({*counted, *waiting})
            self._snapshots = await self._state.get_tenant_snapshots(tenants)
        except (RedisError, OSError) as exc:
            _log.warning("Redis cannot be asked for the metrics of tenants: %s", exc)
            self._snapshots = []

    def collect(self) -> Iterator[Metric]:
        """The values read last."""
        snapshots = self._snapshots
        for name, (text, value) in _COUNTERS.items():
            counter = CounterMetricFamily(_PREFIX + name, text, labels=["tenant_id"])
            for snapshot in snapshots:
                counter.add_metric([snapshot.tenant_id], value(snapshot))
            yield counter
        for name, (text, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(_PREFIX + name, text, labels=["tenant_id"])
            for snapshot in snapshots:
                gauge.add_metric([snapshot.tenant_id], value(snapshot))
            yield gauge

    def describe(self) -> Iterator[Metric]:
        """Empty: names are reported together with the values."""
        return iter(())
