"""The event loop ends under the app: told twice to end, uvicorn leaves, and asyncio cancels all."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.eventually import eventually
from tests.helpers.process_ends import ROOT, python

_ENDS_WITHIN_S = 60.0

SERVER = """
import asyncio, sys
from docling_serve import app
from docling_serve.settings import DoclingServeSettings
from tests.unit.engines.hand_runner import submission

async def runs_for_ever(request, *, runtime):
    request.listeners.on_started()
    started.set()
    await asyncio.Event().wait()

async def serve(up):
    served = app.create_app(settings)
    async with served.router.lifespan_context(served):
        up.set_result(served.state.services.engine)
        await asyncio.Event().wait()

async def main():
    global started
    started = asyncio.Event()
    up = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(up))
    engine = await up
    for _ in range(3):
        await engine.submit(submission())
    await started.wait()
    print("the loop ends", flush=True)

app.run_request = runs_for_ever
settings = DoclingServeSettings(use_subprocess_for_ocr=sys.argv[1])
try:
    asyncio.run(main())
finally:
    print("the loop has ended", flush=True)
"""


@pytest.mark.parametrize("subprocess_mode", ["true", "false"])
def test_tasks_hold_up_nothing(tmp_path: Path, subprocess_mode: str) -> None:
    """Neither one that runs nor those that wait; and their files go with the server."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DOCLING_SERVE_")}
    told = subprocess.run(
        python("-c", SERVER, subprocess_mode),
        cwd=ROOT,
        env=clean | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        timeout=_ENDS_WITHIN_S,
        check=True,
    ).stdout.decode()

    assert told.splitlines() == ["the loop ends", "the loop has ended"]
    eventually(
        lambda: not any(tmp_path.glob("docling-serve-*")),
        within_s=_ENDS_WITHIN_S,
        what="all is removed",
    )
