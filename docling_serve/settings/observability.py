"""Settings of logs, metrics and traces."""

from pydantic import BaseModel, Field

from .types import LogFormat, UpperLogLevel


class ObservabilitySettings(BaseModel):
    """Logs, metrics and traces."""

    log_level: UpperLogLevel = Field(
        default=None, description="Lowest severity logged: WARNING, INFO or DEBUG. Unset: INFO."
    )
    log_format: LogFormat = Field(
        default=LogFormat.TEXT, description="Format of log lines: text or json."
    )
    log_header_prefix: str = Field(
        default="X-Docling-Log-",
        description="Request headers with this prefix become fields of JSON log lines, named by the"
        " rest of the header.",
    )
    metrics_port: int | None = Field(
        default=None,
        description="Additional port for Prometheus metrics, on all interfaces. Unset: none.",
    )
    otel_enable_metrics: bool = Field(
        default=True,
        description="Collect request metrics. When off, /metrics shows only those of the process.",
    )
    otel_enable_prometheus: bool = Field(default=True, description="Serve /metrics.")
    otel_enable_otlp_metrics: bool = Field(
        default=False,
        description="Send metrics by OTLP, to the address in the OTEL_EXPORTER_OTLP_* variables.",
    )
    otel_enable_traces: bool = Field(
        default=False,
        description="Send traces by OTLP, to the address in the OTEL_EXPORTER_OTLP_* variables.",
    )
    otel_service_name: str = Field(
        default="docling-serve", description="Service name in metrics and traces."
    )
