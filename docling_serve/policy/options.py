"""Limits and allowances for the options of one conversion."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from docling.datamodel.base_models import OutputFormat
from docling.datamodel.pipeline_options import OcrOptions, ProcessingPipeline
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.vlm_model_specs import VlmModelType
from docling_core.types.doc.base import ImageRefMode
from pydantic import ValidationError

from docling_serve.policy.registry import Kinds, Registry
from docling_serve.policy.stages import DEFAULT, Stage
from docling_serve.policy.violations import PolicyViolation

_log = logging.getLogger(__name__)

# docling-jobkit's converter manager refuses the others, once the task runs. docling's ``native`` is
# the text of a PDF as is, ``asr`` is what audio files get anyway, ``legacy`` an old name of
# ``standard``.
PIPELINES = (ProcessingPipeline.STANDARD, ProcessingPipeline.VLM)

_STANDARD_STAGES = (
    "table_structure",
    "layout",
    "picture_classification",
    "picture_description",
    "code_formula",
    "chart_extraction",
    "chunking",
)
_VLM_STAGES = ("vlm", "picture_description", "chunking")
_PICTURE_OPTIONS = (
    *("include_images", "include_page_images"),
    *("do_picture_classification", "do_picture_description", "do_chart_extraction"),
)
_IMAGES_SCALE: float = ConvertDocumentsOptions.model_fields["images_scale"].default
_REMOTE_OCR = "kserve_v2_ocr"
_REMOTE_VLM = VlmModelType.GRANITE_VISION_OLLAMA
_AUTO = "auto"
_LOCAL_ENGINE = "auto_inline"
#: Older options that choose the model of a stage.
_OLD_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "vlm": ("vlm_pipeline_model", "vlm_pipeline_model_local", "vlm_pipeline_model_api"),
    "picture_description": ("picture_description_local", "picture_description_api"),
}


@dataclass(frozen=True)
class OptionRules:
    """Checks options and fills in the server's defaults. Times are in seconds."""

    stages: Mapping[str, Stage]
    max_document_timeout: float
    max_images_scale: float
    image_export_modes: tuple[ImageRefMode, ...]
    remote_services: bool
    ocr_default: str | None
    """The OCR preset of a request that names none; ``None`` leaves docling's ``auto``."""
    ocr_models: Kinds
    missing_ocr: frozenset[str]
    """OCR kinds that are known to be missing where conversions run."""

    @classmethod
    def from_settings(
        cls, settings: Any, stages: Mapping[str, Stage], registry: Registry
    ) -> OptionRules:
        """Read the limits of an object with the attributes of the server's settings."""
        # With another engine the workers are other installations, unknown to this server.
        missing = registry.missing_ocr if settings.eng_kind == "local" else frozenset[str]()
        return cls(
            stages=stages,
            max_document_timeout=settings.max_document_timeout,
            max_images_scale=settings.max_images_scale,
            image_export_modes=_image_export_modes(settings.allowed_image_export_modes),
            remote_services=settings.enable_remote_services,
            ocr_default=_ocr_default(settings, stages["ocr"], missing),
            ocr_models=registry.ocr,
            missing_ocr=missing,
        )

    def check(self, options: ConvertDocumentsOptions) -> ConvertDocumentsOptions:
        """The options to convert with: a copy, in which what was not sent is filled in.

        Raises:
            PolicyViolation: naming the option, and what is allowed.
        """
        filled = self._filled(options)
        self._check_numbers(filled)
        if filled.image_export_mode not in self.image_export_modes:
            raise PolicyViolation(
                f"image_export_mode '{filled.image_export_mode.value}' is not allowed. "
                f"Allowed modes: {', '.join(mode.value for mode in self.image_export_modes)}."
            )
        if filled.pipeline not in PIPELINES:
            raise PolicyViolation(
                f"pipeline '{filled.pipeline.value}' is not supported. "
                f"Supported pipelines: {', '.join(pipeline.value for pipeline in PIPELINES)}."
            )
        self._check_ocr(filled)
        self._check_stages(filled)
        self._check_remote_services(filled)
        return filled

    def _filled(self, options: ConvertDocumentsOptions) -> ConvertDocumentsOptions:
        """A copy in which what the client left out is set to something this server allows."""
        sent = options.model_fields_set
        update: dict[str, Any] = {}
        if options.document_timeout is None and math.isfinite(self.max_document_timeout):
            update["document_timeout"] = self.max_document_timeout
        if "images_scale" not in sent:
            update["images_scale"] = min(options.images_scale, self.max_images_scale)
        mode = options.image_export_mode
        if "image_export_mode" not in sent and mode not in self.image_export_modes:
            mode = update["image_export_mode"] = self.image_export_modes[0]
        if mode is ImageRefMode.PLACEHOLDER:
            # Images that no output would show (upstream D37).
            update["include_images"] = update["include_page_images"] = False
        if not options.images_scale > 0 and not _needs_pictures(options.model_copy(update=update)):
            # Nothing depends on it, so it is not an error.
            update["images_scale"] = min(_IMAGES_SCALE, self.max_images_scale)
        if self.ocr_default and not {"ocr_preset", "ocr_engine", "ocr_custom_config"} & sent:
            update["ocr_preset"] = self.ocr_default
        if options.ocr_lang is not None:
            update["ocr_lang"] = _split(options.ocr_lang)
        return options.model_copy(update=update)

    def _check_numbers(self, options: ConvertDocumentsOptions) -> None:
        timeout = options.document_timeout
        if timeout is not None and not timeout > 0:
            raise PolicyViolation("document_timeout must be greater than 0.")
        if timeout is not None and timeout > self.max_document_timeout:
            raise PolicyViolation(
                f"document_timeout exceeds the configured maximum of {self.max_document_timeout}."
            )
        scale = options.images_scale
        if not scale > 0 or (math.isinf(scale) and scale <= self.max_images_scale):
            raise PolicyViolation("images_scale must be greater than 0 and finite.")
        if scale > self.max_images_scale:
            raise PolicyViolation(
                f"images_scale exceeds the configured maximum of {self.max_images_scale}."
            )

    def _check_ocr(self, options: ConvertDocumentsOptions) -> None:
        stage = self.stages["ocr"]
        if options.pipeline is not ProcessingPipeline.STANDARD:
            stage.check_preset(options.ocr_preset)
            return
        kind = stage.check(options)
        if kind is None:
            return
        config = options.ocr_custom_config or {}
        if options.do_ocr and kind in self.missing_ocr and "tesseract_cmd" not in config:
            usable = [k for k in stage.implementations or () if k not in self.missing_ocr]
            raise PolicyViolation(
                f"OCR engine '{kind}' is not installed on this server. "
                f"Installed: {', '.join(sorted(usable))}."
            )
        if options.ocr_lang and not config:
            self._check_ocr_lang(options.ocr_lang, self.ocr_models.get(kind))

    def _check_ocr_lang(self, languages: list[str], model: Any) -> None:
        if model is None or not issubclass(model, OcrOptions):
            return
        try:
            model(lang=languages)
        except ValidationError as exc:
            # Other fields of the engine come from the settings, and are not given here.
            for error in exc.errors(include_url=False):
                if error["loc"][:1] == ("lang",):
                    message = error["msg"].removeprefix("Value error, ")
                    raise PolicyViolation(f"ocr_lang: {message}") from exc

    def _check_stages(self, options: ConvertDocumentsOptions) -> None:
        # These two are refused for every pipeline, as docling-serve does (upstream D29).
        for name in ("vlm", "chart_extraction"):
            stage = self.stages[name]
            if stage.config_option and getattr(options, stage.config_option):
                stage.check_config_allowed()
        standard = options.pipeline is ProcessingPipeline.STANDARD
        names = _STANDARD_STAGES if standard else _VLM_STAGES
        self._check_defaults_installed(names, options)
        for name in names:
            engine = self.stages[name].check(options) or self._default_engine(name, options)
            if engine and engine.startswith("api") and _is_on(name, options):
                self._need_remote_services(f"The {self.stages[name].label} engine '{engine}'")

    def _check_defaults_installed(self, names: Iterable[str], options: Any) -> None:
        """Refuse stages that are on and run with a default that this server lacks."""
        for name in names:
            stage = self.stages[name]
            if not _is_on(name, options) or _asks(stage, options):
                continue
            if name == "chunking" and options.chunking_options is not None:
                stage.check_installed(options.chunking_options.chunker.value, "with chunker")
                continue
            older = [vars(options)[each] for each in _OLD_OPTIONS.get(name, ())]
            if not any(_is_service(value) for value in older):
                stage.check_installed(_LOCAL_ENGINE if any(older) else DEFAULT, "preset")

    def _default_engine(self, name: str, options: ConvertDocumentsOptions) -> str | None:
        """The engine of a stage that is on and runs with the server's default preset."""
        stage = self.stages[name]
        if (
            _asks(stage, options)
            or not stage.by_engine
            or name == "vlm"
            or not _is_on(name, options)
        ):
            return None
        if name == "picture_description" and (
            _deprecated(options, "picture_description_local")
            or _deprecated(options, "picture_description_api")
        ):
            return None
        return stage.check_preset(DEFAULT)

    def _check_remote_services(self, options: ConvertDocumentsOptions) -> None:
        vlm = options.pipeline is ProcessingPipeline.VLM
        if _deprecated(options, "picture_description_api") and options.do_picture_description:
            self._need_remote_services("picture_description_api")
        if vlm and _deprecated(options, "vlm_pipeline_model_api"):
            self._need_remote_services("vlm_pipeline_model_api")
        if vlm and _deprecated(options, "vlm_pipeline_model") is _REMOTE_VLM:
            self._need_remote_services("vlm_pipeline_model 'granite_vision_ollama'")
        if not vlm and options.do_ocr and options.ocr_preset == _REMOTE_OCR:
            self._need_remote_services(f"OCR engine '{_REMOTE_OCR}'")

    def _need_remote_services(self, what: str) -> None:
        if not self.remote_services:
            raise PolicyViolation(
                f"{what} needs remote services, which this server does not allow. "
                "Please contact your administrator."
            )


def _deprecated(options: ConvertDocumentsOptions, name: str) -> Any:
    """A field whose attribute warns at every read, a warning meant for clients."""
    return vars(options)[name]


def _asks(stage: Stage, options: ConvertDocumentsOptions) -> bool:
    """Whether the request selects options for this stage."""
    names = (stage.preset_option, stage.config_option)
    return any(getattr(options, name) for name in names if name)


def _is_service(value: Any) -> bool:
    """Whether the value of an older option makes a service run the model."""
    return value is _REMOTE_VLM or hasattr(value, "url")


def _is_on(stage: str, options: ConvertDocumentsOptions) -> bool:
    if stage == "picture_classification":
        return options.do_picture_classification
    if stage == "chunking":
        return OutputFormat.CHUNKS in options.to_formats
    if stage == "picture_description":
        return options.do_picture_description
    if stage == "code_formula":
        return options.do_code_enrichment or options.do_formula_enrichment
    if stage == "chart_extraction":
        return options.do_chart_extraction
    return stage == "vlm"


def _needs_pictures(options: ConvertDocumentsOptions) -> bool:
    """Whether any picture is rendered at ``images_scale``, for the result or for a model."""
    return options.pipeline is not ProcessingPipeline.STANDARD or any(
        getattr(options, name) for name in _PICTURE_OPTIONS
    )


def _image_export_modes(allowed: list[str] | None) -> tuple[ImageRefMode, ...]:
    """The allowed modes in the order of the settings; unknown names are dropped."""
    known = {mode.value: mode for mode in ImageRefMode}
    if allowed is None:
        return tuple(known.values())
    for name in allowed:
        if name not in known:
            choices = ", ".join(known)
            _log.warning("allowed_image_export_modes: there is no '%s'; known: %s", name, choices)
    return tuple(known[name] for name in allowed if name in known) or (ImageRefMode.PLACEHOLDER,)


def _ocr_default(settings: Any, stage: Stage, missing: frozenset[str]) -> str | None:
    """The meaning of ``auto`` where the client did not ask for it and the settings define more.

    A default that cannot work falls back to ``auto``, so that requests without OCR options still
    do.
    """
    if _AUTO in settings.custom_ocr_presets:
        return None
    unusable = missing if settings.enable_remote_services else missing | {_REMOTE_OCR}
    presets = [p.id for p in stage.presets.values() if p.implementation not in unusable]
    default: str = settings.default_ocr_preset
    if default == _AUTO:
        # A request that names no preset must not fail because "auto" is closed.
        default = _AUTO if _AUTO in presets or not presets else presets[0]
    elif default not in presets:
        _log.warning("default_ocr_preset '%s' cannot be used here; using 'auto'", default)
        default = _AUTO
    return None if default == _AUTO else default


def _split(languages: list[str]) -> list[str]:
    """Comma-separated text in one entry means several languages; no code contains a comma."""
    parts = (part.strip() for entry in languages for part in entry.split(","))
    return [part for part in parts if part]
