"""Which install this is: the full one, or the lite one without torch."""

from __future__ import annotations

from importlib.machinery import PathFinder

LITE_LEAVES_OUT = (
    *("torch", "torchvision", "transformers", "accelerate", "docling-ibm-models"),
    "semchunk",  # cuts chunks by tokens, which transformers counts
    "polyfactory",  # for docling's extraction of data, which this server does not offer
)
"""Distributions that the lite install lacks, with those that only they need."""


def is_installed(module: str) -> bool:
    """Whether a top-level module could be imported, even if this process defers or leaves out its
    import."""
    return PathFinder.find_spec(module) is not None


def is_lite() -> bool:
    """Whether this is the lite install."""
    return not is_installed("torch")
