"""The calls that the integration guide shows, typed as it shows them, with real workers and OCR."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling_core.types.io import DocumentStream

import docling_serve.settings as shared
from docling_serve.errors import TaskNotTransferable
from docling_serve.settings.converter_config import converter_config
from docling_serve.subprocess_worker import (
    SubprocessMetrics,
    SubprocessWorkerPool,
    close_worker_pool,
    get_worker_pool,
    preload_models_mmap,
    process_in_subprocess,
)
from tests.conftest import StartServer
from tests.helpers.api import SLIP, base64_source, document, missing_phrases, upload
from tests.helpers.server import OCR_ONLY, SUBPROCESS_MODE

pytestmark = pytest.mark.usefixtures("ocr_only")


@pytest.fixture
def ocr_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The settings of a deployment that needs no model hub, read anew."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch-cache"))
    monkeypatch.setenv("DOCLING_SERVE_CONFIG_FILE", str(OCR_ONLY))
    before = vars(shared).pop("docling_serve_settings", None)
    yield
    vars(shared).pop("docling_serve_settings", None)
    if before is not None:
        vars(shared)["docling_serve_settings"] = before


@pytest.fixture
async def closed_pool() -> AsyncIterator[None]:
    """No pool of this process before, and none after."""
    await close_worker_pool()
    yield
    await close_worker_pool()


def flat(*sources: Any, **more: Any) -> dict[str, Any]:
    """The guide's dictionary: the task, and every setting of the converter beside it."""
    return {
        "task_id": "guide-1",
        "sources": list(sources),
        "convert_options": ConvertDocumentsOptions(),
        **converter_config(shared.docling_serve_settings),
        **more,
    }


def markdown(result: dict[str, Any]) -> str:
    """The text in the reply, whose folder is removed."""
    folder = Path(result["folder"])
    body = json.loads((folder / result["body"]).read_text(encoding="utf-8"))
    shutil.rmtree(folder)
    return str(body["document"]["md_content"])


# ---- process_in_subprocess -----------------------------------------------------------------------


@pytest.mark.usefixtures("closed_pool")
async def test_a_flat_dictionary_is_converted_in_a_worker() -> None:
    task_dict = flat(DocumentStream(name=SLIP, stream=io.BytesIO(document(SLIP))))
    result = await process_in_subprocess(task_dict, timeout=500)
    assert result["status"] == "success", result
    assert missing_phrases(SLIP, markdown(result["results"])) == []

    # The same worker, and a source as clients send it. The pool has no settings of its own.
    task_dict = flat(base64_source(SLIP), artifacts_path=None, max_num_pages=3)
    pickle.dumps(task_dict)
    result = await process_in_subprocess(task_dict)
    assert missing_phrases(SLIP, markdown(result["results"])) == []
    assert get_worker_pool().metrics.total_tasks == 2


@pytest.mark.usefixtures("closed_pool")
async def test_the_settings_in_the_dictionary_count() -> None:
    options = {"to_formats": ["md"]}
    small = flat(base64_source("scan.pdf"), convert_options=options, max_file_size=1000)
    result = await process_in_subprocess(small, timeout=500)
    assert result["status"] == "success", "a document that is refused is part of an answer"
    assert result["results"]["num_failed"] == 1

    result = await process_in_subprocess(
        flat(base64_source("notes.md"), convert_options=options), timeout=500
    )
    assert missing_phrases("notes.md", markdown(result["results"])) == []


async def test_a_field_that_nobody_knows_is_named() -> None:
    with pytest.raises(TaskNotTransferable, match="options_cash_size"):
        await process_in_subprocess(flat(base64_source("notes.md"), options_cash_size=2))


@pytest.mark.usefixtures("closed_pool")
async def test_a_document_that_is_not_base64_is_an_error() -> None:
    source = {"kind": "file", "base64_string": "abc", "filename": "a.md"}
    result = await process_in_subprocess(flat(source))
    assert result["status"] == "error"
    assert "not base64" in result["error"]["message"]


# ---- the pool ------------------------------------------------------------------------------------


async def test_a_pool_is_made_of_a_number_and_warmed() -> None:
    pool = SubprocessWorkerPool(max_workers=2)
    try:
        await pool.prewarm()
        assert [worker.state for worker in pool.workers()] == ["standby"]
    finally:
        await pool.close()


@pytest.mark.usefixtures("closed_pool")
async def test_the_pool_of_the_process_is_warmed_during_idle() -> None:
    pool = get_worker_pool()
    await pool.prewarm()
    assert get_worker_pool() is pool
    assert len(pool.workers()) == 1


def test_metrics_are_recorded_by_task() -> None:
    metrics = SubprocessMetrics()
    metrics.record_task(8.0, 2.0)
    assert (metrics.total_tasks, metrics.total_time, metrics.total_overhead) == (1, 8.0, 2.0)
    assert metrics.avg_overhead_pct == 25.0


def test_model_files_are_preloaded(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"w" * 5000)
    assert preload_models_mmap(tmp_path).files == 1


# ---- docling_serve.app ---------------------------------------------------------------------------

ORCHESTRATED = """
import asyncio
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.requests import FileSourceRequest
from docling_jobkit.datamodel.task import Task
from docling_serve.app import (
    cleanup_models_if_needed,
    ensure_models_loaded,
    process_task_with_vram_management,
    should_use_subprocess,
)
from docling_serve.orchestrator_factory import get_async_orchestrator
from docling_serve.subprocess_worker import close_worker_pool, get_worker_pool
import json, sys

async def main():
    orchestrator = get_async_orchestrator()
    await ensure_models_loaded(orchestrator)
    task = Task(
        task_id="guide-2",
        sources=[FileSourceRequest(**json.loads(sys.stdin.read()))],
        convert_options=ConvertDocumentsOptions(),
        target={"kind": "inbody"},
    )
    result = await process_task_with_vram_management(orchestrator, task)
    await cleanup_models_if_needed(orchestrator)
    handed_over = get_worker_pool().metrics.total_tasks
    await close_worker_pool()
    print(json.dumps([should_use_subprocess(), handed_over, result]))

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("mode", [True, False])
def test_a_task_is_run_where_the_mode_says(tmp_path: Path, mode: bool) -> None:
    script = tmp_path / "guide.py"
    script.write_text(ORCHESTRATED, encoding="utf-8")
    env = os.environ | {
        "DOCLING_SERVE_FREE_VRAM_ON_IDLE": "true",
        "DOCLING_SERVE_USE_SUBPROCESS": str(mode).lower(),
        "DOCLING_SERVE_SUBPROCESS_TIMEOUT": "120",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    ended = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(base64_source(SLIP)),
        env=env,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    used, handed_over, result = json.loads(ended.stdout.splitlines()[-1])
    assert used is mode
    assert handed_over == int(mode)
    assert missing_phrases(SLIP, markdown(result)) == []


# ---- the command line ----------------------------------------------------------------------------


def test_the_module_without_a_command_starts_the_server(serve: StartServer) -> None:
    server = serve(SUBPROCESS_MODE, command=lambda _: ["-m", "docling_serve"])
    (server.folder / ".env").write_text(f"UVICORN_PORT={server.port}\n")
    with server:
        body = server.api.convert(upload("notes.md")).json()
        assert missing_phrases("notes.md", body["document"]["md_content"]) == []


def test_one_command_compares_the_modes(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.modes", "--documents", "1"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(r"Subprocess overhead: -?\d+\.\d%", ended.stdout.splitlines()[-1])
