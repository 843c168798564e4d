"""The doctor's facts about this machine: plain data, collected by children and read here.

Sizes are bytes, times seconds. None stands for "not known".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

Fact = TypeVar("Fact")


@dataclass(frozen=True)
class Answer(Generic[Fact]):
    """What a child process found, or why it found nothing."""

    facts: Fact | None = None
    failure: str = ""


@dataclass(frozen=True)
class Card:
    """A GPU that this process may use; ``index`` is its number in ``nvidia-smi``."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    used_bytes: int


@dataclass(frozen=True)
class Holder:
    """A process that the driver lists on a GPU.

    ``name`` is None where the process is not visible from here. ``ours`` is True for a process of
    docling-serve.
    """

    uuid: str
    pid: int
    used_bytes: int | None
    name: str | None
    ours: bool


@dataclass(frozen=True)
class GpuFacts:
    """What the driver says. ``state`` as in :class:`~docling_serve.vram.readings.GpuState`.

    ``cuda_version`` is the newest CUDA the driver supports: 13000 stands for 13.0.
    ``device_files`` are those of a driver under ``/dev``. ``cuda_order`` has the UUIDs of the cards
    as CUDA counts them, ``cuda:0`` first; ``cuda_error`` says why CUDA shows none.
    """

    state: str
    reason: str
    cards: list[Card]
    holders: list[Holder]
    unreadable: list[str]
    driver_version: str | None
    cuda_version: int | None
    device_files: list[str]
    visible_devices: str | None
    cuda_order: list[str] = field(default_factory=list)
    cuda_error: str = ""


@dataclass(frozen=True)
class TorchFacts:
    """torch as it is installed. ``cuda`` is the CUDA version it was built for; ``version`` is None
    where it cannot be imported.

    ``error`` is torch's message when it is asked to use CUDA and cannot.
    """

    version: str | None
    cuda: str | None
    available: bool
    error: str


@dataclass(frozen=True)
class OnnxFacts:
    """ONNX Runtime as it is installed, in a process without torch. ``cuda`` is the CUDA version it
    was built for.

    ``version`` is None where it is not installed. ``missing`` are the libraries that its CUDA
    provider needs and the loader does not find. ``provider`` is the one that a session gets when it
    requests CUDA; None if none was requested. ``error`` is what ONNX Runtime printed meanwhile.
    """

    version: str | None
    cuda: str | None
    providers: list[str]
    missing: list[str]
    provider: str | None
    error: str


@dataclass(frozen=True)
class StageFacts:
    """A stage of a conversion without options.

    ``library`` is ``torch``, ``onnxruntime``, another engine's name, or empty for a stage without a
    model. ``device`` is what docling gives the stage, such as ``cuda:0``.
    """

    stage: str
    kind: str
    library: str
    device: str


@dataclass(frozen=True)
class EngineFacts:
    """torch, and what a request without options runs on.

    ``asked_device`` is docling's accelerator option. ``failure`` says why docling gives no stages.
    """

    asked_device: str
    torch: TorchFacts
    stages: list[StageFacts]
    failure: str


@dataclass(frozen=True)
class WorkerFacts:
    """A worker process of this installation, started for the doctor and killed with its server.

    ``measures`` is what it applied to itself, as ``/v1/workers`` reports it. ``template_unfit``
    says why the fork template is refused; None if it is used. ``ended_after_s`` counts from the
    kill of the process that plays its server; None if the worker was still there at the end of the
    wait.
    """

    start_method: str
    ready_s: float
    rss_bytes: int
    measures: dict[str, str]
    template_unfit: str | None
    template_rss_bytes: int | None
    worker_pid: int
    ended_after_s: float | None = None


@dataclass(frozen=True)
class ModeFacts:
    """What the settings mean on this machine; sizes of 0 are no limit. ``devices`` are the GPUs
    that workers may use, empty for the first one."""

    setting: str
    enabled: bool
    reason: str
    max_workers: int
    light_workers: int
    start_method: str
    frees_vram_on_idle: bool
    vram_reserve_bytes: int
    memory_limit_bytes: int
    timeout_s: float
    devices: list[str]


@dataclass(frozen=True)
class Facts:
    """Everything. ``distributions`` maps installed packages to their versions."""

    gpu: Answer[GpuFacts]
    onnxruntime: Answer[OnnxFacts]
    engines: Answer[EngineFacts]
    workers: Answer[WorkerFacts]
    mode: Answer[ModeFacts]
    distributions: Mapping[str, str] = field(default_factory=dict)
    settings_error: str = ""


def read_facts(kind: Any, data: Any) -> Any:
    """Build facts of type ``kind`` from the output of a child.

    Raises:
        ValidationError: ``data`` does not match.
    """
    return TypeAdapter(kind).validate_python(data)
