"""A real worker of this installation: how it starts, what it applies to itself, how it exits.

This process plays the server. The doctor kills it, and checks whether the worker exits too.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import psutil

from docling_serve.doctor.facts import WorkerFacts
from docling_serve.process.imports import leave_out_torch
from docling_serve.settings import DoclingServeSettings


def answer(tell: Callable[[Any], None]) -> None:
    """Report :class:`WorkerFacts`, then keep the worker until standard input ends."""
    leave_out_torch()  # as a server does
    asyncio.run(_answer(tell))


async def _answer(tell: Callable[[Any], None]) -> None:
    from docling_serve.running.runtime import pool_config  # noqa: PLC0415 - after torch is left out
    from docling_serve.subprocess_worker import SubprocessWorkerPool  # noqa: PLC0415

    config = replace(pool_config(DoclingServeSettings()), prewarm=1, light_workers=0)
    unfit, template_rss = await _examine_template(config)
    pool = SubprocessWorkerPool(config=config)
    began = time.monotonic()
    await pool.start()
    await pool.prewarm(1)
    ready_s = time.monotonic() - began
    snapshot = pool.snapshot()
    worker = snapshot.workers[0]
    tell(
        asdict(
            WorkerFacts(
                start_method=snapshot.start_method,
                ready_s=round(ready_s, 3),
                rss_bytes=worker.rss_bytes,
                measures=worker.measures,
                template_unfit=unfit,
                template_rss_bytes=template_rss,
                worker_pid=worker.pid or 0,
            )
        )
    )
    await asyncio.to_thread(sys.stdin.read)
    await pool.close()


async def _examine_template(config: Any) -> tuple[str | None, int | None]:
    """Why the fork template is refused, None if it is not; and the memory it takes."""
    from docling_serve.internals import fork_server  # noqa: PLC0415 - see above
    from docling_serve.subprocess_worker.pool.starter import Starter  # noqa: PLC0415

    starter = Starter(replace(config, start_method="forkserver"))
    rss = None
    try:
        await starter.prepare()
        with contextlib.suppress(psutil.Error):
            rss = psutil.Process(fork_server.running().pid).memory_info().rss
    finally:
        fork_server.stop()
        starter.close()
    return starter.template_unfit, rss
