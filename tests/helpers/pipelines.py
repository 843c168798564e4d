"""What a docling pipeline is made of, as plain data that can be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

# State of runs, not configuration; and what only our clones have.
_NOT_COMPARED = {"_run_seq", "_idle_model_threads", "_model_threads_lock", "_clone_of"}
_PLAIN = (str, int, float, bool, bytes, Path, type(None))


def describe(value: Any) -> Any:
    """Classes, options and settings, through all models; of other libraries' objects the class."""
    if isinstance(value, BaseModel):
        return type(value).__name__, value.model_dump()
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, list | tuple):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    name = type(value).__name__
    if not type(value).__module__.startswith(("docling.", "docling_serve.")):
        return name
    state = {key: item for key, item in vars(value).items() if key not in _NOT_COMPARED}
    return name, describe(state)
