"""A job as plain data: what a worker needs to run one attempt of a task, and what it produces.

Everything here is text and numbers, so it crosses a process boundary as JSON. Documents and results
never do: they are files in the task's folder, as :class:`TaskFolder` describes.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from docling_serve.errors import TaskNotTransferable


class _Plain(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


#: Size of a name that is kept: with another ending it still fits into 255 bytes.
_KEPT_NAME_BYTES = 250
_CUT_NAME_BYTES = 200
_SUFFIX_BYTES = 20


class StagedFile(_Plain):
    """A document on disk. ``path`` is relative to the task's folder or absolute."""

    kind: Literal["file"] = "file"
    path: str
    filename: str


class RemoteUrl(_Plain):
    """A document that the worker fetches, with the headers of this source only."""

    kind: Literal["http"] = "http"
    url: str
    headers: dict[str, str] = Field(default_factory=dict)


class ConnectorSource(_Plain):
    """Any other source of docling-jobkit's connectors, with its own configuration."""

    kind: Literal["connector"] = "connector"
    config: dict[str, Any]


JobSource = Annotated[StagedFile | RemoteUrl | ConnectorSource, Field(discriminator="kind")]


class CountPages(_Plain):
    """Only count the pages of each document; the reply is a JSON list, null where unknown."""

    kind: Literal["count"] = "count"


class PageSlice(_Plain):
    """Only convert the pages ``first`` to ``last``, both included, of the one document; the reply
    is what :class:`MergeSlices` reads."""

    kind: Literal["slice"] = "slice"
    first: int = Field(ge=1)
    last: int = Field(ge=1)


class MergeSlices(_Plain):
    """Build documents from the pages in these replies of slices, relative to the task's folder; the
    slices took ``elapsed_s`` seconds."""

    kind: Literal["merge"] = "merge"
    files: list[str]
    elapsed_s: float = 0.0


PagePart = Annotated[CountPages | PageSlice | MergeSlices, Field(discriminator="kind")]


class JobSpec(_Plain):
    """One attempt of a task.

    ``options``, ``targets``, ``chunking_options``, ``callbacks`` and ``converter_config`` are the
    JSON forms of docling's and docling-jobkit's models of the same names; the worker validates them
    with those models. ``output`` says what the body is: the reply to the client, or the result as
    docling-jobkit's workers store it. ``part`` makes the job one of several that a task with long
    PDFs is cut into.
    """

    task_id: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    task_type: Literal["convert", "chunk"] = "convert"
    sources: list[JobSource]
    options: dict[str, Any] = Field(default_factory=dict)
    targets: list[dict[str, Any]] = Field(default_factory=lambda: [{"kind": "inbody"}])
    chunking_options: dict[str, Any] | None = None
    include_converted_doc: bool = False
    callbacks: list[dict[str, Any]] = Field(default_factory=list)
    target_document_version: str | None = None
    converter_config: dict[str, Any] = Field(default_factory=dict)
    presigned_config: dict[str, Any] | None = None
    debug_error_details: bool = False
    output: Literal["reply", "task_result"] = "reply"
    part: PagePart | None = None

    @classmethod
    def from_task_dict(cls, task_dict: dict[str, Any]) -> JobSpec:
        """Validate ``task_dict`` and prove that it survives JSON.

        Raises:
            TaskNotTransferable: a field is missing, unknown, of the wrong type, or not plain data
                (a stream, a model, bytes); names the first such field.
        """
        _require_plain(task_dict, "task")
        try:
            return cls.model_validate(task_dict)
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            path = ".".join(str(part) for part in first["loc"]) or "task"
            raise TaskNotTransferable(path, first["msg"]) from exc


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _require_plain(value: object, path: str) -> None:
    """Walk ``value`` and refuse what JSON cannot carry, saying where it is."""
    if isinstance(value, float) and not math.isfinite(value):
        raise TaskNotTransferable(path, f"{value} is not a number that JSON has")
    if isinstance(value, str) and not _is_text(value):
        raise TaskNotTransferable(path, "not Unicode text: it contains half a surrogate pair")
    if value is None or isinstance(value, str | bool | int | float):
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TaskNotTransferable(f"{path}.{key!r}", "keys must be text")
            _require_plain(item, key if path == "task" else f"{path}.{key}")
        return
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _require_plain(item, f"{path}.{index}")
        return
    raise TaskNotTransferable(
        path, f"{type(value).__name__} is not plain data (text, number, boolean, list or mapping)"
    )


class OnnxUse(_Plain):
    """What sessions of ONNX Runtime were asked to run on, and what they run on, by the names of its
    providers (``CUDAExecutionProvider``).

    ``why`` says why they differ. ``offered``: the installed build has the requested provider, so
    another task may get it.
    """

    asked: str
    used: str
    why: str = ""
    offered: bool = True

    @property
    def differs(self) -> bool:
        """Whether they run on something other than requested."""
        return self.asked != self.used

    @property
    def fell_back(self) -> bool:
        """Whether this is a fallback, so that the figures of the job are not typical."""
        return self.differs and self.offered


class JobResult(_Plain):
    """What a finished job left in the task's folder.

    ``body`` is the name of the file with the exact HTTP body, ``media_type`` its type, and
    ``download_name`` the file name for ``Content-Disposition`` when it is an attachment.
    ``processing_time`` is in seconds. ``num_pages`` counts pages of documents that have pages.
    ``ocr_ran`` says that text was recognised in a document, ``onnx`` what ONNX Runtime ran on, None
    without it.
    """

    body: str
    media_type: str
    download_name: str | None = None
    processing_time: float
    num_converted: int = 0
    num_succeeded: int = 0
    num_partially_succeeded: int = 0
    num_failed: int = 0
    num_pages: int = 0
    ocr_ran: bool = False
    onnx: OnnxUse | None = None

    @property
    def typical(self) -> bool:
        """Whether what the job took is typical of such a job."""
        return self.onnx is None or not self.onnx.fell_back


class JobProgress(_Plain):
    """Where a running job is. ``document`` counts from 1."""

    phase: str
    document: int = 1
    num_docs: int = 1
    completed_pages: int = 0
    total_pages: int = 0


@dataclass(frozen=True)
class TaskFolder:
    """The private folder of one task. The conversion writes into ``written``, if that is another
    folder.

    ======================  ==========================================================
    ``job.json``            the :class:`JobSpec`, written by the server
    ``input/<n>``           staged documents, named by position, never by a client's name
    ``parts/<name>/``       a folder like this one for each job that a long PDF is cut into
    ``work/``               scratch of the conversion, the worker's alone
    ``temp/``               temporary files of libraries and programs, the worker's alone
    ``result.body``         the reply, written aside and renamed, so it is whole or absent
    ======================  ==========================================================
    """

    root: Path
    written: Path | None = None

    @classmethod
    def create(cls, parent: Path, task_id: str) -> TaskFolder:
        """Make the folder, readable by this user only."""
        folder = cls(parent / task_id)
        folder.root.mkdir(mode=0o700, parents=True)
        folder.inputs.mkdir(mode=0o700)
        return folder

    @property
    def inputs(self) -> Path:
        return self.root / "input"

    @property
    def job_file(self) -> Path:
        return self.root / "job.json"

    @property
    def parts(self) -> Path:
        return self.root / "parts"

    @property
    def work(self) -> Path:
        return (self.written or self.root) / "work"

    @property
    def temp(self) -> Path:
        return (self.written or self.root) / "temp"

    @property
    def body(self) -> Path:
        return (self.written or self.root) / "result.body"

    def input(self, index: int) -> Path:
        """Where document ``index`` is staged."""
        return self.inputs / str(index)

    def source(self, source: StagedFile) -> Path:
        """The file of a staged document."""
        return self.root / source.path

    def write_job(self, spec: JobSpec) -> None:
        """Write the job where the worker reads it, atomically: another server may read it after
        this one was killed. The code that makes a task writes it once."""
        aside = self.root / "job.json.aside"
        aside.unlink(missing_ok=True)
        aside.touch(mode=0o600)
        aside.write_text(spec.model_dump_json(), encoding="utf-8")
        aside.replace(self.job_file)

    def read_job(self) -> JobSpec:
        """Read the job; the worker's half of :meth:`write_job`."""
        return JobSpec.model_validate_json(self.job_file.read_text(encoding="utf-8"))

    def result_file(self, result: JobResult) -> Path:
        """The reply of ``result``, if a worker may return that file.

        Raises:
            ValueError: the name leaves the folder, or it is not a regular file.
        """
        path = self.root / result.body
        if path.parent != self.root or path.is_symlink() or not path.is_file():
            raise ValueError(f"not a result file of this task: {result.body!r}")
        return path

    def drop_attempt(self) -> None:
        """Remove what an interrupted attempt left: everything but the job and its documents."""
        for path in self.root.iterdir():
            if path in (self.job_file, self.inputs):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def drop_inputs(self) -> None:
        """Remove everything but the reply: uploads are not needed once a task has ended."""
        for folder in (self.inputs, self.parts, self.work, self.temp):
            _remove(folder)
        with contextlib.suppress(OSError):  # as with the folders
            self.job_file.unlink()

    def remove(self) -> None:
        """Remove the folder and its contents."""
        _remove(self.root)


def _remove(folder: Path) -> None:
    """Remove a folder and its contents; ``rmtree`` makes three times the system calls."""
    try:
        _remove_in(folder, None)
    except FileNotFoundError:
        return
    except (OSError, RecursionError):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_in(folder: Path | str, parent: int | None) -> None:
    how = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder, how, dir_fd=parent)
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    _remove_in(entry.name, descriptor)
                else:
                    os.unlink(entry.name, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    os.rmdir(folder, dir_fd=parent)


def display_name(name: str) -> str:
    """The last part of a client's file name. Directories are dropped (upstream E49), and so are
    control characters, and what makes it too long for names derived from it: results in a zip are
    named after their documents."""
    text = name.encode("utf-8", "replace").decode()  # JSON may carry half a surrogate pair
    last = PurePosixPath(text.replace("\\", "/")).name
    printable = "".join(char for char in last if unicodedata.category(char) != "Cc")
    return _shortened(printable) if printable not in ("", ".", "..") else "document"


def _shortened(name: str) -> str:
    """``name``; if it is too long, its beginning with its ending."""
    if len(name.encode()) <= _KEPT_NAME_BYTES:
        return name
    suffix = PurePosixPath(name).suffix
    if len(suffix.encode()) > _SUFFIX_BYTES:
        suffix = ""
    stem = name.removesuffix(suffix).encode()[: _CUT_NAME_BYTES - len(suffix.encode())]
    return stem.decode("utf-8", "ignore") + suffix
