"""The settings of the server, composed from their groups."""

from typing import NamedTuple

from pydantic import BaseModel, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from typing_extensions import Self

from . import sources
from .conversion import ConversionSettings
from .engine_local import LocalEngineSettings
from .engine_ray import RayEngineSettings
from .engine_ray_actors import RayActorSettings
from .engine_rq import RqEngineSettings
from .isolation import IsolationSettings
from .limits import LimitSettings
from .names import is_secret, variable_names
from .observability import ObservabilitySettings
from .presets import PresetSettings
from .server import ServerSettings
from .storage import ArtifactStorageSettings
from .types import ArtifactStorageBackend, AsyncEngine
from .uvicorn import UvicornSettings


class DoclingServeSettings(
    ServerSettings,
    IsolationSettings,
    ConversionSettings,
    PresetSettings,
    LimitSettings,
    ArtifactStorageSettings,
    LocalEngineSettings,
    RqEngineSettings,
    RayEngineSettings,
    RayActorSettings,
    ObservabilitySettings,
    BaseSettings,
):
    """All settings with the prefix ``DOCLING_SERVE_``, as flat attributes.

    From strong to weak: constructor, process environment, `.env`, config file, default (of a lite
    install: the embedded profile). Unknown keys of the config file are kept in ``model_extra``.

    Raises:
        ValidationError: a value or a combination is refused; see `describe_settings_error`.
    """

    model_config = SettingsConfigDict(
        env_prefix="DOCLING_SERVE_",
        env_file=".env",
        env_parse_none_str="",
        extra="allow",
        # Values of a failed start must not get into logs: some are keys.
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, strong ones first, each with normalized names and no blanks."""
        sources.tidy_environment(settings_cls, env_settings)
        sources.tidy_environment(settings_cls, dotenv_settings)
        return (
            sources.constructor_source(settings_cls, init_settings),
            env_settings,
            dotenv_settings,
            sources.config_file_source(settings_cls, env_settings),
            file_secret_settings,
            sources.install_source(settings_cls),
        )

    @model_validator(mode="after")
    def _has_what_the_choices_need(self) -> Self:
        if self.eng_kind is AsyncEngine.RQ:
            self._require("eng_kind", "eng_rq_redis_url")
        if self.eng_kind is AsyncEngine.RAY:
            self._require("eng_kind", "eng_ray_redis_url", "eng_ray_address")
        if (
            self.artifact_storage_enabled
            and self.artifact_storage_backend is ArtifactStorageBackend.AZURE
        ):
            self._require(
                "artifact_storage_backend",
                "artifact_storage_azure_connection_string",
                "artifact_storage_azure_container",
                "artifact_storage_azure_account_name",
            )
        return self

    def _require(self, choice: str, *needed: str) -> None:
        missing = [name for name in needed if not getattr(self, name)]
        if missing:
            named = ", ".join(f"{name} ({env_names(name)[0]})" for name in missing)
            raise ValueError(f"{named} must be set when {choice} is {getattr(self, choice).value}")


class SettingsGroup(NamedTuple):
    """A part of the settings as people read them."""

    title: str
    model: type[BaseModel]
    """Holds the group's fields; its docstring describes them."""
    owner: type[BaseSettings]
    """The settings class that has these fields; it gives the prefix."""


GROUPS: tuple[SettingsGroup, ...] = (
    SettingsGroup("HTTP server process", UvicornSettings, UvicornSettings),
    SettingsGroup("API", ServerSettings, DoclingServeSettings),
    SettingsGroup("Subprocess mode and GPU memory", IsolationSettings, DoclingServeSettings),
    SettingsGroup("Conversion", ConversionSettings, DoclingServeSettings),
    SettingsGroup("Presets", PresetSettings, DoclingServeSettings),
    SettingsGroup("Limits", LimitSettings, DoclingServeSettings),
    SettingsGroup("Artifact storage", ArtifactStorageSettings, DoclingServeSettings),
    SettingsGroup("Engine", LocalEngineSettings, DoclingServeSettings),
    SettingsGroup("Engine rq", RqEngineSettings, DoclingServeSettings),
    SettingsGroup("Engine ray", RayEngineSettings, DoclingServeSettings),
    SettingsGroup("Engine ray: actors", RayActorSettings, DoclingServeSettings),
    SettingsGroup("Logs, metrics, traces", ObservabilitySettings, DoclingServeSettings),
)
"""All settings of both classes, each in one group, in the order of `.env.example`."""

SECRET_FIELDS: frozenset[str] = frozenset(
    name
    for settings_cls in (DoclingServeSettings, UvicornSettings)
    for name, field in settings_cls.model_fields.items()
    if is_secret(field)
)
"""Fields of both classes whose values must not be shown."""


def env_names(
    field_name: str, settings_cls: type[BaseSettings] = DoclingServeSettings
) -> tuple[str, ...]:
    """Environment variables of a setting, in upper case; the first one set wins.

    Raises:
        KeyError: the class has no such setting.
    """
    return variable_names(settings_cls, field_name)
