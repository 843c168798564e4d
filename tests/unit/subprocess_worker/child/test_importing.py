"""What a worker imports before it is ready. What that brings: test_lean_workers."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from docling_serve.subprocess_worker.child import importing
from docling_serve.subprocess_worker.child.importing import import_for_conversions


class Imports(ModuleType):
    """Stands in for ``conversion.imports``, which takes seconds."""

    def __init__(self) -> None:
        super().__init__(importing._IMPORTS)
        self.done: list[str] = []

    def import_all(self, allow_external_plugins: bool) -> None:
        self.done.append("all, with plugins" if allow_external_plugins else "all")

    def import_torch(self) -> None:
        self.done.append("torch")


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Imports:
    imports = Imports()
    monkeypatch.setattr(importing, "defer", lambda _: imports.done.append("defer"))
    monkeypatch.setattr(importing, "_conversion_imports", lambda: imports)
    monkeypatch.delitem(sys.modules, importing._IMPORTS, raising=False)
    return imports


def test_torch_is_left_to_the_job_that_needs_it(imports: Imports) -> None:
    import_for_conversions(allow_external_plugins=True)

    assert imports.done == ["defer", "all, with plugins"]


def test_unless_it_is_asked_for(imports: Imports) -> None:
    import_for_conversions(allow_external_plugins=False, preload_torch=True)

    assert imports.done == ["defer", "all", "torch"]


def test_a_forked_worker_has_them_already(
    imports: Imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, importing._IMPORTS, imports)

    import_for_conversions(allow_external_plugins=False, preload_torch=True)

    assert imports.done == []
