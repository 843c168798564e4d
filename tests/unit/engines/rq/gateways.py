"""What tests of the rq engine wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from docling.datamodel.service.callbacks import CallbackSpec

from docling_serve.engines.base import Watch
from docling_serve.errors import Failure
from tests.helpers.rq_engines import (
    JobkitWorker,
)

CALLBACK = CallbackSpec(url="http://callback.test/", headers={"X-Key": "k"})


Event = tuple[str, Sequence[CallbackSpec], dict[str, Any]]


ASKED = Failure("policy", "asked to", details={"reason": "test"})


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something that nobody tells of."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def worker_does(worker: JobkitWorker) -> None:
    """The next job is taken and done."""
    await asyncio.to_thread(lambda: worker.succeed(worker.take()))


async def follow(watch: Watch) -> list[tuple[str, int | None]]:
    """Every state up to the last."""
    return [(view.status.value, view.position) async for view in watch]
