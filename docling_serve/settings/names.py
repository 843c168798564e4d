"""The names of a setting, and the mapping of all of them to the field name."""

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_log = logging.getLogger(__name__)


def _mark(field: FieldInfo, name: str) -> Any:
    extra = field.json_schema_extra
    return extra.get(name) if isinstance(extra, dict) else None


def is_secret(field: FieldInfo) -> bool:
    """Whether the value of this setting must not be shown."""
    return bool(_mark(field, "secret"))


def key_names(model: type[BaseModel], field_name: str) -> tuple[str, ...]:
    """Names of a setting without prefix, as in the config file; the first one set wins.

    Raises:
        KeyError: the model has no such setting.
    """
    return tuple(_mark(model.model_fields[field_name], "names") or (field_name,))


def deprecated_key_names(model: type[BaseModel], field_name: str) -> tuple[str, ...]:
    """The deprecated ones of `key_names`, which still work."""
    return tuple(_mark(model.model_fields[field_name], "deprecated_names") or ())


def prefix_of(model: type[BaseModel]) -> str:
    """The prefix of the environment variables of a settings class, in upper case."""
    return str(model.model_config.get("env_prefix", "")).upper()


def variable_names(model: type[BaseModel], field_name: str) -> tuple[str, ...]:
    """Environment variables of a setting; the first one set wins.

    Raises:
        KeyError: the model has no such setting.
    """
    return tuple(prefix_of(model) + name.upper() for name in key_names(model, field_name))


def fold_names(
    model: type[BaseModel], values: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
    """Values of one source with every setting under its field name (each after ``prefix``).

    Each source is mapped separately: a second name in a stronger source must win over the first
    name in a weaker one, which aliases of the model cannot provide.
    """
    folded = dict(values)
    for field_name in model.model_fields:
        names = key_names(model, field_name)
        given = [name for name in names if prefix + name in folded]
        if len(names) == 1 or not given:
            continue
        for name in set(given) & set(deprecated_key_names(model, field_name)):
            _log.warning("setting %s is deprecated; use %s instead", name, names[0])
        winner = folded[prefix + given[0]]
        for name in given:
            del folded[prefix + name]
        folded[prefix + field_name] = winner
    return folded
