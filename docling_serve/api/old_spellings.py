"""Requests as docling-serve took them before its first stable version.

Its ``v1alpha`` had a list of sources for each kind in place of ``sources``. Clients of that time
still send them, some of them first, and send the current form only when that is refused.
"""

from __future__ import annotations

from typing import Any

from docling_serve.policy import PolicyViolation

#: Maps each old list to the current kind of its sources.
_LISTS = {"file_sources": "file", "http_sources": "http"}


def with_sources(body: Any) -> Any:
    """``body`` with ``sources`` built from the old lists, if it has those instead.

    Raises:
        PolicyViolation: an old list is not a list of objects.
    """
    if not isinstance(body, dict) or "sources" in body:
        return body
    old = [name for name in _LISTS if body.get(name)]
    if not old:
        return body
    sources: list[Any] = []
    for name in old:
        listed = body.pop(name)
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise PolicyViolation(
                f"{name} must be a list of objects. Use sources, a list of objects with "
                f'"kind": "{_LISTS[name]}".'
            )
        sources += [{**item, "kind": _LISTS[name]} for item in listed]
    body["sources"] = sources
    return body
