"""What the pool makes of the provider that ONNX Runtime ran on in a worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from docling_serve.subprocess_worker import SubprocessWorkerPool
from docling_serve.subprocess_worker.pool.starter import Starter
from tests.helpers import scriptable_child
from tests.helpers.pools import KEPT, GrantsOf, HeldGrant, ScriptedJob, pool_config

pytestmark = pytest.mark.usefixtures("nothing_is_left")

ON_CUDA = {"asked": "CUDAExecutionProvider", "used": "CUDAExecutionProvider"}
FELL_BACK = ON_CUDA | {"used": "CPUExecutionProvider", "why": "libcurand.so.10 is missing"}
NO_CUDA_IN_BUILD = FELL_BACK | {"offered": False}


class Learning(HeldGrant):
    """Notes what jobs are said to have been."""

    def __init__(self) -> None:
        super().__init__()
        self.back.set()
        self.completed: list[bool] = []

    def finished(self, *, completed: bool, ocr_ran: bool = False) -> None:  # noqa: ARG002
        self.completed.append(completed)


@pytest.mark.parametrize(
    ("onnx", "typical", "fallbacks"),
    [(None, True, 0), (ON_CUDA, True, 0), (FELL_BACK, False, 1), (NO_CUDA_IN_BUILD, True, 1)],
    ids=["no session", "on CUDA", "fell back", "a build without CUDA"],
)
async def test_nothing_is_learned_from_a_job_that_fell_back(
    tmp_path: Path, onnx: dict[str, Any] | None, typical: bool, fallbacks: int
) -> None:
    grant, config = Learning(), pool_config(**KEPT)
    starter = Starter(config, scriptable_child.main)
    pool = SubprocessWorkerPool(config=config, starter=starter, admission=GrantsOf(grant))
    try:
        await ScriptedJob.make(tmp_path, holds_models=True, onnx=onnx).run(pool)
        described = pool.describe()
    finally:
        await pool.close()

    (worker,) = described["workers"]
    expected = None if onnx is None else {"why": "", "offered": True} | onnx
    assert worker["onnx"] == expected
    assert described["metrics"]["onnx_fallbacks"] == fallbacks
    assert grant.completed == [typical]
