"""RQ's own figures about workers and jobs, read from Redis at every scrape.

Names and labels are those of RQ's usual exporters, so that their dashboards work.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from redis import Redis, RedisError
from rq import Queue, Worker

_log = logging.getLogger(__name__)

_WITHIN_S = 5.0


class RqCollector(Collector):
    """Metrics of the workers and jobs of the queues of these names; none while Redis does not
    answer."""

    def __init__(self, redis_url: str, queue_names: Sequence[str]) -> None:
        # A separate one: RQ's worker handles change the time-outs of their connection.
        self._redis = Redis.from_url(
            redis_url, socket_timeout=_WITHIN_S, socket_connect_timeout=_WITHIN_S
        )
        self._queues = [Queue(name, connection=self._redis) for name in queue_names]

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def collect(self) -> Iterator[Metric]:
        """Read Redis. Blocking."""
        try:
            yield from [*self._workers(), self._jobs()]
        except (RedisError, OSError) as exc:
            _log.warning("Redis cannot be asked for metrics: %s", exc)

    def describe(self) -> Iterator[Metric]:
        """Empty: registering must not query Redis."""
        return iter(())

    def _workers(self) -> list[Metric]:
        states = GaugeMetricFamily("rq_workers", "RQ workers.", labels=["name", "state", "queues"])
        succeeded, failed, worked = (
            CounterMetricFamily(name, text, labels=["name", "queues"])
            for name, text in (
                ("rq_workers_success", "Jobs that succeeded, by worker."),
                ("rq_workers_failed", "Jobs that failed, by worker."),
                ("rq_workers_working_time", "Seconds of work, by worker."),
            )
        )
        ours = {queue.name for queue in self._queues}
        for worker in Worker.all(connection=self._redis):
            if ours.isdisjoint(worker.queue_names()):
                continue
            who = [worker.name, ",".join(worker.queue_names())]
            states.add_metric([who[0], str(worker.get_state()), who[1]], 1)
            succeeded.add_metric(who, worker.successful_job_count)
            failed.add_metric(who, worker.failed_job_count)
            worked.add_metric(who, worker.total_working_time)
        return [states, succeeded, failed, worked]

    def _jobs(self) -> Metric:
        jobs = GaugeMetricFamily("rq_jobs", "RQ jobs by state.", labels=["queue", "status"])
        for queue in self._queues:
            # Counted by key: the registries' own counts also clean up; a scrape must not.
            registries = {
                "started": queue.started_job_registry,
                "finished": queue.finished_job_registry,
                "failed": queue.failed_job_registry,
                "deferred": queue.deferred_job_registry,
                "scheduled": queue.scheduled_job_registry,
            }
            jobs.add_metric([queue.name, "queued"], len(queue))
            for status, registry in registries.items():
                jobs.add_metric([queue.name, status], float(self._redis.zcard(registry.key)))
        return jobs
