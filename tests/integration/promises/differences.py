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
        "turns",
        "rq",
        "Tasks of all tenants run in the order in which they were accepted.",
        "A queue of RQ is one list.",
    ),
    Difference(
        "repeat",
        "rq",
        "A request that is sent again creates a second task; its key is ignored.",
        "The engine keeps no keys.",
    ),
    Difference(
        "host killed",
        "rq",
        "The task that ran there fails with `worker_lost` and is retryable; waiting tasks run on.",
        "RQ does not queue a job again whose worker is gone.",
    ),
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
