"""The files of jobs on their way to workers and back.

A worker sees one folder: the jobs that it was given, to read, and in ``out`` what it writes. A job
gets there by a rename, with its documents as hard links. Its result is copied to the task's own
folder, from a file that was opened once. So a worker needs no access to any task's folder, and
changes that it makes to an accepted result have no effect.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from docling_serve.jobs.needs import stores_results
from docling_serve.jobs.spec import (
    JobResult,
    JobSource,
    JobSpec,
    MergeSlices,
    StagedFile,
    TaskFolder,
)
from docling_serve.process.guardian import Guardian
from docling_serve.sandbox.plan import OUT

_WAITING = "waiting"
_BLOCK_BYTES = 1 << 24


@dataclass
class HandOver:
    """A job as a worker gets it. ``inputs`` is a folder like a task's, ``output`` the one in which
    the worker leaves its result."""

    inputs: Path
    output: Path = Path()
    _result: int = -1
    _size: int = 0
    _descriptors: list[int] = field(default_factory=list)
    #: Whether nothing of it is left.
    is_removed: bool = False

    def to(self, worker: Path) -> None:
        """Put the job into the folder of ``worker``, for an attempt.

        Raises:
            OSError: the disk is full, or the folder is gone.
        """
        # A name that the previous job could not predict and take.
        self.output = worker / OUT / f"{self.inputs.name}-{secrets.token_hex(8)}"
        self.output.mkdir(mode=0o700)
        folder = os.open(self.output, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._descriptors.append(folder)
        self.inputs = self.inputs.rename(worker / self.inputs.name)

    def take_back(self, folders: Path) -> None:
        """The attempt is over: move the job to ``folders``, where it waits for another one."""
        with contextlib.suppress(OSError):
            self.inputs = self.inputs.rename(folders / _WAITING / self.inputs.name)

    def open_result(self, result: JobResult) -> None:
        """Open the reply of ``result``, once; later changes of that name do not matter.

        Raises:
            ValueError: the name leaves the folder, or it is not a regular file.
        """
        try:
            if result.body != Path(result.body).name:
                raise OSError
            how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self._result = os.open(result.body, how, dir_fd=self._descriptors[-1])
            self._descriptors.append(self._result)
            found = os.fstat(self._result)
            if not stat.S_ISREG(found.st_mode):
                raise OSError
            self._size = found.st_size
        except OSError:
            raise ValueError(f"not a result file of this task: {result.body!r}") from None

    def bring_back(self, result: JobResult, folder: TaskFolder) -> JobResult:
        """Copy the opened file into ``folder``, atomically, and remove the rest. What the worker
        still appends to it is left out. Blocks.

        Raises:
            OSError: the disk is full, or the folder is gone.
        """
        aside, copied = folder.body.with_suffix(".part"), 0
        written = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            while copied < self._size:
                left = min(_BLOCK_BYTES, self._size - copied)
                if not (sent := os.sendfile(written, self._result, copied, left)):
                    raise OSError(errno.EIO, "the result became shorter")
                copied += sent
        finally:
            os.close(written)
        aside.rename(folder.body)
        self.remove()
        return result.model_copy(update={"body": folder.body.name})

    def remove(self) -> None:
        """Remove what the worker got and what it left. Blocks."""
        while self._descriptors:
            os.close(self._descriptors.pop())
        TaskFolder(self.inputs).remove()
        if self.output.name:
            TaskFolder(self.output).remove()
        self.is_removed = True


class JobFolders:
    """One folder for each worker, and one for waiting jobs, below ``base``; without ``base`` below
    a temporary folder, which ``guardian`` removes if this process cannot. Methods block."""

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self._base: Path | None = None

    def use(self, base: Path) -> None:
        """Put the folders below ``base``, which is emptied: its contents are left-overs."""
        shutil.rmtree(base, ignore_errors=True)
        self._base = base

    @property
    def base(self) -> Path:
        """Where the folders are; created on demand."""
        if self._base is None:
            self._base = Path(tempfile.mkdtemp(prefix="docling-serve-jobs-"))
            self._guardian.remove_folder(self._base)
        for folder in (self._base, self._base / _WAITING):  # the mode is for the last one only
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._base

    def for_worker(self, number: int) -> Path:
        """Make the folder of a worker."""
        folder = self.base / f"worker-{number}"
        folder.mkdir(mode=0o700)
        (folder / OUT).mkdir(mode=0o700)
        return folder

    def drop_worker(self, number: int) -> None:
        """Remove the folder of a worker that was not started."""
        shutil.rmtree(self.base / f"worker-{number}", ignore_errors=True)

    def hand_over(
        self, number: int, folder: TaskFolder, spec: JobSpec | None = None
    ) -> tuple[HandOver, JobSpec]:
        """The job in ``folder``, with its documents next to it. ``spec`` is the content of its
        ``job.json``, if the caller has it.

        Raises:
            OSError: the disk is full, or the job is gone.
        """
        spec = spec or folder.read_job()
        inputs = TaskFolder.create(self.base / _WAITING, str(number))
        sources: list[JobSource] = [
            _linked(source, folder, inputs, index) for index, source in enumerate(spec.sources)
        ]
        part = spec.part
        if isinstance(part, MergeSlices):
            inputs.parts.mkdir(mode=0o700)
            names = [f"{inputs.parts.name}/{index}" for index in range(len(part.files))]
            for name, file in zip(names, part.files, strict=True):
                _link(folder.root / file, inputs.root / name)
            part = part.model_copy(update={"files": names})
        changed: dict[str, object] = {"sources": sources, "part": part}
        if not stores_results(spec):
            changed["presigned_config"] = None  # the keys of the server's storage
        is_same = all(getattr(spec, name) == value for name, value in changed.items())
        given = spec.model_copy(update=changed)
        if is_same and folder.job_file.exists():
            _link(folder.job_file, inputs.job_file)
        else:
            inputs.write_job(given)
        return HandOver(inputs.root), given

    def drop(self, number: int) -> None:
        """Remove what a hand-over that was not completed left of a job."""
        TaskFolder(self.base / _WAITING / str(number)).remove()

    def close(self) -> None:
        """Remove all of the folders."""
        if self._base is not None:
            shutil.rmtree(self._base, ignore_errors=True)


def _linked(source: JobSource, folder: TaskFolder, inputs: TaskFolder, index: int) -> JobSource:
    if not isinstance(source, StagedFile):
        return source
    path = inputs.input(index)
    with contextlib.suppress(FileNotFoundError):  # the worker will report it
        _link(folder.source(source), path)
    return source.model_copy(update={"path": str(path.relative_to(inputs.root))})


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or no support for hard links
        shutil.copyfile(source, target)
