"""The settings that a worker converts and stores with, as plain data that it validates."""

from __future__ import annotations

import json
from typing import Any

from docling_serve.conversion.document_limits import DocumentLimits
from docling_serve.settings import ArtifactStorageBackend, DoclingServeSettings
from docling_serve.settings.conversion import ConversionSettings
from docling_serve.settings.presets import PresetSettings

_GROUPS = (ConversionSettings, PresetSettings, DocumentLimits)
CONVERTER_SETTINGS = frozenset(name for group in _GROUPS for name in group.model_fields) - {
    "load_models_at_boot"
}
"""Names of the settings in :func:`converter_config`."""


def converter_config(settings: DoclingServeSettings) -> dict[str, Any]:
    """The fields of docling-jobkit's ``DoclingConverterManagerConfig``, whose module imports torch,
    and of our ``DocumentLimits``; both have the same names as the settings."""
    config: dict[str, Any] = json.loads(settings.model_dump_json(include=set(CONVERTER_SETTINGS)))
    return config


def presigned_config(settings: DoclingServeSettings) -> dict[str, Any] | None:
    """The storage for results with presigned URLs: the fields of docling-jobkit's
    ``S3PresignedConfig`` or ``AzurePresignedConfig``; None where no storage is set up."""
    if not settings.artifact_storage_enabled:
        return None
    if settings.artifact_storage_backend is ArtifactStorageBackend.AZURE:
        coordinates: dict[str, Any] = {
            "account_name": settings.artifact_storage_azure_account_name,
            "container": settings.artifact_storage_azure_container,
            "connection_string": settings.artifact_storage_azure_connection_string,
            "blob_prefix": settings.artifact_storage_azure_blob_prefix,
        }
        where: dict[str, Any] = {"azure_coords": coordinates}
    else:
        where = {
            "s3_coords": {
                "endpoint": settings.artifact_storage_endpoint,
                "verify_ssl": settings.artifact_storage_verify_ssl,
                "region": settings.artifact_storage_region or None,
                "access_key": settings.artifact_storage_access_key,
                "secret_key": settings.artifact_storage_secret_key,
                "bucket": settings.artifact_storage_bucket,
                "key_prefix": settings.artifact_storage_key_prefix,
            }
        }
    return {**where, "url_expiration": settings.artifact_storage_presign_ttl_seconds}
