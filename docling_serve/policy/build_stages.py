"""Build the stages of a server from its settings and from what docling offers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from docling.datamodel.chart_extraction_options import ChartExtractionVlmEngineOptions
from docling.datamodel.picture_classification_options import DocumentPictureClassifierOptions
from docling.datamodel.pipeline_options import (
    CodeFormulaVlmOptions,
    PictureDescriptionVlmEngineOptions,
    VlmConvertOptions,
)

from docling_serve.policy.needs import LOCAL_VLM, OWN_MODELS, TOKENS
from docling_serve.policy.registry import (
    CHUNKING_PRESETS,
    TABLE_STRUCTURE_PRESETS,
    Kinds,
    Registry,
)
from docling_serve.policy.stages import DEFAULT, Preset, Stage, custom_presets, usable_presets

_log = logging.getLogger(__name__)

#: The two chunkers, by their names on the wire.
HYBRID, HIERARCHICAL = "hybrid", "hierarchical"

_ENGINE_STAGES: tuple[tuple[str, str, Any], ...] = (
    ("vlm", "VLM", VlmConvertOptions),
    ("picture_description", "picture description", PictureDescriptionVlmEngineOptions),
    ("code_formula", "code/formula", CodeFormulaVlmOptions),
    ("chart_extraction", "chart extraction", ChartExtractionVlmEngineOptions),
)


def build_stages(settings: Any, registry: Registry) -> Mapping[str, Stage]:
    """Every stage by the name it has in the settings: ``ocr``, ``layout``, ``vlm`` and so on.

    Raises:
        ValueError: the default of layout or tables needs a package that is not installed here.
    """
    # With another engine the workers are other installations, unknown to this server.
    absent = registry.absent if settings.eng_kind == "local" else frozenset[str]()
    stages = [
        _ocr_stage(settings, registry),
        _layout_stage(settings, registry, absent),
        _table_stage(settings, registry, absent),
        _picture_classification_stage(settings, absent),
        _chunking_stage(settings, absent),
        *(_engine_stage(settings, *names, absent) for names in _ENGINE_STAGES),
    ]
    return MappingProxyType({stage.name: stage for stage in stages})


def _ocr_stage(settings: Any, registry: Registry) -> Stage:
    # "default" is no OCR preset of this API, unlike in the other stages (upstream D32).
    allowed = settings.allowed_ocr_presets
    is_open = "ocr" in registry.open_stages
    if not is_open:
        _warn_of_unknown(settings, "ocr", "presets", registry.ocr)
    ids = _kept(registry.ocr, allowed, keep_unknown=is_open)
    presets = [Preset(kind, "docling", kind) for kind in ids]
    return _kind_stage(settings, "ocr", "OCR", registry.ocr, registry, presets)


def _layout_stage(settings: Any, registry: Registry, absent: frozenset[str]) -> Stage:
    # docling has no layout presets of its own; the settings may open kinds as presets.
    if "layout" not in registry.open_stages:
        _warn_of_unknown(settings, "layout", "presets", registry.layout)
    presets = [
        Preset(DEFAULT, "default"),
        *(Preset(kind, "docling", kind) for kind in settings.allowed_layout_presets or ()),
    ]
    return _kind_stage(settings, "layout", "layout", registry.layout, registry, presets, absent)


def _table_stage(settings: Any, registry: Registry, absent: frozenset[str]) -> Stage:
    _warn_of_unknown(settings, "table_structure", "presets", TABLE_STRUCTURE_PRESETS)
    ids = _kept(TABLE_STRUCTURE_PRESETS, settings.allowed_table_structure_presets)
    presets = [
        Preset(DEFAULT, "default"),
        *(Preset(preset_id, "docling", TABLE_STRUCTURE_PRESETS[preset_id]) for preset_id in ids),
    ]
    kinds = registry.table_structure
    stage = ("table_structure", "table structure")
    return _kind_stage(settings, *stage, kinds, registry, presets, absent)


def _kind_stage(
    settings: Any,
    name: str,
    label: str,
    kinds: Kinds,
    registry: Registry,
    presets: list[Preset],
    absent: frozenset[str] = frozenset(),
) -> Stage:
    is_open = name in registry.open_stages
    default_kind = getattr(settings, f"default_{name}_kind")
    allowed = getattr(settings, f"allowed_{name}_kinds")
    if not is_open:
        _warn_of_unknown(settings, name, "kinds", kinds)
    allowed_kinds = tuple(k for k in kinds if allowed is None or k in (default_kind, *allowed))
    lacking = OWN_MODELS.lacking(absent)
    missing: dict[str | None, str] = {}
    if lacking is not None:
        missing = {kind: lacking for kind in allowed_kinds if _is_doclings(kinds[kind])}
    usable_kinds = tuple(kind for kind in allowed_kinds if kind not in missing)

    def is_usable(preset: Preset) -> bool:
        kind = preset.implementation
        if preset.id == DEFAULT and preset.source == "default":
            return True
        if kind is None:
            return False
        return kind in usable_kinds or (is_open and kind not in kinds)

    custom = custom_presets(getattr(settings, f"custom_{name}_presets"), by_engine=False)
    offered = usable_presets([*presets, *custom], label, is_usable)
    missing |= _missing_presets(presets, offered, missing)
    _require_default(settings, name, missing)
    return Stage(
        name=name,
        label=label,
        preset_option=f"{name}_preset",
        config_option=f"{name}_custom_config",
        default=getattr(settings, f"default_{name}_preset"),
        presets=MappingProxyType(offered),
        config_allowed=getattr(settings, f"allow_custom_{name}_config"),
        implementations=usable_kinds,
        config_models=MappingProxyType({kind: kinds[kind] for kind in usable_kinds}),
        open=is_open,
        missing=MappingProxyType(missing),
    )


def _is_doclings(model: type[Any]) -> bool:
    """Whether docling itself provides the implementation with these options."""
    return model.__module__.startswith("docling.")


def _missing_presets(
    presets: Iterable[Preset], usable: Mapping[str, Preset], missing: Mapping[str | None, str]
) -> dict[str | None, str]:
    """Why ``presets`` that are not ``usable`` cannot be used: those whose implementation is
    ``missing``."""
    return {
        preset.id: missing[preset.implementation]
        for preset in presets
        if preset.id not in usable and preset.implementation in missing
    }


def _require_default(settings: Any, name: str, missing: Mapping[str | None, str]) -> None:
    """Layout and tables are stages of every PDF, so their defaults must be usable."""
    for setting in (f"default_{name}_kind", f"default_{name}_preset"):
        asked = getattr(settings, setting)
        if asked in missing:
            raise ValueError(f"{setting}: '{asked}' cannot be used: {missing[asked]}")


def _engine_stage(
    settings: Any, name: str, label: str, model: Any, absent: frozenset[str]
) -> Stage:
    of_docling = model.list_presets()
    offered = {preset.preset_id: preset.default_engine_type.value for preset in of_docling}
    _warn_of_unknown(settings, name, "presets", offered)
    known_engines = [engine.value for engine in type(of_docling[0].default_engine_type)]
    _warn_of_unknown(settings, name, "engines", known_engines)
    custom = custom_presets(getattr(settings, f"custom_{name}_presets"), by_engine=True)
    default = getattr(settings, f"default_{name}_preset")
    engines = offered | {preset.id: preset.implementation for preset in custom}
    allowed_engines = getattr(settings, f"allowed_{name}_engines")
    presets = [
        Preset(DEFAULT, "default", engines.get(default)),
        *(
            Preset(preset_id, "docling", offered[preset_id])
            for preset_id in _kept(offered, getattr(settings, f"allowed_{name}_presets"))
        ),
        *custom,
    ]

    lacking = LOCAL_VLM.lacking(absent)
    missing: dict[str | None, str] = {}
    if lacking is not None:
        missing = {engine: lacking for engine in known_engines if not engine.startswith("api")}

    def is_usable(preset: Preset) -> bool:
        allowed = allowed_engines is None or preset.implementation in allowed_engines
        return allowed and preset.implementation not in missing

    usable = usable_presets(presets, label, is_usable)
    missing |= _missing_presets(presets, usable, missing)
    prefix = "vlm_pipeline" if name == "vlm" else name
    return Stage(
        name=name,
        label=label,
        preset_option=f"{prefix}_preset",
        config_option=f"{prefix}_custom_config",
        default=default,
        presets=MappingProxyType(usable),
        config_allowed=getattr(settings, f"allow_custom_{name}_config"),
        by_engine=True,
        implementations=None if allowed_engines is None else tuple(allowed_engines),
        config_models=MappingProxyType({None: model}),
        missing=MappingProxyType(missing),
    )


def _picture_classification_stage(settings: Any, absent: frozenset[str]) -> Stage:
    offered = DocumentPictureClassifierOptions.list_preset_ids()
    _warn_of_unknown(settings, "picture_classification", "presets", offered)
    presets = _plain_presets(
        _kept(offered, settings.allowed_picture_classification_presets),
        settings.custom_picture_classification_presets,
    )
    missing: dict[str | None, str] = {}
    lacking = OWN_MODELS.lacking(absent)
    if lacking is not None:
        missing = dict.fromkeys((*presets, None), lacking)
        presets = {}
    return Stage(
        name="picture_classification",
        label="picture classification",
        preset_option="picture_classification_preset",
        config_option="picture_classification_custom_config",
        default=settings.default_picture_classification_preset,
        presets=MappingProxyType(presets),
        config_allowed=settings.allow_custom_picture_classification_config,
        missing=MappingProxyType(missing),
    )


def _chunking_stage(settings: Any, absent: frozenset[str]) -> Stage:
    _warn_of_unknown(settings, "chunking", "presets", CHUNKING_PRESETS)
    presets = _plain_presets(
        _kept(CHUNKING_PRESETS, settings.allowed_chunking_presets),
        settings.custom_chunking_presets,
    )
    missing: dict[str | None, str] = {}
    lacking = TOKENS.lacking(absent)
    if lacking is not None:
        custom, default = settings.custom_chunking_presets, settings.default_chunking_preset
        by_structure = {HIERARCHICAL, *(name for name in custom if _is_hierarchical(custom[name]))}
        if default in by_structure:
            by_structure.add(DEFAULT)
        missing = dict.fromkeys((*presets.keys() - by_structure, HYBRID), lacking)
        presets = {name: preset for name, preset in presets.items() if name in by_structure}
    return Stage(
        name="chunking",
        label="chunking",
        preset_option="chunking_preset",
        config_option=None,  # chunking_options is not a custom config: any request may send it
        default=settings.default_chunking_preset,
        presets=MappingProxyType(presets),
        missing=MappingProxyType(missing),
    )


def _is_hierarchical(options: Any) -> bool:
    chunker = options.get("chunker") if isinstance(options, Mapping) else options.chunker
    return getattr(chunker, "value", chunker) == HIERARCHICAL


def _warn_of_unknown(settings: Any, stage: str, what: str, offered: Iterable[str]) -> None:
    """Warn at the start that a name of a restriction has no effect: it may be misspelt, and without
    a known one nothing is open."""
    setting = f"allowed_{stage}_{what}"
    known = {DEFAULT, *getattr(settings, f"custom_{stage}_presets"), *offered}
    for name in getattr(settings, setting) or ():
        if name not in known:
            choices = ", ".join(sorted(known - {DEFAULT}))
            _log.warning("%s: there is no '%s' here; known: %s", setting, name, choices)


def _plain_presets(ids: Iterable[str], custom: Mapping[str, Any]) -> dict[str, Preset]:
    presets = [
        Preset(DEFAULT, "default"),
        *(Preset(preset_id, "docling") for preset_id in ids),
        *custom_presets(custom, by_engine=None),
    ]
    return {preset.id: preset for preset in presets}


def _kept(
    offered: Iterable[str], allowed: list[str] | None, *, keep_unknown: bool = False
) -> list[str]:
    """What the settings leave of what is offered. Allowed names that are not offered are
    ignored."""
    names = list(offered)
    if allowed is None:
        return names
    return [n for n in allowed if n != DEFAULT and (keep_unknown or n in names)]
