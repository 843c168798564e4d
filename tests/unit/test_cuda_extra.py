"""The extra ``cuda`` brings every library that ONNX Runtime's CUDA provider is linked against.

``cuda_libraries.json`` was recorded with the commands in it. With
``DOCLING_SERVE_TEST_PACKAGE_INDEX=1`` the extra is resolved again, on the package index.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
RECORDED = json.loads((_HERE / "cuda_libraries.json").read_text())
_NOT_IN_WHEELS = {"the driver": {"libcuda.so.1"}}
_INDEX_LIMIT_S = 500


def _missing_owners(resolved: dict[str, str]) -> dict[str, str]:
    return {
        library: owner
        for library, owner in RECORDED["needed"].items()
        if owner != "the system"
        and library not in _NOT_IN_WHEELS.get(owner, ())
        and owner not in resolved
    }


def test_every_library_that_was_needed_had_an_owner() -> None:
    needed = RECORDED["needed"]
    assert {"libcurand.so.10", "libcudart.so.13", "libcublasLt.so.13"} <= needed.keys()
    assert not [name for name, owner in needed.items() if owner == "the system" and "cu" in name]
    assert _missing_owners(RECORDED["resolved"]) == {}


def test_the_build_for_cpus_does_not_come_with_it() -> None:
    assert RECORDED["plain onnxruntime"] is None


def test_the_extra_asks_for_the_libraries() -> None:
    root = _HERE.parents[1]
    extra = next(
        line
        for line in (root / "pyproject.toml").read_text(encoding="utf-8").splitlines()
        if line.startswith("cuda = ")
    )

    assert '"onnxruntime-gpu[cuda,cudnn]>=1.28,<2"' in extra
    assert '"torch>=2.11,<3"' in extra


@pytest.mark.skipif(
    os.environ.get("DOCLING_SERVE_TEST_PACKAGE_INDEX") != "1",
    reason="asks the package index: set DOCLING_SERVE_TEST_PACKAGE_INDEX=1",
)
@pytest.mark.timeout(_INDEX_LIMIT_S + 60)
def test_what_the_extra_resolves_to_now_has_every_owner(tmp_path: Path) -> None:
    report = tmp_path / "resolution.json"
    command = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed"]
    command += ["--report", str(report), f"{_HERE.parents[1]}[cuda]"]
    subprocess.run(command, check=True, timeout=_INDEX_LIMIT_S)
    found = [each["metadata"] for each in json.loads(report.read_text())["install"]]
    resolved = {each["name"].lower(): each["version"] for each in found}

    assert _missing_owners(resolved) == {}
    assert "onnxruntime" not in resolved
    newest, recorded = resolved["onnxruntime-gpu"], RECORDED["resolved"]["onnxruntime-gpu"]
    assert newest == recorded, "record cuda_libraries.json anew: what it needs may have changed"
