"""Sources of values, and how each is prepared before the model sees it.

From strong to weak: constructor, process environment, `.env`, config file, secrets directory,
the defaults of a lite install.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource
from pydantic_settings import PydanticBaseSettingsSource as Source

from .lite import defaults_of_this_install
from .names import fold_names, prefix_of

CONFIG_FILE_VARIABLE = "docling_serve_config_file"


def _takes_null(field: FieldInfo) -> bool:
    return type(None) in getattr(field.annotation, "__args__", ())


def _empty_means_null(field: FieldInfo) -> bool:
    """Null is the only way to say "no limit" to a setting whose default is a limit."""
    return _takes_null(field) and field.default is not None


def tidy_environment(settings_cls: type[BaseSettings], source: Source) -> None:
    """Keep only settings, by field name, without empty values.

    An empty variable counts as not set (compose files pass unset variables that way), except for
    the few settings described by `_empty_means_null`.
    """
    if not isinstance(source, EnvSettingsSource):
        return
    prefix = prefix_of(settings_cls).lower()
    fields = settings_cls.model_fields
    given = {name: value for name, value in source.env_vars.items() if value}
    tidy = {
        name: value
        for name, value in fold_names(settings_cls, given, prefix).items()
        if name.removeprefix(prefix) in fields and name.startswith(prefix)
    }
    for field_name, field in fields.items():
        name = prefix + field_name
        if name not in tidy and name in source.env_vars and _empty_means_null(field):
            tidy[name] = source.env_vars[name]
    source.env_vars = tidy


def constructor_source(settings_cls: type[BaseSettings], source: Source) -> Source:
    """The constructor's arguments, which may also use every name of a setting."""
    return InitSettingsSource(settings_cls, fold_names(settings_cls, source()))


def install_source(settings_cls: type[BaseSettings]) -> Source:
    """What the installation sets where no other source does."""
    return InitSettingsSource(settings_cls, defaults_of_this_install())


def config_file_source(settings_cls: type[BaseSettings], env_source: Source) -> Source:
    """The file named by the process environment; nothing when it names none.

    Raises:
        ValidationError: at ``config_file``, when the file is missing, unreadable, of another
            type, empty, or not a mapping.
    """
    values: dict[str, Any] = {}
    if isinstance(env_source, EnvSettingsSource):
        path = env_source.env_vars.get(CONFIG_FILE_VARIABLE)
        if path:
            values = _read_config_file(settings_cls, Path(path))
    return InitSettingsSource(settings_cls, values)


def _read_config_file(settings_cls: type[BaseSettings], path: Path) -> dict[str, Any]:
    # Read here and not by pydantic-settings' own file sources: these treat a missing file and one
    # without a mapping as empty, and a server without its settings must not start.
    try:
        content = _parse(path)
    except OSError as exc:
        reason = f"cannot be read: {exc.strerror or type(exc).__name__}"
        raise _file_error(settings_cls, path, reason) from None
    except ValueError as exc:
        raise _file_error(settings_cls, path, str(exc)) from None
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        reason = "must hold a mapping of setting names at its top level"
        raise _file_error(settings_cls, path, reason)
    return _without_blanks(settings_cls, fold_names(settings_cls, content))


def _parse(path: Path) -> object:
    suffix = path.suffix
    if suffix not in {".yaml", ".yml", ".json"}:
        raise ValueError("must end in .yaml, .yml or .json")
    text = path.read_text(encoding="utf-8")
    if suffix == ".json":
        try:
            return json.loads(text)
        except json.JSONDecodeError as exc:
            raise ValueError(f"is not valid JSON: {exc}") from None
    import yaml  # noqa: PLC0415 - only a YAML file needs it

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as exc:
        # The parser's text quotes the line, which may hold a key: its place is enough.
        mark = getattr(exc, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ValueError(f"is not valid YAML{where}") from None


def _without_blanks(settings_cls: type[BaseSettings], values: dict[str, Any]) -> dict[str, Any]:
    """Drop `name:` without a value where null is no value of that setting."""
    fields = settings_cls.model_fields
    return {
        name: value
        for name, value in values.items()
        if value is not None or name not in fields or _takes_null(fields[name])
    }


def _file_error(settings_cls: type[BaseSettings], path: Path, reason: str) -> ValidationError:
    problem = PydanticCustomError("config_file", "config file {reason}", {"reason": reason})
    details = InitErrorDetails(type=problem, loc=("config_file",), input=str(path))
    return ValidationError.from_exception_data(settings_cls.__name__, [details], hide_input=True)
