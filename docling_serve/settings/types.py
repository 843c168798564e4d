"""Value types that several settings share, and the markers a setting can carry.

A variable of the environment is text, so lists and mappings arrive here as they were written
and are read by the functions below. The rules are those of docling-serve 1.38.2.
"""

import json
from enum import Enum
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.config import JsonDict
from pydantic_settings import NoDecode

SECRET: JsonDict = {"secret": True}
"""Marker (``json_schema_extra``) of a setting whose value must not be shown."""


def called(*names: str, deprecated: tuple[str, ...] = ()) -> JsonDict:
    """Marker (``json_schema_extra``) that gives a setting several names.

    All names of a setting, its field name included; where several are set in one
    source, the first of them wins. Use of a deprecated one is logged.
    """
    return {"names": list(names), "deprecated_names": list(deprecated)}


class AsyncEngine(str, Enum):
    """Where accepted tasks run."""

    LOCAL = "local"
    RQ = "rq"
    RAY = "ray"


class LogLevel(str, Enum):
    """Lowest severity that is logged."""

    WARNING = "WARNING"
    INFO = "INFO"
    DEBUG = "DEBUG"


class LogFormat(str, Enum):
    """Shape of a log line."""

    TEXT = "text"
    JSON = "json"


class ArtifactStorageBackend(str, Enum):
    """Kind of object storage behind presigned URLs."""

    S3 = "s3"
    AZURE = "azure"


_NAMES = 'must be names separated by commas, or a JSON array of names, for example ["zip", "s3"]'


def _parse_name_list(value: object) -> object:
    """A JSON array, else comma-separated names. Nothing, commas alone and ``null`` mean no
    restriction. A malformed array is refused: it must neither open nor close everything."""
    if not isinstance(value, str):
        if value is None or isinstance(value, (list, tuple, set, frozenset)):
            return None if value is None else list(value)
        raise ValueError(_NAMES)
    try:
        decoded = json.loads(value)
    except ValueError:
        decoded = value
    if decoded is None:
        return None
    if isinstance(decoded, list):
        return [_name(item) for item in decoded]
    if isinstance(decoded, dict):
        raise ValueError(_NAMES)
    text = decoded if isinstance(decoded, str) else value  # "3" is also a name
    return [item.strip() for item in text.split(",") if item.strip()] or None


def _name(item: object) -> str:
    if isinstance(item, bool) or not isinstance(item, (str, int, float)):
        raise ValueError(_NAMES)
    return str(item)


def _parse_json(kind: type, says: str, value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        decoded = json.loads(value)
    except ValueError:
        decoded = None
    if not isinstance(decoded, kind):
        raise ValueError(f"must be {says}")
    return decoded


_parse_json_list = partial(_parse_json, list, 'a JSON array, for example ["https://a.example"]')
_parse_json_object = partial(_parse_json, dict, "a JSON object")


def _parse_presets(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return {}
    try:
        decoded = json.loads(value)
    except ValueError:
        # Without the parser's own text: it may quote a key of a remote service.
        raise ValueError("must be a JSON object that maps a preset name to its options") from None
    return decoded if isinstance(decoded, dict) else {}


def _parse_switch_or_auto(value: object) -> bool | Literal["auto"]:
    text = str(value).strip().lower() if isinstance(value, (str, bool, int)) else ""
    if text == "auto":
        return "auto"
    if text in {"true", "1", "yes", "on", "y", "t"}:
        return True
    if text in {"false", "0", "no", "off", "n", "f"}:
        return False
    raise ValueError("must be true, false or auto (also 1/0, yes/no, on/off)")


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


NameList = Annotated[list[str] | None, NoDecode, BeforeValidator(_parse_name_list)]
"""Names separated by commas, or a JSON array; null = no restriction, an empty array = nothing."""

JsonList = Annotated[list[str], NoDecode, BeforeValidator(_parse_json_list)]
"""A JSON array of strings; commas alone are refused, as upstream does."""

JsonObject = Annotated[
    dict[str, Any] | None,
    NoDecode,
    BeforeValidator(_parse_json_object),
    Field(json_schema_extra=SECRET, repr=False),
]
"""A JSON object, or null. Not shown, since it may hold variables with keys."""

Presets = Annotated[
    dict[str, Any],
    NoDecode,
    BeforeValidator(_parse_presets),
    Field(json_schema_extra=SECRET, repr=False),
]
"""JSON object from preset name to its options. Not shown, since it may hold request headers."""

SwitchOrAuto = Annotated[bool | Literal["auto"], BeforeValidator(_parse_switch_or_auto)]
"""true, false or auto, in any case."""

UpperLogLevel = Annotated[LogLevel | None, BeforeValidator(_upper)]
"""A log level in any case, or null."""

Secret = Annotated[str, Field(json_schema_extra=SECRET, repr=False)]
"""Text that is never shown."""

OptionalSecret = Annotated[str | None, Field(json_schema_extra=SECRET, repr=False)]
"""Text that is never shown, or null."""
