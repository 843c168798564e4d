"""The settings a converter is made of, as plain data that a worker validates."""

from __future__ import annotations

import json
from typing import Any

from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.conversion import ConversionSettings
from docling_serve.settings.presets import PresetSettings

_LIMITS = ("max_num_pages", "max_file_size")
_NOT_THE_CONVERTERS = frozenset({"load_models_at_boot"})


def converter_config(settings: DoclingServeSettings) -> dict[str, Any]:
    """The fields of docling-jobkit's ``DoclingConverterManagerConfig``, which go by the same
    names as the settings. The class itself is not used here: its module imports torch."""
    names = {*ConversionSettings.model_fields, *PresetSettings.model_fields, *_LIMITS}
    dumped = settings.model_dump_json(include=names - _NOT_THE_CONVERTERS)
    config: dict[str, Any] = json.loads(dumped)
    return config
