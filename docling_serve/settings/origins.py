"""Where the effective value of each setting came from, in words for an operator."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from . import sources
from .lite import ORIGIN
from .model import DoclingServeSettings, env_names
from .names import is_secret, prefix_of

MASK = "(set)"


@dataclass(frozen=True)
class EffectiveSetting:
    """A setting as it is in force. ``origin`` is empty where the value is the default."""

    name: str
    value: Any
    origin: str
    secret: bool = False

    @property
    def is_set(self) -> bool:
        """Whether it was set."""
        return bool(self.origin)

    @property
    def shown(self) -> str:
        """The value as text; for a secret only whether there is one."""
        if self.secret:
            return MASK if self.value else ""
        value = getattr(self.value, "value", self.value)
        return "" if value is None else str(value)


def effective_settings(settings: BaseSettings) -> list[EffectiveSetting]:
    """Every setting of ``settings``, made in this process from its usual sources, in the order of
    its fields."""
    settings_cls = type(settings)
    found = _origins(settings_cls)
    return [
        EffectiveSetting(name, getattr(settings, name), found.get(name, ""), is_secret(field))
        for name, field in settings_cls.model_fields.items()
    ]


def _origins(settings_cls: type[BaseSettings]) -> dict[str, str]:
    environment = EnvSettingsSource(settings_cls)
    dotenv = DotEnvSettingsSource(settings_cls)
    env_file = Path(str(settings_cls.model_config["env_file"]))
    origins: dict[str, str] = {}
    if settings_cls is DoclingServeSettings:
        sources.tidy_environment(settings_cls, environment)
        sources.tidy_environment(settings_cls, dotenv)
        path = environment.env_vars.get(sources.CONFIG_FILE_VARIABLE)
        in_file = sources.config_file_source(settings_cls, environment)()
        origins = dict.fromkeys(sources.install_source(settings_cls)(), ORIGIN)
        origins |= {name: str(path) for name in in_file if name in settings_cls.model_fields}
    prefix = prefix_of(settings_cls).lower()
    lines = dotenv_values(env_file) if env_file.is_file() else {}
    # The stronger source comes last.
    for source, given, place in ((dotenv, lines, f"{env_file}: "), (environment, os.environ, "")):
        for name in settings_cls.model_fields:
            if source.env_vars.get(prefix + name) is not None:
                origins[name] = place + _variable(settings_cls, name, given)
    return origins


def _variable(
    settings_cls: type[BaseSettings], field_name: str, given: Mapping[str, str | None]
) -> str:
    """The variable that provided the value, as it is spelled there."""
    written = {name.upper(): name for name, value in given.items() if value}
    names = env_names(field_name, settings_cls)
    return next((written[name] for name in names if name in written), names[0])
