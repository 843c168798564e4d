"""Lists and objects in one form field, in the ways in which clients write them.

docling-serve takes a list as repeated fields and an object as JSON text (upstream D23, D24).
Clients also send JSON arrays, commas, and what Python's ``str`` makes of a list or a dictionary.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic_core import PydanticCustomError

#: What a larger text holds was not written by ``str``; reading it would take memory for nothing.
_PYTHON_CHARS = 100_000


def read_object(text: str) -> dict[str, Any]:
    """The object that ``text`` is, in JSON or Python.

    Raises:
        PydanticCustomError: it is none; of the types that a JSON field of pydantic has.
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
    """The items of a list whose field was sent with ``values``: each an item, a whole list in JSON
    or Python, or items with commas between them."""
    return [item for value in values for item in _items(value)]


def read_array(text: str) -> list[Any] | None:
    """The list that ``text`` is, in JSON or Python; None if it is none."""
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
    """The literal that ``text`` is in Python; None if it is none."""
    if len(text) > _PYTHON_CHARS:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
