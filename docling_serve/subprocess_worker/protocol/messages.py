"""The messages between a worker and its supervisor, and their format on the wire.

A frame is a four-byte big-endian length followed by that many bytes of JSON. Frames are small:
documents, options and results travel as files in the task's folder.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from docling_serve.errors import ChannelBroken, Failure
from docling_serve.jobs.spec import JobProgress, JobResult

MAX_FRAME_BYTES = 64 * 1024
HEADER = struct.Struct(">I")


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(_Message):
    """Server to worker: run the job described in ``folder``, on GPU ``device`` (its UUID). Its
    output files go to ``output``. A job without ``network`` needs none."""

    kind: Literal["run"] = "run"
    job: int
    folder: str
    output: str
    device: str | None = None
    network: bool = False


class Inspect(_Message):
    """Server to worker: can the job described in ``folder`` use a GPU? It may come next."""

    kind: Literal["inspect"] = "inspect"
    job: int
    folder: str


class Stop(_Message):
    """Server to worker: end now, politely."""

    kind: Literal["stop"] = "stop"


class Rest(_Message):
    """Server to worker: no job waits; drop the models and free the memory, but stay alive."""

    kind: Literal["rest"] = "rest"


class Ready(_Message):
    """Worker to server: imports are done, jobs may be sent. Times in seconds."""

    kind: Literal["ready"] = "ready"
    pid: int
    import_s: float
    uses_gpu: bool = True
    contained: dict[str, str] = Field(default_factory=dict)


class Inspected(_Message):
    """Worker to server: whether ``job`` can use a GPU, given the engines and devices that its
    options choose."""

    kind: Literal["inspected"] = "inspected"
    job: int
    uses_gpu: bool


class Rested(_Message):
    """Worker to server: it holds no models any more."""

    kind: Literal["rested"] = "rested"


class Started(_Message):
    """Worker to server: ``job`` was accepted. Sent before any work on it."""

    kind: Literal["started"] = "started"
    job: int


class Progressed(_Message):
    """Worker to server: where ``job`` is. ``lean``, here and below, says whether the worker could
    free all that its jobs took by dropping its models: it has neither imported torch nor opened a
    GPU."""

    kind: Literal["progressed"] = "progressed"
    job: int
    progress: JobProgress
    holds_models: bool
    lean: bool = False


class CallbackDue(_Message):
    """Worker to server: deliver ``payload`` to the callbacks of this job's task."""

    kind: Literal["callback_due"] = "callback_due"
    job: int
    payload: dict[str, Any]


class ConverterCounts(_Message):
    """How often a job found the models it needed loaded, how often not, and how many sets of
    models its worker keeps now."""

    hits: int = 0
    misses: int = 0
    model_sets: int = 0


class Done(_Message):
    """Worker to server: ``job`` finished, its reply is in the folder."""

    kind: Literal["done"] = "done"
    job: int
    result: JobResult
    holds_models: bool
    lean: bool = False
    converters: ConverterCounts = ConverterCounts()


class Failed(_Message):
    """Worker to server: ``job`` ended without a reply, in the fields of ``errors.Failure``."""

    kind: Literal["failed"] = "failed"
    job: int
    category: str
    message: str
    retryable: bool
    phase: str
    details: dict[str, str]
    holds_models: bool
    lean: bool = False
    converters: ConverterCounts = ConverterCounts()

    def failure(self) -> Failure:
        """The failure that it carries."""
        return Failure(self.category, self.message, self.retryable, self.phase, self.details)


ToWorker = Run | Inspect | Rest | Stop
FromWorker = Ready | Inspected | Rested | Started | Progressed | CallbackDue | Done | Failed
Message = ToWorker | FromWorker

_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def encode(message: Message) -> bytes:
    """One frame.

    Raises:
        ValueError: the message is larger than ``MAX_FRAME_BYTES``.
    """
    body = message.model_dump_json().encode()
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"{message.kind} message of {len(body)} bytes, limit {MAX_FRAME_BYTES}")
    return HEADER.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """The length that ``header`` announces.

    Raises:
        ChannelBroken: it is zero or beyond the limit, so the other end uses another protocol.
    """
    (length,) = HEADER.unpack(header)
    if not 0 < length <= MAX_FRAME_BYTES:
        raise ChannelBroken(f"frame of {length} bytes announced, limit {MAX_FRAME_BYTES}")
    return int(length)


def decode(body: bytes) -> Message:
    """The message in ``body``.

    Raises:
        ChannelBroken: it is not one of ours.
    """
    try:
        return _ADAPTER.validate_json(body)
    except ValidationError as exc:
        raise ChannelBroken(f"not a message: {exc.errors(include_input=False)[0]['msg']}") from exc
