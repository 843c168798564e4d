"""The lite install: what is in it, how large it is, and what it sets."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml

from docling_serve.process.installation import LITE_LEAVES_OUT, is_installed
from docling_serve.settings import DoclingServeSettings
from docling_serve.settings.lite import ORIGIN
from docling_serve.settings.origins import effective_settings
from docling_serve.tools.lite_requirements import main

REPOSITORY = Path(__file__).parents[2]
LIST = REPOSITORY / "requirements-lite.txt"
WANTED_MB = 1000
"""Without the bytecode that Python makes of it, some 150 MB."""


def _listed() -> list[str]:
    """The distributions that are installed on this version of Python."""
    lines = [line for line in LIST.read_text().splitlines() if re.match(r"[a-z]", line)]
    assert lines
    return [line for line in lines if ";" not in line]


def test_the_list_is_what_the_installed_packages_require() -> None:
    assert main(["--check", "--path", str(LIST)]) == 0


def test_nothing_of_torch_is_in_it() -> None:
    listed = set(_listed())
    unwanted = {*LITE_LEAVES_OUT, "ray", "triton", "sympy", "safetensors", "tokenizers"}

    assert not listed & unwanted
    assert not [name for name in listed if name.startswith(("nvidia-cu", "cuda"))]
    assert {"docling-jobkit", "docling-slim", "fastapi", "onnxruntime", "rapidocr"} <= listed


def test_every_distribution_of_it_has_a_tested_version() -> None:
    pinned = re.findall(r"^([a-z0-9-]+)==", (REPOSITORY / "constraints.txt").read_text(), re.M)

    assert set(_listed()) <= set(pinned)


def test_it_is_small(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {name: _size_mb(name) for name in _listed()}
    with capsys.disabled():
        print(f"\nlite install: {sum(sizes.values()):.0f} MB in {len(sizes)} distributions")

    assert sum(sizes.values()) <= WANTED_MB, sorted(sizes.items(), key=lambda item: -item[1])[:10]


def _size_mb(name: str) -> float:
    files = metadata.files(name)
    assert files, name
    sizes = (Path(str(file.locate())) for file in files if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in sizes if path.is_file()) / 1e6


def test_a_lite_install_has_the_embedded_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docling_serve.settings.lite.is_lite", lambda: True)
    profile = yaml.safe_load((REPOSITORY / "examples" / "embedded.yaml").read_text())
    found = {one.name: one for one in effective_settings(DoclingServeSettings())}

    assert {name: one.value for name, one in found.items() if one.origin == ORIGIN} == profile


def test_what_somebody_has_set_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docling_serve.settings.lite.is_lite", lambda: True)
    monkeypatch.setenv("DOCLING_SERVE_DEFAULT_LAYOUT_PRESET", "full_page")
    found = {one.name: one for one in effective_settings(DoclingServeSettings())}

    assert found["default_layout_preset"].value == "full_page"
    assert found["default_layout_preset"].origin == "DOCLING_SERVE_DEFAULT_LAYOUT_PRESET"
    assert found["default_layout_kind"].value == "embedded"


def test_a_full_install_has_its_own_defaults() -> None:
    assert is_installed("torch")
    assert DoclingServeSettings().default_layout_kind == "docling_layout_default"


def test_an_import_that_is_left_out_here_is_installed_all_the_same() -> None:
    """The server marks torch as absent, and still knows whether workers have it."""
    code = (
        "from docling_serve.process.imports import leave_out_torch;"
        "from docling_serve.process.installation import is_installed, is_lite;"
        "assert leave_out_torch();"
        "print(is_installed('torch'), is_lite())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == ["True", "False"]
