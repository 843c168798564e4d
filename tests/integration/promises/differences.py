"""Where one engine keeps a promise in another way than the rest, and why.

A test asks :func:`difference` and checks the difference instead of the promise. ``docs/scale.md``
has the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """``engine`` keeps ``promise`` as ``what`` says, because of ``why``."""

    promise: str
    engine: str
    what: str
    why: str


DIFFERENCES = (
    Difference(
        "store restarted",
        "local",
        "The same event as a killed host.",
        "The journal is part of the server's process.",
    ),
    Difference(
        "gateways",
        "local",
        "There is one gateway.",
        "Two servers cannot share one journal.",
    ),
)


def difference(promise: str, engine: str) -> Difference | None:
    """How ``engine`` differs in ``promise``; None if it keeps it as it stands."""
    found = (row for row in DIFFERENCES if (row.promise, row.engine) == (promise, engine))
    return next(found, None)
