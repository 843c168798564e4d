"""The stage of a task, and the sentence that every status shows for it."""

from __future__ import annotations

from datetime import datetime

from docling_jobkit.datamodel.task_meta import TaskStatus

from docling_serve.engines.base import TaskView
from docling_serve.jobs.stages import Stage

_LOADING_PHASE = "initialize"  # docling's ConversionPhase.INITIALIZE
_WORDS = {
    Stage.STARTING_WORKER: "starting a worker",
    Stage.WAITING_FOR_GPU: "waiting for GPU memory",
    Stage.LOADING_MODELS: "loading models",
}


def stage_of(view: TaskView) -> Stage:
    """Where the task is."""
    if view.finished:
        return Stage.DONE if view.status is TaskStatus.SUCCESS else Stage.FAILED
    if view.waits_in is not None:
        return view.waits_in
    if view.status is TaskStatus.PENDING:
        return Stage.QUEUED
    if view.progress is None:
        return Stage.CONVERTING
    if view.progress.phase in (Stage.STARTING_WORKER.value, Stage.WAITING_FOR_GPU.value):
        return Stage(view.progress.phase)  # as an rq-worker reports it
    loads = view.progress.phase == _LOADING_PHASE and not view.light
    return Stage.LOADING_MODELS if loads else Stage.CONVERTING


def tasks_ahead(view: TaskView) -> int | None:
    """How many tasks must leave before this one starts; None unless it waits in the queue. Where
    the workers are unknown, tasks that already run do not count."""
    if stage_of(view) is not Stage.QUEUED:
        return None
    if view.ahead is not None or view.position is None:
        return view.ahead
    return max(0, view.position - 1)


def waited_s(view: TaskView) -> float | None:
    """Seconds from acceptance to start; None before that."""
    return _between(view.created_at, view.started_at or view.finished_at)


def converted_s(view: TaskView) -> float | None:
    """Seconds from start to end; None before the end, or for a task that never started."""
    return _between(view.started_at, view.finished_at)


def sentence(view: TaskView) -> str:
    """``queued (2 ahead, expected wait 12 s)``, ``starting a worker``, ``loading models``,
    ``page 4 of 24``, ``done (waited 0.1 s, converted 3.0 s)``."""
    stage = stage_of(view)
    if stage is Stage.QUEUED:
        return _queued(view)
    if stage in (Stage.DONE, Stage.FAILED):
        return _ended(view, stage)
    words = [_WORDS[stage]] if stage in _WORDS else _pages(view)
    if view.progress is not None and view.progress.num_docs > 1:
        words.insert(0, f"document {view.progress.document} of {view.progress.num_docs}")
    return ", ".join(words) or "converting"


def _queued(view: TaskView) -> str:
    ahead = tasks_ahead(view)
    if not ahead:
        return "queued"
    wait = view.expected_wait_s
    expected = f", expected wait {_seconds(wait)}" if wait is not None else ""
    return f"queued ({ahead} ahead{expected})"


def _pages(view: TaskView) -> list[str]:
    if view.progress is None or not view.progress.total_pages:
        return []
    return [f"page {view.progress.completed_pages} of {view.progress.total_pages}"]


def _ended(view: TaskView, stage: Stage) -> str:
    times = {"waited": waited_s(view), "converted": converted_s(view)}
    spent = ", ".join(f"{what} {_seconds(s)}" for what, s in times.items() if s is not None)
    result = view.result
    failed = result.num_failed if result is not None else 0
    if stage is Stage.FAILED or (result is not None and failed and failed == result.num_converted):
        words = "failed"
    elif result is not None and failed:
        words = f"done, {failed} of {result.num_converted} documents failed"
    else:
        words = "done"
    return f"{words} ({spent})" if spent else words


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def _between(begin: datetime | None, end: datetime | None) -> float | None:
    if begin is None or end is None:
        return None
    return round(max(0.0, (end - begin).total_seconds()), 3)
