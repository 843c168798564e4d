"""Policies of servers with this or that setting, without reading any environment."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

from docling.datamodel.pipeline_options import BaseLayoutOptions

from docling_serve.policy import Registry, ServicePolicy
from docling_serve.settings import DoclingServeSettings


class PlainLayoutOptions(BaseLayoutOptions):
    """A layout kind of the recordings' plugin."""

    kind: ClassVar[str] = "plain"


declared_by_docling = functools.cache(Registry.discover)


def registry(**changes: Any) -> Registry:
    """What docling declares, with every OCR engine installed, and the layout kind ``plain``."""
    declared = declared_by_docling()
    values: dict[str, Any] = {
        "ocr": declared.ocr,
        "layout": {**declared.layout, PlainLayoutOptions.kind: PlainLayoutOptions},
        "table_structure": declared.table_structure,
        "storage_kinds": ("s3",),
    }
    return Registry(**(values | changes))


def policy(registry_changes: dict[str, Any] | None = None, /, **settings: Any) -> ServicePolicy:
    """The policy of a server with default settings, except for ``settings``."""
    return ServicePolicy.from_settings(
        DoclingServeSettings.model_construct(**settings), registry(**(registry_changes or {}))
    )
