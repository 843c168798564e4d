"""Metrics of the server: requests, tasks, workers, and the process.

Requests are measured by OpenTelemetry's own instrumentation, so names and units are those that
dashboards of docling-serve know (upstream L94). Values that are read at a scrape are read on the
server's event loop, in whichever thread the scrape runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from concurrent import futures

import prometheus_client
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from docling_serve.observability.load import Load, make_load_instruments
from docling_serve.observability.otlp import otlp_metric_exporter
from docling_serve.settings import DoclingServeSettings

_log = logging.getLogger(__name__)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

#: The labels of a request. The Host header is left out: with it, clients would decide how many
#: series there are (better than upstream L96).
_REQUEST_LABELS = {
    "http.flavor",
    "http.host",
    "http.method",
    "http.scheme",
    "http.status_code",
    "http.target",
    "net.host.port",
}
#: Few buckets: each is a series for every route, method and status.
_REQUEST_BUCKETS: dict[str, tuple[float, ...]] = {
    "http.server.duration": (10, 100, 1_000, 10_000, 100_000),  # milliseconds
    "http.server.request.size": (10_000, 1_000_000, 100_000_000),  # bytes
    "http.server.response.size": (10_000, 1_000_000, 100_000_000),
}
#: Metrics without a histogram, or only with OTEL_SEMCONV_STABILITY_OPT_IN. An instrument that two
#: views match would make two metrics.
_OTHER_REQUEST_METRICS = (
    "http.server.active_requests",
    "http.server.request.[bd]*",
    "http.server.response.b*",
)
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
_READ_LIMIT_S = 2.0


class Metrics:
    """The metrics of one server process.

    ``provider`` is None where ``otel_enable_metrics`` is off; the page then shows only those of the
    process.
    """

    def __init__(self, settings: DoclingServeSettings) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        for collector in (
            prometheus_client.GC_COLLECTOR,
            prometheus_client.PLATFORM_COLLECTOR,
            prometheus_client.PROCESS_COLLECTOR,
        ):
            self._registry.register(collector)
        self._port = settings.metrics_port if settings.otel_enable_metrics else None
        self._read: Callable[[], Awaitable[Load]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.provider: MeterProvider | None = None
        if settings.otel_enable_metrics:
            self.provider = self._make_provider(settings)
            self._make_instruments(self.provider)

    def page(self) -> bytes:
        """Everything in Prometheus' text format. Not to be called on the event loop."""
        return prometheus_client.generate_latest(self._registry)

    def task_ended(
        self, task_type: str, outcome: str, waited_s: float, worked_s: float, pages: int
    ) -> None:
        """Count a task: ``outcome`` is ``success`` or the category of its failure, ``pages`` the
        number of pages of the documents in its result."""
        if self.provider is None:
            return
        labels = {"task_type": task_type, "outcome": outcome}
        self._tasks.add(1, labels)
        self._pages.add(pages)
        self._waits.record(waited_s, {"task_type": task_type})
        self._works.record(worked_s, labels)

    @contextlib.contextmanager
    def observing(
        self, read: Callable[[], Awaitable[Load]], engines_own: Collector | None = None
    ) -> Iterator[None]:
        """While the server runs: read its load at every scrape, and listen on ``metrics_port``.
        ``engines_own`` are metrics that the engine adds.

        Raises:
            OSError: the port is taken.
        """
        self._read, self._loop = read, asyncio.get_running_loop()
        engines_own = engines_own if self.provider is not None else None
        if engines_own is not None:
            self._registry.register(engines_own)
        listener = None
        if self._port is not None:
            listener = prometheus_client.start_http_server(self._port, registry=self._registry)
            _log.info("metrics are also served on port %d", self._port)
        try:
            yield
        finally:
            self._read = self._loop = None
            if engines_own is not None:
                self._registry.unregister(engines_own)
            if listener is not None:
                listener[0].shutdown()
                listener[0].server_close()
                listener[1].join()

    def close(self) -> None:
        """Flush what is not sent yet. Not to be called on the event loop."""
        if self.provider is not None:
            self.provider.shutdown()

    def _make_provider(self, settings: DoclingServeSettings) -> MeterProvider:
        readers: list[MetricReader] = [PrometheusMetricReader(registry=self._registry)]
        if settings.otel_enable_otlp_metrics:
            readers.append(PeriodicExportingMetricReader(otlp_metric_exporter()))
        return MeterProvider(
            metric_readers=readers,
            resource=Resource({SERVICE_NAME: settings.otel_service_name}),
            views=_request_views(),
            shutdown_on_exit=False,
        )

    def _make_instruments(self, provider: MeterProvider) -> None:
        meter = provider.get_meter("docling_serve")
        self._tasks = meter.create_counter("docling_serve.tasks", description="Finished tasks.")
        self._pages = meter.create_counter(
            "docling_serve.pages", description="Pages of documents in results."
        )
        self._pages.add(0)  # a rate begins with the first page, not the second task
        self._waits = meter.create_histogram(
            "docling_serve.task.wait",
            unit="s",
            description="Time from submission to the start of a task.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._works = meter.create_histogram(
            "docling_serve.task.duration",
            unit="s",
            description="Time from the start to the end of a task.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        make_load_instruments(meter, self._load)

    def _load(self) -> Load | None:
        """Read on the event loop, from another thread; None where there is nothing to read."""
        loop, read = self._loop, self._read
        if loop is None or read is None or loop.is_closed():
            return None

        async def ask() -> Load:
            return await read()

        try:
            return asyncio.run_coroutine_threadsafe(ask(), loop).result(_READ_LIMIT_S)
        except (TimeoutError, futures.TimeoutError, futures.CancelledError) as exc:
            _log.warning("the load cannot be read for metrics: %s", type(exc).__name__)
            return None


def _request_views() -> list[View]:
    """Labels and buckets of the metrics of requests."""
    return [
        *(
            View(
                instrument_name=name,
                attribute_keys=_REQUEST_LABELS,
                aggregation=ExplicitBucketHistogramAggregation(buckets),
            )
            for name, buckets in _REQUEST_BUCKETS.items()
        ),
        *(
            View(instrument_name=name, attribute_keys=_REQUEST_LABELS)
            for name in _OTHER_REQUEST_METRICS
        ),
    ]
