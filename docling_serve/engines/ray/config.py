"""The settings of the Ray engine as docling-jobkit's configuration."""

from __future__ import annotations

from typing import Any

from docling_serve.internals.jobkit_ray import RayOrchestratorConfig
from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.converter_config import presigned_config


def setting_of(field_name: str) -> str:
    """The setting that a field of jobkit's configuration is read from."""
    return f"eng_{field_name}" if field_name.startswith("ray_") else f"eng_ray_{field_name}"


def orchestrator_config(settings: DoclingServeSettings) -> RayOrchestratorConfig:
    """jobkit's configuration for these settings.

    Raises:
        ValueError: the settings contradict each other.
    """
    fields: dict[str, Any] = {
        name: getattr(settings, setting_of(name))
        for name in RayOrchestratorConfig.model_fields
        if hasattr(settings, setting_of(name))
    }
    return RayOrchestratorConfig(
        **fields,
        result_removal_delay=int(settings.result_removal_delay),
        debug_error_details=settings.debug_error_details,
        presigned_config=presigned_config(settings),
    )
