from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.client.scripted_server import Script, scripted


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with scripted(script) as address:
        yield address


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "a.md"
    path.write_text("# T")
    return str(path)
