"""Settings of the API: what is served, to whom, and how long a synchronous request waits."""

from pathlib import Path

from pydantic import BaseModel, Field

from .types import JsonList, Secret


class ServerSettings(BaseModel):
    """What the API serves, to whom, and how long a synchronous request waits."""

    config_file: Path | None = Field(
        default=None,
        description="YAML (.yaml, .yml) or JSON (.json) file with further settings: a mapping of"
        " field names. The variable counts only in the process environment, not in .env.",
    )
    api_host: str = Field(
        default="localhost",
        description="Kept for compatibility, has no effect: UVICORN_HOST sets the address.",
    )
    api_key: Secret = Field(
        default="",
        description="Key that clients send in the X-Api-Key header. Empty: no authentication.",
    )
    cors_origins: JsonList = Field(
        default=["*"],
        description="Origins that browsers may call from, as a JSON array.",
    )
    cors_methods: JsonList = Field(
        default=["*"],
        description="HTTP methods allowed in cross-origin requests, as a JSON array.",
    )
    cors_headers: JsonList = Field(
        default=["*"],
        description="Request headers allowed in cross-origin requests, as a JSON array.",
    )
    enable_ui: bool = Field(
        default=False,
        description="Serve the web page at /ui, to convert documents and follow tasks. Its view of"
        " workers and memory also needs enable_management_endpoints.",
    )
    enable_external_loader_api: bool = Field(
        default=False,
        description="Answer PUT /process, as Open WebUI asks its external document loader.",
    )
    enable_tika_api: bool = Field(
        default=False,
        description="Answer the routes of Apache Tika that give text (/tika, /rmeta, /meta).",
    )
    enable_mistral_api: bool = Field(
        default=False,
        description="Answer Mistral's OCR routes (/v1/files, /v1/ocr). Its files are bounded by"
        " eng_loc_max_queued_bytes and eng_loc_max_queue_age.",
    )
    enable_api_docs: bool = Field(
        default=True,
        description="Serve /openapi.json and the documentation pages made from it.",
    )
    enable_capabilities_endpoint: bool = Field(
        default=True,
        description="Serve /v1/capabilities, which lists what this server allows.",
    )
    enable_management_endpoints: bool = Field(
        default=False,
        description="Serve memory diagnostics and worker states (/v1/memory, /v1/workers); behind"
        " the API key, if there is one.",
    )
    show_version_info: bool = Field(
        default=True,
        description="Show component versions at /version and in the capabilities.",
    )
    debug_error_details: bool = Field(
        default=False,
        description="Include internal exception text in error replies. Not for public servers.",
    )
    static_path: Path | None = Field(
        default=None,
        description="Directory served at /static. Scripts of documentation pages in it replace the"
        " built-in ones.",
    )
    scratch_path: Path | None = Field(
        default=None,
        description="Directory of tasks: their journal, uploads and results. Created if missing,"
        " never removed; its tasks continue after a restart. One server per directory. Unset: a"
        " temporary directory, removed at shutdown.",
    )
    single_use_results: bool = Field(
        default=True,
        description="Delete a task and its result some time after the result was first fetched.",
    )
    result_removal_delay: int = Field(
        default=300,
        description="Seconds between the first fetch of a single-use result and its deletion.",
    )
    max_sync_wait: int = Field(
        default=120,
        description="Seconds that a synchronous request waits for its task; then the reply is 504.",
    )
    sync_poll_interval: int = Field(
        default=2,
        description="Kept for compatibility, has no effect: a synchronous request is answered as"
        " soon as its task finishes.",
    )
    sync_cancel_on_timeout: bool = Field(
        default=True,
        description="Stop the task of a synchronous request that ran out of time.",
    )
    sync_cancel_on_disconnect: bool = Field(
        default=True,
        description="Stop the task of a synchronous request whose client disconnected.",
    )
    callback_secret: Secret = Field(
        default="",
        description="Secret that signs callbacks (HMAC-SHA256), so that receivers can verify the"
        " sender. Empty: not signed.",
    )
    callback_allow_private: bool = Field(
        default=True,
        description="Let callbacks go to private addresses, for receivers next to the server."
        " False: only to public ones and those in DOCLINGCORE_ALLOWED_PRIVATE_IPS, as for sources;"
        " for servers with untrusted clients. Link-local addresses need that list either way.",
    )
    callback_retry_for: float = Field(
        default=3600.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds for which the delivery of an event is retried, also by the next server"
        " if scratch_path is set.",
    )
    shutdown_grace: float = Field(
        default=30.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds that running tasks may still take to finish after SIGTERM or Ctrl-C.",
    )
    eng_ray_tenant_id_header: str = Field(
        default="X-Tenant-Id",
        description="Request header that names the tenant; used by every engine.",
    )
