"""The kinds of sources and targets that docling-jobkit's connectors support.

Four are part of the API's schema. docling-jobkit has more (FileNet, SharePoint, Kafka and others),
and its plugins may add theirs. They are read only where the settings name one, since that imports
all connectors with their libraries.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from pydantic import BaseModel

SOURCE_CONNECTORS: Mapping[str, str] = MappingProxyType(
    {
        "s3": "boto3",
        "azure_blob": "azure.storage.blob",
        "google_cloud_storage": "google.cloud.storage",
        "google_drive": "googleapiclient",
    }
)
"""Storage kinds of the API, usable as sources and as targets, to the module each one needs."""

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "azure_blob": "azure",
        "google_cloud_storage": "gcloudstorage",
        "google_drive": "gdrive",
    }
)
"""The extra of this package that installs the module; S3's comes with docling-jobkit."""

#: It would read and write files of the server (upstream G77).
_OF_THIS_MACHINE = frozenset({"local_path"})
#: How targets that take the results of many documents write them, in docling-jobkit's words.
_STORAGE_MODES = frozenset({"artifacts", "database"})

ConfigModels = Mapping[str, type[BaseModel]]


@dataclass(frozen=True)
class MoreConnectors:
    """Kinds beyond those of the API's schema, with the models of their configurations."""

    sources: ConfigModels = field(default_factory=dict)
    targets: ConfigModels = field(default_factory=dict)

    @classmethod
    def of_jobkit(cls, known: Collection[str], *, allow_external_plugins: bool) -> MoreConnectors:
        """Those that docling-jobkit and, if allowed, its plugins bring, except for ``known``."""
        # Here, since few deployments need this import, which takes time and memory.
        from docling_jobkit.connectors import connector_factory as factories  # noqa: PLC0415

        left_out = _OF_THIS_MACHINE.union(known)
        sources = factories.get_source_connector_factory(allow_external_plugins)
        targets = factories.get_target_connector_factory(allow_external_plugins)
        return cls(
            sources={
                kind: model
                for kind, model in sources.registered_config_types_by_kind.items()
                if kind not in left_out
            },
            targets={
                kind: model
                for kind, model in targets.registered_config_types_by_kind.items()
                if kind not in left_out and targets.result_mode_for_kind(kind) in _STORAGE_MODES
            },
        )
