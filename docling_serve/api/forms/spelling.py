"""Lists and objects in one form field, in the notations that clients use.

docling-serve takes a list as repeated fields and an object as JSON text (upstream D23, D24).
Clients also send JSON arrays, commas, and Python's ``str`` of a list or a dictionary.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic_core import PydanticCustomError

#: A larger text was not written by ``str``; parsing it would waste memory.
_PYTHON_CHARS = 100_000


def read_object(text: str) -> dict[str, Any]:
    """Parse ``text`` as an object, in JSON or Python notation.

    Raises:
        PydanticCustomError: it is not an object; with the error types of pydantic's JSON fields.
    """
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as exc:
        parsed = _read_python(text)
        if parsed is None:
            raise PydanticCustomError(
                "json_invalid", "Invalid JSON: {error}", {"error": str(exc)}
            ) from None
    if not isinstance(parsed, dict) or not all(isinstance(key, str) for key in parsed):
        raise PydanticCustomError("dict_type", "Input should be a valid dictionary")
    return parsed


def read_list(values: Iterable[Any]) -> list[Any]:
    """The items of a list whose field was sent with ``values``: each one item, a whole list in
    JSON or Python notation, or items separated by commas."""
    return [item for value in values for item in _items(value)]


def read_array(text: str) -> list[Any] | None:
    """Parse ``text`` as a list, in JSON or Python notation; None if it is not one."""
    text = text.strip()
    if not text.startswith(("[", "(")):
        return None
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = _read_python(text)
    return list(parsed) if isinstance(parsed, list | tuple) else None


def _items(value: Any) -> Iterator[Any]:
    if not isinstance(value, str):
        yield value
        return
    items = read_array(value)
    if items is not None:
        yield from items
    elif "," in value:
        yield from (item for part in value.split(",") if (item := part.strip()))
    else:
        yield value


def _read_python(text: str) -> Any:
    """Parse ``text`` as a Python literal; None if it is not one."""
    if len(text) > _PYTHON_CHARS:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
