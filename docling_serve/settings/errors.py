"""Error messages for refused settings that name the variable to change."""

from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from .model import SECRET_FIELDS, DoclingServeSettings, env_names
from .names import key_names
from .uvicorn import UvicornSettings

_WORDS = {
    "bool_parsing": "must be true or false (also 1/0, yes/no, on/off)",
    "bool_type": "must be true or false",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text (in quotes in the config file)",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "path_type": "must be a path",
}
_LONGEST_VALUE = 80


def describe_settings_error(exc: ValidationError) -> str:
    """One line per problem: the variables, what is allowed, and the value unless it is secret.

    Takes the error of either settings class, distinguished by the error's title.
    """
    uvicorn = exc.title == UvicornSettings.__name__
    settings_cls = UvicornSettings if uvicorn else DoclingServeSettings
    return "\n".join(_line(dict(error), settings_cls) for error in exc.errors(include_url=False))


def _line(error: dict[str, Any], settings_cls: type[BaseSettings]) -> str:
    loc = error["loc"]
    if not loc or loc[0] not in settings_cls.model_fields:
        # A check over several settings; its message names the variables itself.
        return _words(error)
    field_name = str(loc[0])
    item = "".join(f"[{part}]" for part in loc[1:])
    return (
        f"{_all_names(field_name, settings_cls)}{item}: {_words(error)}{_value(error, field_name)}"
    )


def _all_names(field_name: str, settings_cls: type[BaseSettings]) -> str:
    variables = " or ".join(env_names(field_name, settings_cls))
    if settings_cls is UvicornSettings or field_name == "config_file":
        return variables
    return f"{variables} (config file: {' or '.join(key_names(settings_cls, field_name))})"


def _words(error: dict[str, Any]) -> str:
    if error["type"] in _WORDS:
        return _WORDS[error["type"]]
    message = str(error["msg"])
    message = message.removeprefix("Value error, ")
    return message.replace("Input should be", "must be")


def _value(error: dict[str, Any], field_name: str) -> str:
    if field_name in SECRET_FIELDS:
        return ""
    text = repr(error["input"])
    return f", got {text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '...'}"
