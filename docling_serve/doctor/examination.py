"""Collect the facts: ask every question in a child of its own."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import ValidationError

from docling_serve.doctor.children import ChildFailed, ask, asked
from docling_serve.doctor.facts import (
    Answer,
    EngineFacts,
    Facts,
    GpuFacts,
    ModeFacts,
    OnnxFacts,
    WorkerFacts,
    read_facts,
)
from docling_serve.settings import DoclingServeSettings, describe_settings_error

#: Seconds for each question; far beyond what it takes where nothing hangs.
LIMITS_S: dict[str, float] = {
    "gpu": 60.0,
    "mode": 30.0,
    "onnxruntime": 60.0,
    "engines": 180.0,
    "workers": 300.0,
}
#: How long a worker may outlive the process that stands for its server.
ORPHAN_LIMIT_S = 15.0

_DISTRIBUTIONS = (
    "docling-serve",
    "docling-slim",
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "rapidocr",
    "nvidia-ml-py",
)
_NOT_ASKED = "not checked: a server would not start with these settings"


def examine(limits_s: Mapping[str, float] = LIMITS_S) -> Facts:
    """All facts about this machine and installation. Does not raise for anything it finds."""
    gpu = _question("gpu", GpuFacts, limits_s)  # first, while no child of ours uses a card
    settings_error = _settings_error()
    if settings_error:
        return Facts(
            gpu=gpu,
            onnxruntime=Answer(failure=_NOT_ASKED),
            engines=Answer(failure=_NOT_ASKED),
            workers=Answer(failure=_NOT_ASKED),
            mode=Answer(failure=_NOT_ASKED),
            distributions=_installed(),
            settings_error=settings_error,
        )
    with ThreadPoolExecutor() as threads:
        mode = threads.submit(_question, "mode", ModeFacts, limits_s)
        onnx = threads.submit(_question, "onnxruntime", OnnxFacts, limits_s)
        engines = threads.submit(_question, "engines", EngineFacts, limits_s)
        workers = threads.submit(_workers, limits_s["workers"])
        return Facts(
            gpu=gpu,
            onnxruntime=onnx.result(),
            engines=engines.result(),
            workers=workers.result(),
            mode=mode.result(),
            distributions=_installed(),
        )


def _question(question: str, kind: Any, limits_s: Mapping[str, float]) -> Answer[Any]:
    return _answered(lambda: read_facts(kind, ask(question, limits_s[question])))


def _answered(find_out: Callable[[], Any]) -> Answer[Any]:
    try:
        return Answer(find_out())
    except ChildFailed as exc:
        return Answer(failure=str(exc))


def _workers(limit_s: float) -> Answer[WorkerFacts]:
    """Start a worker, kill the process that plays its server, and see how long the worker stays."""

    def find_out() -> WorkerFacts:
        with asked("workers", limit_s) as child:
            facts: WorkerFacts = read_facts(WorkerFacts, child.answer)
            try:
                worker = os.pidfd_open(facts.worker_pid)
            except ProcessLookupError:
                raise ChildFailed("the worker exited as soon as it was ready") from None
            with os.fdopen(worker):
                began = time.monotonic()
                child.kill()
                took_s = time.monotonic() - began if _ends(worker) else None
            return replace(facts, ended_after_s=took_s)

    return _answered(find_out)


def _ends(process: int) -> bool:
    """Whether this pidfd's process exits within ``ORPHAN_LIMIT_S``; kills it if it does not."""
    end = select.poll()
    end.register(process, select.POLLIN)
    if end.poll(ORPHAN_LIMIT_S * 1000):
        return True
    signal.pidfd_send_signal(process, signal.SIGKILL)
    return False


def _settings_error() -> str:
    try:
        DoclingServeSettings()
    except ValidationError as exc:
        return describe_settings_error(exc)
    return ""


def _installed() -> dict[str, str]:
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
