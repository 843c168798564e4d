"""Convert documents with the mode on and off, and watch the memory."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil

from docling_serve.doctor.trial.memory import MemorySampler, Sample, is_still, peak
from docling_serve.doctor.trial.page import EXPECTED, NAME
from docling_serve.doctor.trial.server import TrialError, TrialServer

Mode = Literal["on", "off"]
Say = Callable[[str], None]

HOST_TOLERANCE = 70_000_000
"""Bytes that a server at rest may hold above its level before the first task: the server's own 20
MB, and 50 MB that a standby process keeps of a document. Models take more."""
GPU_TOLERANCE = 64 * 1024**2
"""Bytes of GPU memory; the smallest CUDA context takes more."""

_STILL_S = 3.0
_SETTLE_WITHIN_S = 30.0
_TASK_WITHIN_S = 900.0
_POLL_WAIT_S = 1.0
_REQUEST_WITHIN_S = 60.0


@dataclass(frozen=True)
class TrialTask:
    """One task. ``problem`` is empty if it was converted. ``back_s`` counts from the answer until
    memory was down to its level before the first task, None if that did not happen."""

    document: str
    problem: str
    started_s: float
    ended_s: float
    before: Sample
    peak: Sample
    after: Sample
    back_s: float | None

    @property
    def seconds(self) -> float:
        """From request to answer."""
        return self.ended_s - self.started_s


@dataclass(frozen=True)
class ModeTrial:
    """All tasks in one mode: one at a time with a rest after each, then all at once, which took
    ``together_s``. ``idle`` is the server at rest before the first one."""

    mode: Mode
    ready_s: float
    idle: Sample
    tasks: list[TrialTask]
    together_s: float
    together_problems: list[str]
    samples: list[Sample] = field(repr=False)


def run_trial(mode: Mode, documents: Sequence[Path], say: Say) -> ModeTrial:
    """Start a server with the caller's settings in ``mode``, convert each document, stop it.

    Raises:
        TrialError: the server did not start, or exited.
    """
    with tempfile.TemporaryDirectory(prefix="docling-serve-doctor-") as folder:
        log = Path(folder) / "server.log"
        try:
            return _run(mode, documents, log, say)
        except (psutil.NoSuchProcess, httpx.TransportError) as exc:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise TrialError(f"the server exited ({exc}):\n{tail}") from exc


def _run(mode: Mode, documents: Sequence[Path], log: Path, say: Say) -> ModeTrial:
    environment = _environment(mode, log.parent)
    say(f"mode {mode}: the server starts")
    with (
        TrialServer(environment, log, Path.cwd()) as server,
        MemorySampler(server.pid) as sampler,
        httpx.Client(base_url=server.url, timeout=_REQUEST_WITHIN_S, trust_env=False) as client,
    ):
        server.wait_ready()
        ready_s = sampler.now_s()
        idle = _settle(sampler)
        tasks = []
        for number, document in enumerate(documents, start=1):
            say(f"mode {mode}: task {number} of {len(documents)}, {document.name}")
            tasks.append(_task(client, document, sampler, idle))
        say(f"mode {mode}: {len(documents)} tasks in one go")
        began = time.monotonic()
        sent = [(document, _send(client, document)) for document in documents]
        problems = [_result(client, document, task) for document, task in sent]
        together_s = time.monotonic() - began
        _settle(sampler)
        return ModeTrial(
            mode,
            ready_s,
            idle,
            tasks,
            together_s,
            [problem for problem in problems if problem],
            list(sampler.samples),
        )


def _environment(mode: Mode, folder: Path) -> dict[str, str]:
    """The caller's settings, except those that a trial must set itself: its address, its folder,
    its queue."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UVICORN_")}
    return {
        **kept,
        "DOCLING_SERVE_USE_SUBPROCESS": "true" if mode == "on" else "false",
        "DOCLING_SERVE_ENG_KIND": "local",
        "DOCLING_SERVE_API_KEY": "",
        "DOCLING_SERVE_SCRATCH_PATH": "",
        "DOCLING_SERVE_ARTIFACT_STORAGE_ENABLED": "false",
        "UVICORN_WORKERS": "1",
        "UVICORN_RELOAD": "false",
        "TMPDIR": str(folder),
        "PYTHONUNBUFFERED": "1",
    }


def _task(client: httpx.Client, document: Path, sampler: MemorySampler, idle: Sample) -> TrialTask:
    before = sampler.take()
    problem = _result(client, document, _send(client, document))
    ended_s = sampler.now_s()
    after = _settle(sampler)
    during = sampler.since(before.time_s)
    back = next((one for one in during if one.time_s >= ended_s and is_back(one, idle)), None)
    return TrialTask(
        document=document.name,
        problem=problem,
        started_s=before.time_s,
        ended_s=ended_s,
        before=before,
        peak=peak(during),
        after=after,
        back_s=None if back is None else back.time_s - ended_s,
    )


def is_back(sample: Sample, idle: Sample) -> bool:
    """Whether the server holds no more than at rest before its first task, within tolerance."""
    if sample.total > idle.total + HOST_TOLERANCE:
        return False
    if sample.gpu_used is None or idle.gpu_used is None:
        return sample.gpu_used == idle.gpu_used
    return sample.gpu_used <= idle.gpu_used + GPU_TOLERANCE


def _settle(sampler: MemorySampler) -> Sample:
    """Wait until memory has not moved for a while; returns the last sample."""
    since, pause = sampler.now_s(), threading.Event()
    deadline = time.monotonic() + _SETTLE_WITHIN_S
    while not is_still(sampler.since(since), _STILL_S) and time.monotonic() < deadline:
        pause.wait(0.1)
    return sampler.take()


def _send(client: httpx.Client, document: Path) -> str:
    with document.open("rb") as file:
        reply = client.post(
            "/v1/convert/file/async",
            files={"files": (document.name, file)},
            data={"to_formats": "md", "target_type": "inbody"},
        )
    return str(_body(reply)["task_id"])


def _result(client: httpx.Client, document: Path, task: str) -> str:
    """What is wrong with the finished task; empty if its document was converted."""
    deadline = time.monotonic() + _TASK_WITHIN_S
    while time.monotonic() < deadline:
        status = _body(client.get(f"/v1/status/poll/{task}", params={"wait": _POLL_WAIT_S}))
        if status["task_status"] == "failure":
            return str(status.get("error_message"))
        if status["task_status"] in ("success", "partial_success"):
            return _wrong(document, _body(client.get(f"/v1/result/{task}")))
    return f"no answer within {_TASK_WITHIN_S:g} s"


def _wrong(document: Path, result: dict[str, Any]) -> str:
    if result.get("status") != "success":
        return f"status {result.get('status')}: {result.get('errors')}"
    text = str((result.get("document") or {}).get("md_content") or "")
    if document.name == NAME:
        lacking = [word for word in EXPECTED if word not in text]
        return f"the text lacks {', '.join(lacking)}" if lacking else ""
    return "" if text.strip() else "the text is empty"


def _body(reply: httpx.Response) -> dict[str, Any]:
    if reply.status_code != httpx.codes.OK:
        raise TrialError(f"{reply.request.url.path}: HTTP {reply.status_code} {reply.text[:300]}")
    body: dict[str, Any] = reply.json()
    return body
