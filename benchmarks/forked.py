"""Conversions in new processes, forked from a template that has everything imported."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, TypeVar

import yaml

_ROOT = Path(__file__).resolve().parent.parent
_TEMPLATE = "docling_serve.subprocess_worker.child.preload.with_plugins"

_T = TypeVar("_T")


class Template:
    """The template that processes are forked from. Creating it waits for its imports."""

    def __init__(self) -> None:
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([_TEMPLATE])
        self.run(int)

    def run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """The return value of a module's ``function``, run in a process of its own."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_run, args=(theirs, function, arguments))
        process.start()
        theirs.close()
        result: _T = ours.recv()
        process.join()
        return result


class OcrOnly:
    """Conversions with the embedded OCR profile, in this process; needs no model hub."""

    def __init__(self) -> None:
        from docling_serve.conversion.conversion import Conversion  # noqa: PLC0415 - imports torch

        config = (_ROOT / "examples" / "ocr-only.yaml").read_text(encoding="utf-8")
        self._conversion = Conversion(dict(yaml.safe_load(config)))

    def convert(self, document: Path, options: dict[str, Any]) -> None:
        """Convert ``document`` and discard the reply."""
        from docling_serve.jobs.spec import JobSpec, StagedFile, TaskFolder  # noqa: PLC0415

        source = StagedFile(path=str(document), filename=document.name)
        spec = JobSpec(task_id="task", sources=[source], options=options)
        with tempfile.TemporaryDirectory() as scratch:
            self._conversion.run(spec, TaskFolder.create(Path(scratch), "task"))


def _run(channel: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    channel.send(function(*arguments))
    channel.close()
    os._exit(0)
