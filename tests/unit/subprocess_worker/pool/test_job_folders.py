"""A job's files on their way to a worker and back, and what a worker may not make of them."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docling_serve.jobs.spec import JobResult, JobSpec, MergeSlices, StagedFile, TaskFolder
from docling_serve.process.guardian import Guardian
from docling_serve.subprocess_worker.pool.job_folders import HandOver, JobFolders
from tests.helpers.loops import PATIENCE_S
from tests.helpers.pools import ScriptedJob, open_pool

REPLY = b"the reply"


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[JobFolders]:
    guardian = Guardian()
    made = JobFolders(guardian)
    made.use(tmp_path / "workers")
    yield made
    guardian.dismiss()


def staged(parent: Path, **fields: object) -> TaskFolder:
    """A task with a document, staged as the server does it."""
    folder = TaskFolder.create(parent, "task-1")
    folder.input(0).write_bytes(b"a document")
    source = StagedFile(path="input/0", filename="a.md")
    folder.write_job(JobSpec(task_id="task-1", sources=[source], **fields))  # type: ignore[arg-type]
    return folder


def given(folders: JobFolders, folder: TaskFolder) -> HandOver:
    hand_over, _ = folders.hand_over(7, folder)
    hand_over.to(folders.for_worker(1))
    return hand_over


def result(body: str = "result.body") -> JobResult:
    return JobResult(body=body, media_type="text/plain", processing_time=1.0)


def test_a_worker_finds_the_job_and_its_document(tmp_path: Path, folders: JobFolders) -> None:
    hand_over = given(folders, staged(tmp_path))

    seen = TaskFolder(hand_over.inputs)
    (source,) = seen.read_job().sources
    assert isinstance(source, StagedFile)
    assert seen.source(source).read_bytes() == b"a document"
    assert hand_over.inputs.parent == hand_over.output.parent.parent == folders.base / "worker-1"


def test_a_document_from_elsewhere_and_slices_come_along(
    tmp_path: Path, folders: JobFolders
) -> None:
    folder = TaskFolder.create(tmp_path, "task-1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"a document")
    (folder.root / "parts" / "0").mkdir(parents=True)
    (folder.root / "parts" / "0" / "result.body").write_bytes(b"a slice")
    source = StagedFile(path=str(elsewhere), filename="a.pdf")
    part = MergeSlices(files=["parts/0/result.body"])
    folder.write_job(JobSpec(task_id="task-1", sources=[source], part=part))

    seen = TaskFolder(given(folders, folder).inputs)

    spec = seen.read_job()
    assert isinstance(spec.sources[0], StagedFile)
    assert isinstance(spec.part, MergeSlices)
    assert seen.source(spec.sources[0]).read_bytes() == b"a document"
    assert (seen.root / spec.part.files[0]).read_bytes() == b"a slice"


def test_the_keys_of_the_servers_storage_come_only_where_they_are_used(
    tmp_path: Path, folders: JobFolders
) -> None:
    keys = {"s3_coords": {"secret_key": "s3cret"}}
    (tmp_path / "other").mkdir()
    without = staged(tmp_path, presigned_config=keys)
    targets = [{"kind": "presigned_url"}]
    with_them = staged(tmp_path / "other", presigned_config=keys, targets=targets)

    assert folders.hand_over(1, without)[1].presigned_config is None
    assert folders.hand_over(2, with_them)[1].presigned_config == keys


def test_a_result_is_copied_from_what_was_accepted(tmp_path: Path, folders: JobFolders) -> None:
    folder = staged(tmp_path)
    hand_over = given(folders, folder)
    body = hand_over.output / "result.body"
    body.write_bytes(REPLY)

    hand_over.open_result(result())
    body.unlink()
    body.symlink_to("/etc/passwd")  # too late
    kept = hand_over.bring_back(result(), folder)

    assert folder.result_file(kept).read_bytes() == REPLY
    assert not hand_over.inputs.exists()
    assert not hand_over.output.exists()


def _a_link(output: Path) -> None:
    (output / "result.body").symlink_to("/etc/passwd")


def _a_pipe(output: Path) -> None:
    os.mkfifo(output / "result.body")


def _a_folder(output: Path) -> None:
    (output / "result.body").mkdir()


def _a_link_for_its_folder(output: Path) -> None:
    output.rename(output.with_name("moved"))
    output.symlink_to("/etc")


@pytest.mark.parametrize("trick", [_a_link, _a_pipe, _a_folder, _a_link_for_its_folder])
def test_what_is_no_file_of_its_own_is_refused(
    tmp_path: Path, folders: JobFolders, trick: object
) -> None:
    hand_over = given(folders, staged(tmp_path))
    assert callable(trick)
    trick(hand_over.output)
    name = "passwd" if trick is _a_link_for_its_folder else "result.body"

    with pytest.raises(ValueError, match="not a result file"):
        hand_over.open_result(result(name))
    hand_over.remove()

    assert Path("/etc/passwd").exists()


@pytest.mark.parametrize("name", ["../../waiting", "/etc/passwd", "", "..", "missing"])
def test_a_name_that_leaves_the_folder_is_refused(
    tmp_path: Path, folders: JobFolders, name: str
) -> None:
    hand_over = given(folders, staged(tmp_path))

    with pytest.raises(ValueError, match="not a result file"):
        hand_over.open_result(result(name))
    hand_over.remove()


def test_a_job_goes_from_one_worker_to_the_next(tmp_path: Path, folders: JobFolders) -> None:
    folder = staged(tmp_path)
    hand_over = given(folders, folder)
    first = hand_over.output

    hand_over.take_back(folders.base)
    hand_over.to(folders.for_worker(2))
    (hand_over.output / "result.body").write_bytes(REPLY)
    hand_over.open_result(result())

    assert hand_over.output != first
    assert folder.result_file(hand_over.bring_back(result(), folder)).read_bytes() == REPLY


def test_what_a_server_left_behind_is_removed(tmp_path: Path, folders: JobFolders) -> None:
    (tmp_path / "left" / "worker-1" / "out").mkdir(parents=True)

    folders.use(tmp_path / "left")

    assert not (tmp_path / "left").exists()
    assert folders.for_worker(1).is_dir()


def test_what_a_worker_puts_in_place_of_its_folder_is_not_followed(
    tmp_path: Path, folders: JobFolders
) -> None:
    victim = TaskFolder.create(tmp_path, "victim")
    for path in (victim.input(0), victim.work / "deep" / "f"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    hand_over = given(folders, staged(tmp_path))
    hand_over.output.rename(hand_over.output.with_suffix(".away"))
    hand_over.output.symlink_to(victim.root)
    hand_over.remove()

    assert victim.input(0).exists()
    assert (victim.work / "deep" / "f").exists()


def test_what_is_appended_to_an_accepted_result_is_left_out(
    tmp_path: Path, folders: JobFolders
) -> None:
    folder = staged(tmp_path)
    hand_over = given(folders, folder)
    body = hand_over.output / "result.body"
    body.write_bytes(REPLY)
    hand_over.open_result(result())
    with body.open("ab") as file:
        file.write(b"more")
    hand_over.bring_back(result(), folder)

    assert folder.body.read_bytes() == REPLY


def test_folders_are_for_this_user_alone(folders: JobFolders) -> None:
    worker = folders.for_worker(1)

    for path in (folders.base, worker, *folders.base.iterdir(), *worker.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_hand_over_that_was_not_completed_leaves_nothing(
    tmp_path: Path, folders: JobFolders
) -> None:
    folders.hand_over(7, staged(tmp_path))
    folders.drop(7)
    folders.drop(8)  # cut off before it began

    assert [*(folders.base / "waiting").iterdir()] == []


async def test_nor_does_one_whose_call_is_cancelled(tmp_path: Path) -> None:
    async with open_pool() as pool:
        handing_over = asyncio.Event()
        begin = pool._starter.folders.hand_over
        loop = asyncio.get_running_loop()
        may_end = threading.Event()

        def held(*arguments: Any) -> Any:
            done = begin(*arguments)
            loop.call_soon_threadsafe(handing_over.set)
            assert may_end.wait(PATIENCE_S)
            return done

        pool._starter.folders.hand_over = held  # type: ignore[method-assign]
        running = ScriptedJob.make(tmp_path).begin(pool)
        await handing_over.wait()
        running.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert [*(pool._starter.folders.base / "waiting").iterdir()] == []
