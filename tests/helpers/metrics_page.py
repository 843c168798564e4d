"""Reads a page in Prometheus' text format."""

from __future__ import annotations

import re


def names(text: str) -> set[str]:
    """The metrics that have a value on the page."""
    return set(re.findall(r"^([a-z_]+)[{ ]", text, re.MULTILINE))


def samples(text: str, name: str) -> dict[str, float]:
    """Values of one metric by their labels, those of the instrumentation left out."""
    found = {}
    for labels, value in re.findall(rf"^{name}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE):
        own = [label for label in labels.split(",") if not label.startswith("otel_scope_")]
        found[",".join(sorted(own))] = float(value)
    return found
