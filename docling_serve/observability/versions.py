"""Versions of the server and of what it is built on."""

from __future__ import annotations

import functools
from importlib.metadata import PackageNotFoundError, version

#: Names that clients know (upstream B13), with the distributions that may bring them.
_COMPONENTS = {
    "docling-serve": ("docling-serve",),
    "docling-jobkit": ("docling-jobkit",),
    "docling": ("docling", "docling-slim"),
    "docling-core": ("docling-core",),
    "docling-ibm-models": ("docling-ibm-models",),
    "docling-parse": ("docling-parse",),
}


def component_versions() -> dict[str, str]:
    """Installed versions; a component that is not installed is left out."""
    return dict(_installed())


@functools.cache
def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, distributions in _COMPONENTS.items():
        for distribution in distributions:
            try:
                found[name] = version(distribution)
            except PackageNotFoundError:
                continue
            break
    return found
