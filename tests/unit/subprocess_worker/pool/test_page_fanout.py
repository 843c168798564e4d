"""How a task with a long PDF becomes jobs, with a runner that only writes down what it is given."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from docling_serve.errors import Failure, TaskFailed
from docling_serve.jobs.run_request import Listeners, RunRequest
from docling_serve.jobs.spec import (
    CountPages,
    JobProgress,
    JobResult,
    JobSpec,
    MergeSlices,
    PageSlice,
    RemoteUrl,
    StagedFile,
    TaskFolder,
)
from docling_serve.subprocess_worker.pool.job import stopped_at
from docling_serve.subprocess_worker.pool.page_fanout import PageFanOut, Slice, cut, may_fan_out
from docling_serve.subprocess_worker.protocol.config import WorkerPoolConfig

LOST = TaskFailed(Failure("capacity", "lost"))


def pdf(name: str = "a.pdf") -> StagedFile:
    return StagedFile(path="input/0", filename=name)


def task(*sources: Any, **more: Any) -> JobSpec:
    return JobSpec(task_id="t", sources=list(sources) or [pdf()], **more)


@pytest.mark.parametrize(
    ("spec", "yes"),
    [
        (task(pdf()), True),
        (task(pdf("A.PDF")), True),
        (task(pdf("a.md"), pdf()), True),
        (task(pdf(), options={"pipeline": "standard"}), True),
        (task(pdf(), options={"pipeline": "vlm"}), False),
        (task(pdf("a.png")), False),
        (task(RemoteUrl(url="https://example.com/a.pdf")), False),
    ],
)
def test_pdfs_on_disk_may_be_cut(spec: JobSpec, yes: bool) -> None:
    assert may_fan_out(spec) is yes


@pytest.mark.parametrize(
    ("spec", "counts", "expected"),
    [
        (task(), [4], []),
        (task(), [5], [(0, 1, 2), (0, 3, 5)]),
        (task(), [9], [(0, 1, 3), (0, 4, 6), (0, 7, 9)]),
        (task(), [None], []),
        (task(options={"page_range": [3, 9]}), [20], [(0, 3, 5), (0, 6, 9)]),
        (task(options={"page_range": [3, 6]}), [20], []),
        (task(options={"page_range": [1, 2**63]}), [5], [(0, 1, 2), (0, 3, 5)]),
        (task(options={"page_range": [30, 40]}), [20], []),
        (task(converter_config={"max_num_pages": 4}), [5], []),
        (task(pdf("a.md"), pdf()), [None, 5], [(1, 1, 2), (1, 3, 5)]),
        (task(pdf(), pdf()), [5, 6], [(0, 1, 2), (0, 3, 5), (1, 1, 3), (1, 4, 6)]),
    ],
)
def test_long_pdfs_are_cut_into_equal_slices(
    spec: JobSpec, counts: list[int | None], expected: list[tuple[int, int, int]]
) -> None:
    assert cut(spec, counts, pages_per_slice=4) == [Slice(*each) for each in expected]


@dataclass
class Notebook:
    """Answers for workers: notes each job, and does with it what the test says."""

    counts: list[int | None]
    act: Callable[[JobSpec, Listeners], Any] = lambda *_: None
    jobs: list[JobSpec] = field(default_factory=list)
    light: list[bool] = field(default_factory=list)
    goes_on: list[bool] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    limits: list[float] = field(default_factory=list)
    at_work: int = 0
    most_at_work: int = 0
    two_at_work: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(
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
    ) -> JobResult:
        assert spec == folder.read_job()
        self.goes_on.append(goes_on)
        assert spec.task_id == task_id
        self.jobs.append(spec)
        self.light.append(light)
        self.kinds.add(kind)
        self.limits.append(timeout_s)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        if self.at_work == 2:
            self.two_at_work.set()
        listeners.on_started()
        try:
            await asyncio.sleep(0)
            outcome = self.act(spec, listeners)
            if asyncio.iscoroutine(outcome):
                await outcome
        finally:
            self.at_work -= 1
        folder.body.write_text(json.dumps(self.counts))
        return JobResult(body="result.body", media_type="x", processing_time=1.0)

    def slices(self) -> list[tuple[int, int]]:
        parts = (spec.part for spec in self.jobs)
        return [(part.first, part.last) for part in parts if isinstance(part, PageSlice)]


@dataclass
class Heard:
    started: int = 0
    progress: list[JobProgress] = field(default_factory=list)

    def listeners(self) -> Listeners:
        return Listeners(self._start, self.progress.append)

    def _start(self) -> None:
        self.started += 1


async def convert(
    tmp_path: Path, book: Notebook, spec: JobSpec | None = None, heard: Heard | None = None
) -> JobResult:
    config = WorkerPoolConfig(max_workers=2, page_fanout=2)
    folder = TaskFolder(tmp_path / "t")
    if not folder.root.exists():
        TaskFolder.create(tmp_path, "t")
    spec = spec or task()
    folder.write_job(spec)
    request = RunRequest(spec, folder, listeners=(heard or Heard()).listeners())
    return await PageFanOut(request, 60.0, book.run, config).convert()


async def test_a_long_pdf_is_counted_converted_in_slices_and_merged(tmp_path: Path) -> None:
    async def act(spec: JobSpec, _: Listeners) -> None:
        if isinstance(spec.part, PageSlice):
            await book.two_at_work.wait()

    book, heard = Notebook([6], act), Heard()
    await convert(tmp_path, book, heard=heard)

    first, *slices, last = [spec.part for spec in book.jobs]
    assert first == CountPages()
    assert all(isinstance(part, PageSlice) for part in slices)
    assert sorted(book.slices()) == [(1, 2), (3, 4), (5, 6)]
    assert isinstance(last, MergeSlices)
    assert last.files == [f"parts/{n}/result.body" for n in range(3)]
    assert last.elapsed_s > 0
    assert book.light == [True, False, False, False, False]
    assert book.goes_on == [False, True, True, True, True], "the first begins the task"
    assert len(book.kinds) == 1
    assert book.most_at_work == 2
    assert heard.started == 1


async def test_what_lies_in_the_folder_is_the_task_until_all_pages_are_there(
    tmp_path: Path,
) -> None:
    """The next server reads it, if this one is killed."""
    there: list[JobSpec] = []
    folder = TaskFolder(tmp_path / "t")

    def act(spec: JobSpec, _: Listeners) -> None:
        if not isinstance(spec.part, MergeSlices):
            there.append(folder.read_job())

    spec = task(callbacks=[{"url": "https://example.com/"}])
    TaskFolder.create(tmp_path, "t").write_job(spec)
    await convert(tmp_path, Notebook([4], act), spec)

    assert there == [spec] * 3


async def test_a_short_pdf_is_converted_whole(tmp_path: Path) -> None:
    book = Notebook([2])
    await convert(tmp_path, book)

    assert [spec.part for spec in book.jobs] == [CountPages(), None]


async def test_a_slice_is_a_job_about_one_document_that_tells_no_client(tmp_path: Path) -> None:
    callbacks = [{"url": "https://example.com/"}]
    spec = task(pdf("a.md"), pdf("b.pdf"), callbacks=callbacks, options={"do_ocr": False})
    book = Notebook([None, 3])
    await convert(tmp_path, book, spec)

    _, first, _, merge = book.jobs
    (document,) = first.sources
    assert isinstance(document, StagedFile)
    assert document.filename == "b.pdf"
    assert Path(document.path) == tmp_path / "t" / "input" / "0"
    assert first.callbacks == []
    assert first.options == {"do_ocr": False}
    assert merge.callbacks == callbacks
    assert merge.sources == spec.sources


async def test_progress_adds_up(tmp_path: Path) -> None:
    def act(spec: JobSpec, listeners: Listeners) -> None:
        if isinstance(spec.part, PageSlice):
            for page in (1, 2):
                listeners.on_progress(
                    JobProgress(phase="build", completed_pages=page, total_pages=2)
                )
        elif isinstance(spec.part, MergeSlices):
            listeners.on_progress(JobProgress(phase="assemble"))

    heard = Heard()
    await convert(tmp_path, Notebook([4], act), heard=heard)

    assert [p.completed_pages for p in heard.progress] == [1, 2, 3, 4, 4]
    assert {p.total_pages for p in heard.progress} == {4}
    assert [p.phase for p in heard.progress] == ["build"] * 4 + ["assemble"]


async def test_a_slice_that_fails_fails_the_task_and_the_others_are_stopped(tmp_path: Path) -> None:
    stopped = []

    async def act(spec: JobSpec, listeners: Listeners) -> None:
        if spec.part == PageSlice(first=3, last=4):
            await book.two_at_work.wait()
            raise LOST
        if isinstance(spec.part, PageSlice):
            try:
                await asyncio.Event().wait()
            finally:
                stopped.append(spec.part.first)

    book = Notebook([8], act)
    with pytest.raises(TaskFailed) as caught:
        await convert(tmp_path, book)

    assert caught.value is LOST
    assert 1 in stopped
    assert {first for first, _ in book.slices()} == {3, *stopped}
    assert not any(isinstance(spec.part, MergeSlices) for spec in book.jobs)


async def test_the_limit_is_that_of_the_task_and_says_how_far_it_came(tmp_path: Path) -> None:
    def act(spec: JobSpec, listeners: Listeners) -> None:
        if spec.part == PageSlice(first=1, last=2):
            listeners.on_progress(JobProgress(phase="build", completed_pages=1, total_pages=2))
        if spec.part == PageSlice(first=3, last=4):
            raise stopped_at("subprocess_timeout", 12.3, 0, 2)

    book = Notebook([4], act)
    with pytest.raises(TaskFailed) as caught:
        await convert(tmp_path, book)

    message = caught.value.failure.message
    assert "still running after 60 s (subprocess_timeout)" in message
    assert message.endswith("of 4 pages done.")
    assert all(limit <= 60 for limit in book.limits)


async def test_slices_share_the_time_for_a_document(tmp_path: Path) -> None:
    book = Notebook([4])
    await convert(tmp_path, book, task(options={"document_timeout": 30.0}))

    slices = [spec for spec in book.jobs if isinstance(spec.part, PageSlice)]
    assert all(0 < spec.options["document_timeout"] < 30 for spec in slices)
