"""The packages that docling's stages need and that an installation may lack."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """``modules`` to import, and the requirement, as passed to pip, that provides them."""

    modules: tuple[str, ...]
    requirement: str

    def lacking(self, absent: Iterable[str]) -> str | None:
        """How to install the ``absent`` modules; None if nothing is absent."""
        missing = [module for module in self.modules if module in absent]
        if not missing:
            return None
        verb = "is" if len(missing) == 1 else "are"
        return (
            f"{' and '.join(missing)} {verb} not installed on this server "
            f"(pip install '{self.requirement}')."
        )


OWN_MODELS = Need(("torch", "transformers"), "docling-serve")
"""docling's models for layout, tables and picture classification. The lite install lacks them, and
the full one has no extra for them."""

LOCAL_VLM = Need(("torch", "transformers"), "docling-serve[vlm]")
"""Vision-language models that run on this server, not in a service."""

TOKENS = Need(("transformers", "semchunk"), "docling-core[chunking]")
"""Chunkers that count tokens."""

MODULES = frozenset({*OWN_MODELS.modules, *LOCAL_VLM.modules, *TOKENS.modules})
