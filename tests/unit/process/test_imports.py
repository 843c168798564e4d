"""What a process imports can only be seen in a fresh one."""

from __future__ import annotations

import gc
import json
import os
import subprocess
from pathlib import Path

import pytest

from docling_serve.process.imports import gc_paused
from tests.helpers.process_ends import ROOT, python

HEAVY = {"torch", "transformers"}


def imported(code: str, tmp_path: Path) -> set[str]:
    """Top-level packages that are really there after ``code`` ran in a fresh interpreter."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("DOCLING_SERVE_")}
    ran = subprocess.run(
        python(
            "-c",
            f"{code}\nimport json, sys\n"
            "print(json.dumps([name for name, module in sys.modules.items() if module]))",
        ),
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return {name.partition(".")[0] for name in json.loads(ran.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "module",
    [
        "docling_serve.app",
        "docling_serve.cli.main",
        "docling_serve.running.runtime",
        "docling_serve.subprocess_worker",
        "docling_serve.subprocess_worker.child.main",
    ],
)
def test_the_composition_root_imports_nothing_heavy(module: str, tmp_path: Path) -> None:
    packages = imported(f"import {module}", tmp_path)

    assert not packages & (HEAVY | {"docling", "docling_core", "onnxruntime", "rapidocr", "ray"})


def test_the_package_and_its_entry_point_import_nothing_at_all(tmp_path: Path) -> None:
    """A spawned worker imports the main module of its server again."""
    packages = imported("import docling_serve, docling_serve.__main__", tmp_path)

    assert not packages & {"pydantic", "fastapi", "typer", "uvicorn", "docling"}


LIGHT = """
from docling_serve.process.imports import leave_out_torch, is_left_out
assert not is_left_out()
assert leave_out_torch()
assert is_left_out()
import docling_serve.api, docling_serve.engines.local.engine, docling_serve.policy
from docling_serve.settings import DoclingServeSettings
docling_serve.policy.ServicePolicy.from_settings(DoclingServeSettings(allow_external_plugins=True))
assert is_left_out()
"""


def test_the_server_does_without_torch(tmp_path: Path) -> None:
    packages = imported(LIGHT, tmp_path)

    assert "docling" in packages
    assert not packages & (HEAVY | {"onnxruntime", "rapidocr", "torchvision"})


SERVED = """
import os
os.environ["DOCLING_SERVE_USE_SUBPROCESS"] = "true"
from docling_serve.app import create_app
from docling_serve.process.imports import is_left_out
app = create_app()
assert app.routes
assert is_left_out()
"""


def test_a_server_in_subprocess_mode_is_made_without_torch(tmp_path: Path) -> None:
    packages = imported(SERVED, tmp_path)

    assert not packages & (HEAVY | {"onnxruntime", "rapidocr"})


def test_after_that_an_import_of_torch_fails_like_one_of_a_missing_package(tmp_path: Path) -> None:
    code = """
from docling_serve.process.imports import leave_out_torch
leave_out_torch()
from importlib.util import find_spec
for name in ("torch", "transformers"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name)
"""
    assert not imported(code, tmp_path) & HEAVY


def test_it_can_be_too_late(tmp_path: Path) -> None:
    code = """
import sys, types
sys.modules["torch"] = types.ModuleType("torch")  # as if something had imported it
from docling_serve.process.imports import leave_out_torch, is_left_out
assert not leave_out_torch()
assert not is_left_out()
assert "transformers" not in sys.modules
"""
    assert "docling_serve" in imported(code, tmp_path)


def test_a_spawned_process_is_not_affected(tmp_path: Path) -> None:
    code = """
import multiprocessing, sys
from docling_serve.process.imports import leave_out_torch
if __name__ == "__main__":
    leave_out_torch()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert not pool.apply(eval, ("'torch' in __import__('sys').modules",))
"""
    assert "docling_serve" in imported(code, tmp_path)


def test_the_collector_rests_meanwhile() -> None:
    with gc_paused():
        assert not gc.isenabled()

    assert gc.isenabled()


def test_the_collector_works_after_a_failure() -> None:
    with pytest.raises(ImportError), gc_paused():
        raise ImportError

    assert gc.isenabled()


def test_what_came_meanwhile_is_not_looked_at_again() -> None:
    gc.collect()
    before = gc.get_freeze_count()

    with gc_paused():
        kept = [[] for _ in range(1000)]  # type: list[list[int]]

    assert gc.get_freeze_count() >= before + len(kept)
    gc.unfreeze()
