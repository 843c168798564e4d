"""The stages of a conversion whose model a request may choose: by preset or by its own config.

A preset or config runs on an *implementation*: a kind (OCR, layout, tables) or an engine (the
stages that use a vision-language model). The rules are those by which docling-jobkit's converter
manager accepts or refuses options in the worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from docling.datamodel.service.options import ConvertDocumentsOptions
from pydantic import BaseModel, ValidationError

from docling_serve.policy.violations import PolicyViolation

_log = logging.getLogger(__name__)

DEFAULT = "default"


@dataclass(frozen=True)
class Preset:
    """A named set of options. ``implementation`` is its kind or engine, where it has one."""

    id: str
    source: Literal["default", "docling", "custom"]
    implementation: str | None = None


@dataclass(frozen=True)
class Stage:
    """What a request may choose for one stage.

    ``default`` is the preset that the server's settings name, ``presets`` are those that may be
    asked for, by id. ``implementations`` are the allowed kinds or engines, ``None`` for any.
    ``config_models`` maps an implementation, or ``None`` for all, to the options model that a
    custom config must fit; a kind that is not in it, of an ``open`` stage, is not checked.
    ``missing`` says for presets, kinds and engines that would be allowed how to install what they
    need and this server lacks; ``None`` stands for a config that names neither.
    """

    name: str
    label: str
    preset_option: str
    config_option: str | None
    default: str
    presets: Mapping[str, Preset]
    config_allowed: bool = False
    by_engine: bool = False
    implementations: tuple[str, ...] | None = None
    config_models: Mapping[str | None, type[BaseModel]] | None = None
    open: bool = False
    missing: Mapping[str | None, str] = field(default_factory=dict)

    @property
    def is_offered(self) -> bool:
        """Whether a request can use this stage at all, as this server is installed."""
        return bool(self.presets) or not self.missing or self.config_allowed

    def check(self, options: ConvertDocumentsOptions) -> str | None:
        """Check what ``options`` ask of this stage; returns the implementation they choose.

        ``None`` means that nothing was requested, or that the preset does not name one.

        Raises:
            PolicyViolation: naming what is allowed.
        """
        config = getattr(options, self.config_option) if self.config_option else None
        if config:
            self.check_config_allowed()
            return self._check_config(config)
        preset = getattr(options, self.preset_option)
        return self.check_preset(preset) if preset else None

    def check_preset(self, preset_id: str) -> str | None:
        """Check one preset id; returns its implementation, if that is known."""
        preset = self.presets.get(preset_id)
        if preset is not None:
            return preset.implementation
        self.check_installed(preset_id, "preset")
        if self.open:
            return None
        raise PolicyViolation(
            f"{_capital(self.label)} preset '{preset_id}' is not allowed. "
            f"Allowed presets: {_listed(self.presets)}."
        )

    def check_installed(self, name: str | None, word: str) -> None:
        """Refuse a preset, kind or engine that needs what this server lacks."""
        if name in self.missing:
            named = f" {word} '{name}'" if name else ""
            raise PolicyViolation(
                f"{_capital(self.label)}{named} cannot be used: {self.missing[name]}"
            )

    def check_config_allowed(self) -> None:
        """Refuse a custom config of this stage where the settings do not allow any."""
        if not self.config_allowed:
            raise PolicyViolation(
                f"Custom {self.label} configuration is not allowed. "
                "Please use a preset or contact your administrator."
            )

    def _check_config(self, config: BaseModel | Mapping[str, Any]) -> str | None:
        implementation = implementation_of(config, by_engine=self.by_engine)
        models = self.config_models or {}
        self.check_installed(implementation, "engine" if self.by_engine else "kind")
        if self.implementations is not None:
            self._check_allowed(implementation)
        model = models.get(implementation, models.get(None))
        if model is not None and isinstance(config, Mapping):
            self._check_fits(config, model)
        return implementation

    def _check_allowed(self, implementation: str | None) -> None:
        allowed = self.implementations or ()
        word = "engine" if self.by_engine else "kind"
        choices = f"Allowed {word}s: {_listed(allowed)}."
        if implementation is None:
            where = "engine_options.engine_type" if self.by_engine else "kind"
            raise PolicyViolation(
                f"{self.config_option} must include '{where}', the {word} to use. {choices}"
            )
        if implementation not in allowed and not self.open:
            raise PolicyViolation(
                f"{_capital(self.label)} {word} '{implementation}' is not allowed. {choices}"
            )

    def _check_fits(self, config: Mapping[str, Any], model: type[BaseModel]) -> None:
        try:
            model.model_validate({key: config[key] for key in config if key != "kind"})
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(part) for part in first["loc"])
            detail = f"{path}: {first['msg']}" if path else first["msg"]
            raise PolicyViolation(f"{self.config_option} is not valid: {detail}") from exc


def implementation_of(config: BaseModel | Mapping[str, Any], *, by_engine: bool) -> str | None:
    """The kind or engine named in a config, given as docling's model or as plain data."""
    holder: Any = config
    if by_engine:
        holder = _get(config, "engine_options")
    value = _get(holder, "engine_type" if by_engine else "kind")
    value = getattr(value, "value", value)
    return value if isinstance(value, str) and value else None


def custom_presets(presets: Mapping[str, Any], *, by_engine: bool | None) -> list[Preset]:
    """The presets an administrator defined; ``by_engine`` is ``None`` if they have neither."""
    return [
        Preset(
            preset_id,
            "custom",
            None if by_engine is None else implementation_of(options, by_engine=by_engine),
        )
        for preset_id, options in presets.items()
    ]


def usable_presets(
    presets: Iterable[Preset], label: str, is_usable: Callable[[Preset], bool]
) -> dict[str, Preset]:
    """Presets by id, the later ones winning, without those that cannot work."""
    usable = {}
    for preset in presets:
        if is_usable(preset):
            usable[preset.id] = preset
            continue
        usable.pop(preset.id, None)
        if preset.source == "custom":
            _log.warning(
                "custom %s preset '%s' cannot be used: %s is not allowed or not known",
                label,
                preset.id,
                preset.implementation or "what it runs on",
            )
    return usable


def _get(holder: Any, name: str) -> Any:
    return holder.get(name) if isinstance(holder, Mapping) else getattr(holder, name, None)


def _capital(label: str) -> str:
    return label[0].upper() + label[1:]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
