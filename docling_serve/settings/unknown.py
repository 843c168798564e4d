"""Names that look like settings but are not, with the setting that may be meant."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values

from .model import DoclingServeSettings, env_names
from .names import key_names, prefix_of

_PREFIX = prefix_of(DoclingServeSettings)
_KEYS = [
    key
    for field in DoclingServeSettings.model_fields
    for key in key_names(DoclingServeSettings, field)
]
_VARIABLES = {name for field in DoclingServeSettings.model_fields for name in env_names(field)}

# Kubernetes describes a service named docling-serve or docling-serve-<x> to every pod by such
# variables; they look like ours and aren't.
_SERVICE_LINK = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)\w*)")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://")


@dataclass(frozen=True)
class UnknownSetting:
    """A name that no setting has."""

    name: str
    nearest: str | None
    """The most similar known name, None if none is similar."""
    source: str = "environment"

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"unknown setting {self.name} in {self.source} has no effect{hint}"


def unknown_settings(
    environ: Mapping[str, str | None], source: str = "environment"
) -> list[UnknownSetting]:
    """Variables with our prefix that are not settings, by name, except those of Kubernetes."""
    found = []
    for name, value in sorted(environ.items()):
        upper = name.upper()
        if not upper.startswith(_PREFIX) or upper in _VARIABLES or _is_service_link(upper, value):
            continue
        nearest = _nearest(upper.removeprefix(_PREFIX).lower())
        found.append(UnknownSetting(name, nearest and _PREFIX + nearest.upper(), source))
    return found


def unknown_config_keys(keys: Iterable[str], source: str = "config file") -> list[UnknownSetting]:
    """Keys of a config file that are not settings, by name."""
    return [
        UnknownSetting(key, _nearest(key.lower()), source)
        for key in sorted(keys)
        if key not in _KEYS
    ]


def find_unknown_settings(
    settings: DoclingServeSettings,
    environ: Mapping[str, str] = os.environ,
    env_file: Path = Path(".env"),
) -> list[UnknownSetting]:
    """What is unknown in the process environment, in `.env`, and in the settings' config file."""
    dotenv = dotenv_values(env_file) if env_file.is_file() else {}
    return [
        *unknown_settings(environ),
        *unknown_settings(dotenv, source=str(env_file)),
        *unknown_config_keys(settings.model_extra or {}),
    ]


def _is_service_link(upper_name: str, value: str | None) -> bool:
    rest = upper_name.removeprefix(_PREFIX)
    if _SERVICE_LINK.fullmatch(rest):
        return True
    bare_port = rest == "PORT" or rest.endswith("_PORT")
    return bare_port and bool(_SERVICE_ADDRESS.match(value or ""))


def _nearest(key: str) -> str | None:
    # Compared without the prefix: it would make any two names look alike.
    matches = difflib.get_close_matches(key, _KEYS, n=1)
    return matches[0] if matches else None
