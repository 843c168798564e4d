"""The first step of a process that runs tasks, or hands them over: enter its mode."""

from __future__ import annotations

import contextlib
import logging

from docling_serve.process.deferred_imports import TABLES, defer
from docling_serve.process.imports import leave_out_torch
from docling_serve.running.runtime import Runtime
from docling_serve.sandbox.kernel import hide_memory

_log = logging.getLogger(__name__)


def enter_mode(runtime: Runtime) -> None:
    """Log the mode, and leave out torch where it is not needed. To be called before docling is
    imported."""
    if runtime.runs_tasks:
        mode = "on" if runtime.subprocess_mode else "off"
        _log.info("subprocess mode is %s (%s)", mode, runtime.reason)
    if runtime.pool is not None and runtime.settings.subprocess_sandbox != "off":
        with contextlib.suppress(OSError):  # a worker reports whether its own memory is hidden
            hide_memory()
    if runtime.keeps_light:
        stay_light()


def stay_light() -> None:
    """Leave out torch, and import what only tables need when it is used."""
    defer(TABLES)
    if not leave_out_torch():
        _log.warning("torch was imported before this process could leave it out: it stays large")
