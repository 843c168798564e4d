"""Metrics and traces of one server process, and the instrumentation of its requests."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracerProvider, Span

from docling_serve.observability.logging import without_key
from docling_serve.observability.metrics import Metrics
from docling_serve.observability.otlp import otlp_span_exporter
from docling_serve.settings import DoclingServeSettings

#: Probes and scrapes are frequent and uninformative (upstream L94).
_EXCLUDED = ",".join(
    f"^https?://[^/]*{path}$"
    for path in ("/health", "/ready", "/readyz", "/livez", "/api", "/metrics")
)


class Telemetry:
    """The telemetry that the settings enable; ``tracers`` is None where traces are off.

    Raises:
        ValueError: an exporter that the settings ask for is not installed.
    """

    def __init__(self, settings: DoclingServeSettings) -> None:
        self.metrics = Metrics(settings)
        self.tracers: TracerProvider | None = None
        if settings.otel_enable_traces:
            self.tracers = TracerProvider(
                resource=Resource({SERVICE_NAME: settings.otel_service_name}),
                shutdown_on_exit=False,
            )
            self.tracers.add_span_processor(BatchSpanProcessor(otlp_span_exporter()))

    def instrument(self, app: FastAPI) -> None:
        """Measure and trace the requests of ``app``; without either, leave it as it is."""
        if self.metrics.provider is None and self.tracers is None:
            return
        FastAPIInstrumentor.instrument_app(
            app,
            server_request_hook=_hide_key,
            meter_provider=self.metrics.provider or NoOpMeterProvider(),
            tracer_provider=self.tracers or NoOpTracerProvider(),
            excluded_urls=_EXCLUDED,
            exclude_spans=["receive", "send"],  # one span per piece of a file is useless
        )

    def close(self) -> None:
        """Flush what is not sent yet. Not to be called on the event loop."""
        self.metrics.close()
        if self.tracers is not None:
            self.tracers.shutdown()


def _hide_key(span: Span, scope: dict[str, Any]) -> None:
    """Remove the query: that of a websocket has its key, which must not reach a trace store."""
    query = scope.get("query_string", b"").decode("latin-1")
    if not span.is_recording() or without_key(query) == query:
        return
    attributes = getattr(span, "attributes", None) or {}
    for name in ("http.url", "http.target", "url.query"):
        if name in attributes:
            span.set_attribute(name, without_key(str(attributes[name])))
