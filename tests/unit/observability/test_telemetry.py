"""Traces, and the choice of exporters."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from docling_serve.observability.otlp import otlp_metric_exporter, otlp_span_exporter
from docling_serve.observability.telemetry import Telemetry
from tests.helpers.asgi_websocket import AsgiWebsocket
from tests.helpers.rest_server import RestServer, rest_server, settings_of


def traced(server: RestServer) -> InMemorySpanExporter:
    """Trace the requests of ``server``, which has no telemetry of its own, into memory."""
    exporter = InMemorySpanExporter()
    telemetry = Telemetry(settings_of(otel_enable_metrics=False))
    telemetry.tracers = TracerProvider()
    telemetry.tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry.instrument(server.app)
    return exporter


async def test_a_request_is_one_span_named_by_its_route(tmp_path: Path) -> None:
    async with rest_server(tmp_path, otel_enable_metrics=False) as server:
        exporter = traced(server)
        await server.client.get("/v1/status/poll/x")
        await server.client.get("/health")
        (span,) = exporter.get_finished_spans()
    assert span.name == "GET /v1/status/poll/{task_id}"
    assert (span.attributes or {})["http.status_code"] == 404


async def test_the_key_of_a_websocket_is_not_traced(tmp_path: Path) -> None:
    async with rest_server(tmp_path, otel_enable_metrics=False, api_key="secret") as server:
        exporter = traced(server)
        target = "/v1/status/ws/x?tenant_id=acme&api_key=secret"
        async with AsgiWebsocket(server.app, target) as socket:
            await socket.rest()
        (span,) = exporter.get_finished_spans()
    shown = str(dict(span.attributes or {}))
    assert "secret" not in shown
    assert "tenant_id=acme&api_key=***" in shown


def test_without_traces_and_metrics_an_app_stays_as_it_is() -> None:
    telemetry = Telemetry(settings_of(otel_enable_metrics=False))
    assert (telemetry.tracers, telemetry.metrics.provider) == (None, None)
    telemetry.close()


@pytest.fixture
def over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")


@pytest.mark.usefixtures("over_http")
def test_exporters_follow_the_protocol() -> None:
    assert isinstance(otlp_metric_exporter(), OTLPMetricExporter)
    assert isinstance(otlp_span_exporter(), OTLPSpanExporter)


@pytest.mark.usefixtures("over_http")
def test_protocol_of_one_signal_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "carrier-pigeon")
    assert isinstance(otlp_metric_exporter(), OTLPMetricExporter)
    with pytest.raises(ValueError, match=r"'carrier-pigeon' is unknown; use one of grpc, http"):
        otlp_span_exporter()


@pytest.mark.usefixtures("over_http")
def test_traces_are_made_where_they_are_wanted() -> None:
    telemetry = Telemetry(settings_of(otel_enable_traces=True, otel_enable_metrics=False))
    assert telemetry.tracers is not None
    telemetry.close()


def test_missing_exporter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_PROTOCOL", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc", None)
    with pytest.raises(ValueError, match=r"OTLP over grpc is not installed: pip install"):
        Telemetry(settings_of(otel_enable_traces=True))
