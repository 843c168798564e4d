"""One task with a long PDF, converted by several workers at once.

The task becomes jobs: one counts the pages, each slice converts some of them, and one merges the
slices into the reply. They are ordinary jobs: a lost slice is retried on a fresh worker, and one
that fails permanently fails the task.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from docling_serve.errors import TaskTimedOut
from docling_serve.jobs.needs import model_kind
from docling_serve.jobs.run_request import NO_LISTENERS, Listeners, RunRequest
from docling_serve.jobs.spec import (
    CountPages,
    JobProgress,
    JobResult,
    JobSource,
    JobSpec,
    MergeSlices,
    PageSlice,
    StagedFile,
    TaskFolder,
)
from docling_serve.jobs.stages import Stage
from docling_serve.jobs.writing import finish_in_thread
from docling_serve.subprocess_worker.pool.job import stopped_at
from docling_serve.subprocess_worker.protocol.config import WorkerPoolConfig

_PIPELINE = "standard"  # docling's ProcessingPipeline.STANDARD, and the default
_SHORTEST_S = 1.0


class RunJob(Protocol):
    """Runs the job in a folder, as :meth:`SubprocessWorkerPool.run` does."""

    def __call__(
        self,
        folder: TaskFolder,
        task_id: str,
        timeout_s: float,
        *,
        light: bool,
        kind: str,
        goes_on: bool,
        listeners: Listeners,
        spec: JobSpec,
    ) -> Awaitable[JobResult]: ...


@dataclass(frozen=True)
class Slice:
    """Pages ``first`` to ``last`` of the document at position ``source``."""

    source: int
    first: int
    last: int


def may_fan_out(spec: JobSpec) -> bool:
    """Whether the task has a PDF on disk that docling's standard pipeline converts."""
    return spec.options.get("pipeline", _PIPELINE) == _PIPELINE and any(
        _is_pdf(source) for source in spec.sources
    )


def cut(spec: JobSpec, page_counts: Sequence[int | None], pages_per_slice: int) -> list[Slice]:
    """Slices of about the same size, at most ``pages_per_slice`` pages, for the task's PDFs with
    more pages than that to convert."""
    first, last = spec.options.get("page_range") or (1, None)
    most = spec.converter_config.get("max_num_pages")
    slices: list[Slice] = []
    for index, (source, count) in enumerate(zip(spec.sources, page_counts, strict=True)):
        if count is None or not _is_pdf(source) or (most is not None and count > most):
            continue
        pages = (count if last is None else min(count, last)) - first + 1
        number = math.ceil(pages / pages_per_slice)
        if number > 1:
            starts = [first + pages * n // number for n in range(number + 1)]
            slices.extend(Slice(index, a, b - 1) for a, b in itertools.pairwise(starts))
    return slices


@dataclass
class PageFanOut:
    """One task on its way through several workers, for ``timeout_s`` seconds at most."""

    request: RunRequest
    timeout_s: float
    run: RunJob
    config: WorkerPoolConfig
    _started: float | None = None
    _done: dict[Slice, int] = field(default_factory=dict)

    async def convert(self) -> JobResult:
        """Run the task's jobs; raises what :meth:`SubprocessWorkerPool.run` raises.

        The time limit starts at the first hand-over to a worker, and covers all jobs together.
        """
        slices = cut(self.request.spec, await self._page_counts(), self.config.page_fanout)
        if not slices:
            return await self._run(
                self.request.folder, self.request.spec, self.request.listeners.on_progress
            )
        self._done = dict.fromkeys(slices, 0)
        files = await self._convert_slices(slices)
        merge = self.request.spec.model_copy(
            update={"part": MergeSlices(files=files, elapsed_s=self._elapsed())}
        )
        return await self._run(self.request.folder, merge, self._merging)

    async def _page_counts(self) -> list[int | None]:
        # Not in the task's own folder: its contents are the task, for the next server too.
        folder, sources = await finish_in_thread(self._stage, "count", self.request.spec.sources)
        counting = {"part": CountPages(), "sources": sources, "callbacks": []}
        counted = self.request.spec.model_copy(update=counting)
        result = await self._run(folder, counted, NO_LISTENERS.on_progress)
        counts: list[int | None] = json.loads(folder.result_file(result).read_bytes())
        return counts

    async def _convert_slices(self, slices: Sequence[Slice]) -> list[str]:
        # Only as many as can run, so that jobs of other tasks get their turn in between.
        room = asyncio.Semaphore(self.config.max_workers)

        async def convert(number: int, part: Slice) -> str:
            async with room:
                return await self._convert_slice(number, part)

        jobs = [asyncio.ensure_future(convert(*numbered)) for numbered in enumerate(slices)]
        try:
            return await asyncio.gather(*jobs)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    async def _convert_slice(self, number: int, part: Slice) -> str:
        document = self.request.spec.sources[part.source]
        folder, sources = await finish_in_thread(self._stage, str(number), [document])
        spec = self.request.spec.model_copy(
            update={
                "task_id": f"{self.request.spec.task_id}.p{part.first}-{part.last}",
                "sources": sources,
                "options": self._options(),
                "callbacks": [],
                "part": PageSlice(first=part.first, last=part.last),
            }
        )

        def on_progress(progress: JobProgress) -> None:
            self._done[part] = max(self._done[part], progress.completed_pages)
            self._tell(progress.phase, part.source)

        result = await self._run(folder, spec, on_progress)
        self._done[part] = part.last - part.first + 1
        return str(folder.result_file(result).relative_to(self.request.folder.root))

    def _stage(self, name: str, sources: Sequence[JobSource]) -> tuple[TaskFolder, list[JobSource]]:
        """A folder for a part, and the task's documents with paths from there."""
        folder = TaskFolder.create(self.request.folder.parts, name)
        return folder, [self._from_anywhere(source) for source in sources]

    def _from_anywhere(self, source: JobSource) -> JobSource:
        if not isinstance(source, StagedFile):
            return source
        return StagedFile(
            path=str(self.request.folder.source(source).absolute()), filename=source.filename
        )

    def _options(self) -> dict[str, Any]:
        """The task's options, with the time that is left for a document."""
        options = self.request.spec.options
        if (limit := options.get("document_timeout")) is None:
            return options
        return {**options, "document_timeout": max(_SHORTEST_S, limit - self._elapsed())}

    async def _run(
        self, folder: TaskFolder, spec: JobSpec, on_progress: Callable[[JobProgress], None]
    ) -> JobResult:
        if spec is not self.request.spec:  # that one is already in its folder
            await finish_in_thread(folder.write_job, spec)
        left = max(_SHORTEST_S, self.timeout_s - self._elapsed())
        try:
            return await self.run(
                folder,
                spec.task_id,
                left,
                light=isinstance(spec.part, CountPages),
                kind=model_kind(self.request.spec),
                goes_on=self._started is not None,
                listeners=replace(
                    self.request.listeners,
                    on_started=self._begin,
                    on_progress=on_progress,
                    on_waiting=self._waiting,
                ),
                spec=spec,
            )
        except TaskTimedOut as exc:
            if exc.failure.details.get("limit") != "subprocess_timeout":
                raise
            done, total = sum(self._done.values()), sum(map(_pages, self._done))
            raise stopped_at("subprocess_timeout", self.timeout_s, done, total) from exc

    def _begin(self) -> None:
        if self._started is None:
            self._started = time.monotonic()
            self.request.listeners.on_started()

    def _waiting(self, stage: Stage) -> None:
        if self._started is None:  # otherwise other parts of the task already run
            self.request.listeners.on_waiting(stage)

    def _elapsed(self) -> float:
        return 0.0 if self._started is None else time.monotonic() - self._started

    def _merging(self, progress: JobProgress) -> None:
        if len(self.request.spec.sources) == 1:
            self._tell(progress.phase, 0)
        else:
            self.request.listeners.on_progress(progress)

    def _tell(self, phase: str, source: int) -> None:
        of_document = [part for part in self._done if part.source == source]
        self.request.listeners.on_progress(
            JobProgress(
                phase=phase,
                document=source + 1,
                num_docs=len(self.request.spec.sources),
                completed_pages=sum(self._done[part] for part in of_document),
                total_pages=sum(map(_pages, of_document)),
            )
        )


def _pages(part: Slice) -> int:
    return part.last - part.first + 1


def _is_pdf(source: object) -> bool:
    return isinstance(source, StagedFile) and Path(source.filename).suffix.lower() == ".pdf"
