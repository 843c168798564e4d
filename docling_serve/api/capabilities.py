"""What this server can do, as a document for clients, made from what policy allows.

The models and their names are those of docling-serve (upstream B14); nothing here decides anything.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Literal

from docling.datamodel.base_models import OutputFormat
from docling.datamodel.picture_classification_options import DocumentPictureClassifierOptions
from pydantic import BaseModel

from docling_serve.observability.versions import component_versions
from docling_serve.policy import PolicyViolation, ServicePolicy
from docling_serve.policy.stages import DEFAULT, Preset, Stage
from docling_serve.settings import DoclingServeSettings

#: Stages in the order in which clients know them, by their name on the wire.
_STAGES = {
    "ocr": "ocr",
    "layout": "layout",
    "table_structure": "table_structure",
    "vlm_pipeline": "vlm",
    "picture_description": "picture_description",
    "picture_classification": "picture_classification",
    "code_formula": "code_formula",
    "chart_extraction": "chart_extraction",
    "chunking": "chunking",
}


class PresetInfo(BaseModel):
    """One preset that a request may name."""

    id: str
    name: str
    description: str | None = None
    source: Literal["default", "docling", "custom"]


class StageCapabilities(BaseModel):
    """One stage of a conversion: ``option`` takes a preset id, ``custom_config_option`` a whole
    configuration where the server allows one."""

    option: str
    custom_config_option: str | None = None
    default: str
    presets: list[PresetInfo]


class TargetCapabilities(BaseModel):
    """Where results may go, and where they go when a request does not say."""

    allowed: list[str]
    default: str


class LimitsCapabilities(BaseModel):
    """Bounds of one request: seconds, a factor, counts, bytes; null means no limit."""

    max_document_timeout: float
    max_images_scale: float
    max_sources_per_request: int
    max_num_pages: int | None = None
    max_file_size: int | None = None


class FeatureCapabilities(BaseModel):
    """What else a client may want to know before it starts."""

    api_key_required: bool
    artifact_storage: bool
    websocket: bool = True


class CapabilitiesResponse(BaseModel):
    """Everything a client can choose from on this server."""

    versions: dict[str, str] | None = None
    stages: dict[str, StageCapabilities]
    sources: list[str]
    targets: TargetCapabilities
    output_formats: list[str]
    image_export_modes: list[str]
    limits: LimitsCapabilities
    features: FeatureCapabilities


def capabilities(settings: DoclingServeSettings, policy: ServicePolicy) -> CapabilitiesResponse:
    """The document of a server with these settings and this policy."""
    return CapabilitiesResponse(
        versions=_versions() if settings.show_version_info else None,
        stages={
            name: _stage(policy.stages[key])
            for name, key in _STAGES.items()
            if policy.stages[key].is_offered
        },
        sources=sorted(policy.source_kinds),
        targets=TargetCapabilities(
            allowed=sorted(policy.target_kinds), default=_default_target(policy)
        ),
        output_formats=[output_format.value for output_format in OutputFormat],
        image_export_modes=sorted(mode.value for mode in policy.image_export_modes()),
        limits=LimitsCapabilities(
            max_document_timeout=settings.max_document_timeout,
            max_images_scale=settings.max_images_scale,
            max_sources_per_request=settings.max_sources_per_request,
            max_num_pages=_limit(settings.max_num_pages),
            max_file_size=_limit(settings.max_file_size),
        ),
        features=FeatureCapabilities(
            api_key_required=bool(settings.api_key),
            artifact_storage=settings.artifact_storage_enabled,
        ),
    )


def _versions() -> dict[str, str]:
    return {name: v for name, v in component_versions().items() if name.startswith("docling")}


def _stage(stage: Stage) -> StageCapabilities:
    known = _documented(stage)
    return StageCapabilities(
        option=stage.preset_option,
        custom_config_option=stage.config_option if stage.config_allowed else None,
        default=stage.default,
        presets=[_preset(preset, stage, known) for preset in stage.presets.values()],
    )


def _preset(
    preset: Preset, stage: Stage, known: Mapping[str, tuple[str, str | None]]
) -> PresetInfo:
    if preset.id == DEFAULT and preset.source == "default":
        return PresetInfo(id=DEFAULT, name=f"Server default ({stage.default})", source="default")
    # Only the id of an administrator's preset leaves the server.
    unknown = (preset.id, None)
    name, description = known.get(preset.id, unknown) if preset.source == "docling" else unknown
    return PresetInfo(id=preset.id, name=name, description=description, source=preset.source)


def _documented(stage: Stage) -> dict[str, tuple[str, str | None]]:
    """Names and descriptions that docling gives its presets of this stage, by id."""
    model: type[BaseModel] | None = None
    if stage.by_engine:
        model = (stage.config_models or {}).get(None)
    elif stage.name == "picture_classification":
        model = DocumentPictureClassifierOptions
    if model is None:
        return {}
    # docling's mix-in of its stage options, which has no type of its own.
    presets = model.list_presets()  # type: ignore[attr-defined]
    return {preset.preset_id: (preset.name, preset.description) for preset in presets}


def _default_target(policy: ServicePolicy) -> str:
    try:
        return policy.default_target_kind()
    except PolicyViolation:  # every open target needs details: there is no default
        return policy.target_kinds[0]


def _limit(value: int) -> int | None:
    return None if value == sys.maxsize else value
