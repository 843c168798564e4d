"""What the stages of docling need of packages that an install may be without."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """``modules`` to import, and the requirement that brings them, as pip is given it."""

    modules: tuple[str, ...]
    requirement: str

    def lacking(self, absent: Iterable[str]) -> str | None:
        """How to get what is among the ``absent`` modules; None if nothing is."""
        missing = [module for module in self.modules if module in absent]
        if not missing:
            return None
        verb = "is" if len(missing) == 1 else "are"
        return (
            f"{' and '.join(missing)} {verb} not installed on this server "
            f"(pip install '{self.requirement}')."
        )


OWN_MODELS = Need(("torch", "transformers"), "docling-serve")
"""docling's models for layout, tables and the classes of pictures. The lite install is without
them, and the full one has no extra for them."""

LOCAL_VLM = Need(("torch", "transformers"), "docling-serve[vlm]")
"""Vision-language models that run on this server, not in a service."""

TOKENS = Need(("transformers", "semchunk"), "docling-core[chunking]")
"""Chunkers that count tokens."""

MODULES = frozenset({*OWN_MODELS.modules, *LOCAL_VLM.modules, *TOKENS.modules})
