"""Results that were made already, in the engine: what counts as the same, and what is kept."""

from __future__ import annotations

import errno
import io
import os
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.sources import HttpSource
from docling.datamodel.service.targets import InBodyTarget, PutTarget, ZipTarget

from docling_serve.engines.base import Submission, Upload
from docling_serve.engines.local.disk import Disk
from docling_serve.engines.local.result_cache import CacheKey, CacheRules, ResultCache
from docling_serve.jobs.spec import JobResult, OnnxUse, TaskFolder

RESULT = JobResult(
    body="result.body",
    media_type="application/json",
    processing_time=1.0,
    num_converted=1,
    num_succeeded=1,
)


def _request(content: bytes = b"# T", name: str = "a.md", **changes: Any) -> Submission:
    plain = Submission(
        sources=[Upload(name, io.BytesIO(content))],
        options=ConvertDocumentsOptions(),
        targets=[InBodyTarget()],
    )
    return replace(plain, **changes)


class Kept:
    """A cache, and tasks that end."""

    def __init__(self, folder: Path, **rules: Any) -> None:
        self.folder = folder / "cache"
        self.tasks = folder / "tasks"
        self.tasks.mkdir(exist_ok=True)
        self.cache = ResultCache(
            self.folder, CacheRules(**{"scope": "s", **rules}), Disk(sync=False)
        )
        self.latest = ""

    def _task(self) -> TaskFolder:
        self.latest = str(uuid.uuid4())
        return TaskFolder(self.tasks / self.latest)

    async def end(
        self, request: Submission, body: bytes = b"body", result: JobResult = RESULT
    ) -> CacheKey:
        """A task for ``request`` has ended with ``result``."""
        folder = self._task()
        TaskFolder.create(self.tasks, folder.root.name)
        folder.body.write_bytes(body)
        key = self.cache.key_of(request)
        await self.cache.keep(
            key, folder.root.name, result, folder.body, folder.body.stat().st_size
        )
        return key

    async def ask(self, request: Submission) -> bytes | None:
        """The body that ``request`` would be answered with at once."""
        folder = self._task()
        result = await self.cache.take(self.cache.key_of(request), folder)
        if result is None:
            assert not folder.root.exists()
            return None
        return folder.result_file(result).read_bytes()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


async def test_the_same_request_gets_the_same_result(kept: Kept) -> None:
    assert await kept.ask(_request()) is None
    await kept.end(_request())

    assert await kept.ask(_request()) == b"body"
    assert (kept.cache.use.hits, kept.cache.use.misses, kept.cache.use.bytes) == (1, 1, 4)


@pytest.mark.parametrize(
    "other",
    [
        _request(b"# U"),
        _request(name="b.md"),
        _request(tenant="other"),
        _request(options=ConvertDocumentsOptions(do_ocr=False)),
        _request(targets=[ZipTarget()]),
        _request(target_document_version="1.0.0"),
        _request(include_converted_doc=True),
        _request(sources=[Upload("a.md", io.BytesIO(b"# T")), Upload("a.md", io.BytesIO(b"# T"))]),
    ],
    ids=["bytes", "name", "tenant", "options", "target", "version", "with document", "two"],
)
async def test_another_request_does_not(kept: Kept, other: Submission) -> None:
    await kept.end(_request())

    assert await kept.ask(other) is None


@pytest.mark.parametrize(
    ("request_", "serves"),
    [
        (_request(), True),
        (_request(targets=[ZipTarget()]), True),
        (_request(targets=[PutTarget(url="https://example.com/")]), False),
        (_request(targets=[ZipTarget(), ZipTarget()]), False),
        (_request(sources=[HttpSource(url="https://example.com/a.pdf")]), False),
        (_request(sources=[]), False),
    ],
    ids=["inbody", "zip", "put", "two targets", "address", "none"],
)
def test_only_bytes_that_are_here_and_results_that_are_answered(
    request_: Submission, serves: bool
) -> None:
    assert ResultCache.serves(request_) is serves


@pytest.mark.parametrize(
    "result",
    [
        RESULT.model_copy(update={"num_succeeded": 0, "num_failed": 1}),
        RESULT.model_copy(update={"num_succeeded": 0, "num_partially_succeeded": 1}),
        RESULT.model_copy(update={"num_converted": 0, "num_succeeded": 0}),
        RESULT.model_copy(update={"onnx": OnnxUse(asked="CUDA", used="CPU")}),
    ],
    ids=["failed", "partial", "nothing", "fell back"],
)
async def test_a_result_that_may_be_better_next_time_is_not_kept(
    kept: Kept, result: JobResult
) -> None:
    await kept.end(_request(), result=result)

    assert await kept.ask(_request()) is None


async def test_beyond_the_bytes_those_go_that_were_not_asked_for(tmp_path: Path) -> None:
    kept = Kept(tmp_path, max_bytes=8)
    await kept.end(_request(b"1"))
    await kept.end(_request(b"2"))
    await kept.ask(_request(b"1"))
    await kept.end(_request(b"3"))
    await kept.end(_request(b"4"), body=b"too large")

    found = [await kept.ask(_request(content)) for content in (b"1", b"2", b"3", b"4")]

    assert found == [b"body", None, b"body", None]
    assert kept.cache.use.bytes == 8
    assert len(list(kept.folder.iterdir())) == 4


async def test_a_result_has_its_time(tmp_path: Path) -> None:
    kept = Kept(tmp_path, max_age_s=1e-9)
    await kept.end(_request())

    assert await kept.ask(_request()) is None
    assert list(kept.folder.iterdir()) == []


async def test_what_is_deleted_or_cleared_is_gone(kept: Kept) -> None:
    own, other = _request(tenant="a"), _request(tenant="b")
    key = await kept.end(own)
    await kept.end(other)
    maker = kept.latest

    await kept.cache.forget(key, "a-later-task")
    assert [await kept.ask(own), await kept.ask(other)] == [None, b"body"]
    await kept.cache.clear(before=float("inf"), tenant="a")
    assert await kept.ask(other) == b"body"
    await kept.cache.forget(None, maker)
    assert await kept.ask(other) is None
    assert list(kept.folder.iterdir()) == []


async def test_the_next_server_finds_what_it_can_use(tmp_path: Path) -> None:
    await Kept(tmp_path).end(_request())
    (tmp_path / "cache" / "half.body").write_bytes(b"x")
    (tmp_path / "cache" / "task9.new").write_bytes(b"x")

    again = Kept(tmp_path)
    await again.cache.load()
    assert await again.ask(_request()) == b"body"
    assert len(list(again.folder.iterdir())) == 2

    other = Kept(tmp_path, scope="another version")
    await other.cache.load()
    assert await other.ask(_request()) is None
    assert list(other.folder.iterdir()) == []


async def test_a_body_that_is_cut_short_is_not_used(tmp_path: Path) -> None:
    await Kept(tmp_path).end(_request())
    (body,) = (tmp_path / "cache").glob("*.body")
    body.write_bytes(b"b")

    again = Kept(tmp_path)
    await again.cache.load()
    assert await again.ask(_request()) is None


async def test_files_that_somebody_removed_are_a_miss(kept: Kept) -> None:
    await kept.end(_request())
    for path in kept.folder.iterdir():
        path.unlink()

    assert await kept.ask(_request()) is None


async def test_a_file_that_cannot_be_removed_is_no_error(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept.end(_request())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(Path, "unlink", refuse)
    await kept.cache.expire(time.time() + 10**9)
    await kept.cache.clear(time.time(), None)
    assert await kept.ask(_request()) is None


async def test_it_takes_no_room_beside_the_task_and_outlives_it(kept: Kept) -> None:
    await kept.end(_request())
    (task,) = kept.tasks.iterdir()
    (body,) = kept.folder.glob("*.body")
    assert body.samefile(task / "result.body")
    TaskFolder(task).remove()

    assert await kept.ask(_request()) == b"body"


async def test_a_disk_without_links_gets_copies(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError("links are not supported")

    monkeypatch.setattr(os, "link", no_link)
    await kept.end(_request())

    assert await kept.ask(_request()) == b"body"


def test_rules_are_for_one_key_configuration_and_set_of_packages() -> None:
    scopes = {
        CacheRules.of(said, 0, 0).scope for said in (["key", {}], ["other", {}], ["key", {"a": 1}])
    }

    assert len(scopes) == 3
    assert CacheRules.of(["key", {}], 0, 0).scope in scopes
