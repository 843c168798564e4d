"""Every test here sees an empty working directory and none of our variables."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(("DOCLING_SERVE_", "UVICORN_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
