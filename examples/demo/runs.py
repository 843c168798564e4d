"""One run: all documents through one server, with the time and memory they took."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from docling_serve.doctor.trial.memory import MemorySampler, Sample, is_still, peak

from .client import Client
from .plan import STEPS, Mode, Step, expected_phrases, missing_phrases
from .server import DemoError, demo_server

# Between tasks the server is left alone until its memory has been still for this long, so that
# leaks show.
STILL_S = 3.0
STILL_WITHIN_S = 30.0


@dataclass(frozen=True)
class TaskRecord:
    """One task: when it ran (seconds since the server's start), its text, the memory it took.

    ``problem`` says what is wrong with the answer; empty if nothing is.
    """

    step: Step
    started_s: float
    ended_s: float
    text: str
    phrases: int
    problem: str
    before: Sample
    peak: Sample
    after: Sample

    @property
    def seconds(self) -> float:
        """From request to answer."""
        return self.ended_s - self.started_s


@dataclass(frozen=True)
class Run:
    """All tasks of one mode. ``idle`` is the sample before the first task.

    ``gateway_engines`` are the libraries that run models and were loaded in the gateway at the end.
    """

    mode: Mode
    ready_s: float
    idle: Sample
    tasks: list[TaskRecord]
    samples: list[Sample]
    gateway_engines: list[str]

    @property
    def final(self) -> Sample:
        """Memory after the last task, at rest."""
        return self.tasks[-1].after


class Watcher(Protocol):
    """Receives the progress of a run."""

    def server_starting(self, mode: Mode) -> None:
        """The server process has been started."""

    def server_ready(self, ready_s: float) -> None:
        """It accepts tasks."""

    def task_started(self, number: int, step: Step) -> None:
        """Task ``number``, from 1, is about to be sent."""

    def task_state(self, state: str) -> None:
        """The state of the running task."""

    def task_done(self, task: TaskRecord) -> None:
        """It was answered, and memory has come to rest."""


def run(mode: Mode, log_file: Path, watcher: Watcher) -> Run:
    """Start a server in ``mode``, convert every document, stop it.

    Raises:
        DemoError: the server did not start, or exited.
    """
    watcher.server_starting(mode)
    try:
        return _run(mode, log_file, watcher)
    except psutil.NoSuchProcess as exc:
        raise DemoError(f"the server went away; its log is {log_file}") from exc


def _run(mode: Mode, log_file: Path, watcher: Watcher) -> Run:
    with demo_server(mode, log_file) as server, MemorySampler(server.pid) as sampler:
        server.wait_ready()
        watcher.server_ready(sampler.now_s())
        ready_s = sampler.now_s()
        _settle(sampler)
        idle = sampler.take()
        tasks = []
        with closing(Client(server.url)) as client:
            for number, step in enumerate(STEPS, start=1):
                watcher.task_started(number, step)
                task = _convert(client, step, sampler, watcher.task_state)
                tasks.append(task)
                watcher.task_done(task)
        return Run(mode, ready_s, idle, tasks, list(sampler.samples), sampler.engines())


def _convert(
    client: Client, step: Step, sampler: MemorySampler, on_state: Callable[[str], None]
) -> TaskRecord:
    phrases = expected_phrases()[step.document]
    before = sampler.take()
    text, problem = "", ""
    try:
        text = client.convert(step, on_state)
    except DemoError as exc:
        problem = str(exc)
    ended_s = sampler.now_s()
    if not problem and (missing := missing_phrases(text, phrases)):
        problem = f"the text lacks {', '.join(map(repr, missing))}"
    on_state("answered, memory settles")
    _settle(sampler)
    during = sampler.since(before.time_s)
    return TaskRecord(
        step=step,
        started_s=before.time_s,
        ended_s=ended_s,
        text=text,
        phrases=len(phrases),
        problem=problem,
        before=before,
        peak=peak(during),
        after=during[-1],
    )


def _settle(sampler: MemorySampler) -> None:
    """Give workers time to exit and their successors time to import, then the server some rest."""
    since = sampler.now_s()
    deadline = time.monotonic() + STILL_WITHIN_S
    while not is_still(sampler.since(since), STILL_S) and time.monotonic() < deadline:
        time.sleep(0.1)
