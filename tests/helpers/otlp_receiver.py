"""A real OTLP receiver for traces: HTTP and protobuf, as a collector speaks it."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.helpers.receiver import Received, Receiver, receiver


@dataclass(frozen=True)
class Span:
    """What is looked at of a span. Ids are hexadecimal."""

    service: str
    name: str
    trace_id: str
    parent: str


class OtlpReceiver:
    """Where a server is to send its traces, and what came."""

    def __init__(self, endpoint: Receiver) -> None:
        self._endpoint = endpoint
        #: Has a server send what it has within a tenth of a second.
        self.settings = {
            "DOCLING_SERVE_OTEL_ENABLE_TRACES": "true",
            "DOCLING_SERVE_OTEL_SERVICE_NAME": "traced",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint.url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    @property
    def spans(self) -> list[Span]:
        """All that came, in the order of the exports."""
        return [span for export in list(self._endpoint.got) for span in _spans(export)]


def _spans(export: Received) -> Iterator[Span]:
    packed = export.headers.get("content-encoding") == "gzip"
    body = gzip.decompress(export.body) if packed else export.body
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        named = {a.key: a.value.string_value for a in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    named["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.parent_span_id.hex(),
                )


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """One that listens, on a port of its own."""
    with receiver() as endpoint:
        yield OtlpReceiver(endpoint)
