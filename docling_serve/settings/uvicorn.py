"""Settings of the HTTP server process."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from .types import OptionalSecret


class UvicornSettings(BaseSettings):
    """Address, TLS and process options of the HTTP server; the options of `run` win over them.

    Read from the process environment, then `.env`; the config file does not apply.
    """

    model_config = SettingsConfigDict(
        env_prefix="UVICORN_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        hide_input_in_errors=True,
    )

    host: str = Field(default="0.0.0.0", description="Address to listen on.")
    port: int = Field(default=5001, description="Port to listen on.")
    reload: bool = Field(default=False, description="Restart when the source code changes.")
    root_path: str = Field(
        default="", description="Path under which a reverse proxy exposes this server."
    )
    proxy_headers: bool = Field(
        default=True, description="Trust X-Forwarded-* headers of a reverse proxy."
    )
    timeout_keep_alive: int = Field(
        default=60, description="Seconds an idle connection is kept open."
    )
    ssl_certfile: Path | None = Field(
        default=None, description="TLS certificate. TLS needs this and the key."
    )
    ssl_keyfile: Path | None = Field(default=None, description="Private key of the certificate.")
    ssl_keyfile_password: OptionalSecret = Field(
        default=None, description="Password of the private key."
    )
    workers: int | None = Field(
        default=None,
        description="Server processes. With the local engine each has its own tasks, so leave it"
        " unset there.",
    )
