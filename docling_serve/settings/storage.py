"""Settings of the object storage behind presigned URLs."""

from pydantic import BaseModel, Field

from .types import ArtifactStorageBackend, Secret


class ArtifactStorageSettings(BaseModel):
    """Object storage of the server, for results that clients fetch by presigned URL."""

    artifact_storage_enabled: bool = Field(
        default=False,
        description="Offer the target presigned_url; it is then the default target if allowed.",
    )
    artifact_storage_backend: ArtifactStorageBackend = Field(
        default=ArtifactStorageBackend.S3, description="Kind of storage: s3 or azure."
    )
    artifact_storage_endpoint: str = Field(
        default="", description="Endpoint of the S3 service, host and port."
    )
    artifact_storage_region: str = Field(
        default="", description="Region of the S3 bucket. Empty: that of the service."
    )
    artifact_storage_verify_ssl: bool = Field(
        default=True, description="Verify the TLS certificate of the S3 service."
    )
    artifact_storage_bucket: str = Field(default="", description="Name of the S3 bucket.")
    artifact_storage_access_key: Secret = Field(default="", description="Access key for S3.")
    artifact_storage_secret_key: Secret = Field(default="", description="Secret key for S3.")
    artifact_storage_key_prefix: str = Field(
        default="converted/", description="Prefix of the keys of stored S3 objects."
    )
    artifact_storage_azure_connection_string: Secret = Field(
        default="",
        description="Connection string of the Azure account. Required for the azure backend.",
    )
    artifact_storage_azure_container: str = Field(
        default="", description="Name of the Azure container. Required for the azure backend."
    )
    artifact_storage_azure_account_name: str = Field(
        default="", description="Name of the Azure account. Required for the azure backend."
    )
    artifact_storage_azure_blob_prefix: str = Field(
        default="converted/", description="Prefix of the names of stored Azure blobs."
    )
    artifact_storage_presign_ttl_seconds: int = Field(
        default=3600, description="Seconds that a presigned URL is valid."
    )
