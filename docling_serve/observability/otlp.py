"""Exporters of the OpenTelemetry protocol, chosen as OpenTelemetry's SDK chooses them.

``OTEL_EXPORTER_OTLP_PROTOCOL`` (or the one for traces or metrics) names ``grpc``, which is its
default, or ``http/protobuf``; the exporter itself reads the other ``OTEL_EXPORTER_OTLP_*``.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

_PACKAGES = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
}


def otlp_metric_exporter() -> MetricExporter:
    """Raises ``ValueError`` when the protocol is unknown or its exporter is not installed."""
    exporter: MetricExporter = _exporter("METRICS", "metric_exporter", "OTLPMetricExporter")
    return exporter


def otlp_span_exporter() -> SpanExporter:
    """Raises ``ValueError`` when the protocol is unknown or its exporter is not installed."""
    exporter: SpanExporter = _exporter("TRACES", "trace_exporter", "OTLPSpanExporter")
    return exporter


def _exporter(signal: str, module: str, name: str) -> Any:
    variable = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL"
    protocol = os.environ.get(variable) or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"
    package = _PACKAGES.get(protocol.strip().lower())
    if package is None:
        raise ValueError(
            f"OTLP protocol {protocol!r} is unknown; use one of {', '.join(_PACKAGES)}"
        )
    try:
        return getattr(importlib.import_module(f"{package}.{module}"), name)()
    except ImportError as exc:
        raise ValueError(
            f"OTLP over {protocol} is not installed: pip install 'docling-serve[otlp]'"
        ) from exc
