"""An object store that speaks S3 over HTTP, on a free port, with one bucket in it."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any

import boto3
from docling.datamodel.service.sources import S3Coordinates
from moto.server import ThreadedMotoServer

_KEY, _SECRET, _REGION = "test-key", "test-secret", "us-east-1"


class S3Server:
    """A context manager. ``origin`` is what clients see in presigned addresses."""

    bucket = "documents"

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self.endpoint = ""

    @property
    def origin(self) -> str:
        return f"http://{self.endpoint}"

    def coordinates(self, prefix: str = "") -> dict[str, Any]:
        """Where to read or write, as the fields of a source or target of kind ``s3``."""
        coordinates = S3Coordinates(
            endpoint=self.endpoint,
            verify_ssl=False,
            region=_REGION,
            access_key=_KEY,
            secret_key=_SECRET,
            bucket=self.bucket,
            key_prefix=prefix,
        )
        return coordinates.model_dump()

    def artifact_storage(self) -> dict[str, str]:
        """The settings of a server whose presigned results go here."""
        return {
            "DOCLING_SERVE_ARTIFACT_STORAGE_ENABLED": "true",
            "DOCLING_SERVE_ARTIFACT_STORAGE_ENDPOINT": self.endpoint,
            "DOCLING_SERVE_ARTIFACT_STORAGE_VERIFY_SSL": "false",
            "DOCLING_SERVE_ARTIFACT_STORAGE_REGION": _REGION,
            "DOCLING_SERVE_ARTIFACT_STORAGE_ACCESS_KEY": _KEY,
            "DOCLING_SERVE_ARTIFACT_STORAGE_SECRET_KEY": _SECRET,
            "DOCLING_SERVE_ARTIFACT_STORAGE_BUCKET": self.bucket,
            "DOCLING_SERVE_ARTIFACT_STORAGE_KEY_PREFIX": "results",
        }

    def put(self, key: str, content: bytes) -> None:
        """Store an object."""
        self._client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        """Read an object."""
        body: bytes = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str = "") -> list[str]:
        """The names of all objects that start with ``prefix``."""
        listed = self._client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [item["Key"] for item in listed.get("Contents", [])]

    def __enter__(self) -> S3Server:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request is noise
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"{host}:{port}"
        self._client = boto3.client(
            "s3",
            endpoint_url=self.origin,
            region_name=_REGION,
            aws_access_key_id=_KEY,
            aws_secret_access_key=_SECRET,
        )
        self._client.create_bucket(Bucket=self.bucket)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()
        self._server.stop()
