"""When a worker does its imports, and at which priority. What it imports: test_start_methods."""

from __future__ import annotations

import os
import sys
import threading
from types import ModuleType

import pytest

from docling_serve.subprocess_worker import importing, priority
from docling_serve.subprocess_worker.importing import import_for_conversions


@pytest.fixture
def imported_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The niceness of the thread that did the imports, which are left out."""
    seen: list[int] = []

    def note(_: bool) -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    monkeypatch.setattr(importing, "_import", note)
    monkeypatch.setattr(priority, "_set_autogroup", lambda _: None)  # of pytest's own session
    monkeypatch.delitem(sys.modules, importing._IMPORTS, raising=False)
    return seen


@pytest.fixture
def usual() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_a_worker_that_a_job_waits_for_makes_haste(imported_at: list[int], usual: int) -> None:
    import_for_conversions(allow_external_plugins=False)

    assert imported_at == [usual]


def test_another_gives_way_and_only_for_its_imports(imported_at: list[int], usual: int) -> None:
    import_for_conversions(allow_external_plugins=False, background=True)

    assert imported_at == [min(19, usual + 10)]
    assert os.getpriority(os.PRIO_PROCESS, 0) == usual


def test_it_does_without_what_is_not_installed(
    imported_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_START_THREADS", ("no_such_module",))

    import_for_conversions(allow_external_plugins=False, background=True)

    assert len(imported_at) == 1


@pytest.mark.parametrize("background", [False, True])
def test_a_forked_worker_has_them_already(
    imported_at: list[int], monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    monkeypatch.setitem(sys.modules, importing._IMPORTS, ModuleType("conversion"))

    import_for_conversions(allow_external_plugins=False, background=background)

    assert imported_at == []
