"""Settings of the server, read from environment, `.env` and config file.

`docling_serve_settings` and `uvicorn_settings` are the shared instances. They are created on
first access: a program that only wants the classes, or wants to explain a refused value
(`describe_settings_error`), can import this package in a broken environment; importing an instance
there raises pydantic's ``ValidationError``.
"""

from typing import TYPE_CHECKING, Any

from .errors import describe_settings_error
from .model import GROUPS, SECRET_FIELDS, DoclingServeSettings, SettingsGroup, env_names
from .types import ArtifactStorageBackend, AsyncEngine, LogFormat, LogLevel
from .unknown import (
    UnknownSetting,
    find_unknown_settings,
    unknown_config_keys,
    unknown_settings,
)
from .uvicorn import UvicornSettings

if TYPE_CHECKING:
    docling_serve_settings: DoclingServeSettings
    uvicorn_settings: UvicornSettings

__all__ = [
    "GROUPS",
    "SECRET_FIELDS",
    "ArtifactStorageBackend",
    "AsyncEngine",
    "DoclingServeSettings",
    "LogFormat",
    "LogLevel",
    "SettingsGroup",
    "UnknownSetting",
    "UvicornSettings",
    "describe_settings_error",
    "docling_serve_settings",
    "env_names",
    "find_unknown_settings",
    "unknown_config_keys",
    "unknown_settings",
    "uvicorn_settings",
]

_SHARED: dict[str, type[DoclingServeSettings] | type[UvicornSettings]] = {
    "docling_serve_settings": DoclingServeSettings,
    "uvicorn_settings": UvicornSettings,
}

# A reload keeps the module's names; without this it would not read the environment again.
for _name in _SHARED:
    globals().pop(_name, None)


if not TYPE_CHECKING:  # a type checker would accept any name as an attribute

    def __getattr__(name: str) -> Any:
        if name not in _SHARED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, _SHARED[name]())
