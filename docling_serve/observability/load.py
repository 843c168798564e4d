"""The load at one moment, as metrics: the queue, the workers, and what isolation did and cost.

Unknown values are omitted from the page rather than shown as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.metrics import CallbackOptions, Meter, Observation

_Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Isolation:
    """Worker processes: how many by state, their memory, and sums since the start.

    ``workers`` has 0 for a state that no worker is in. ``rss_bytes`` is of all workers,
    ``standby_rss_bytes`` of those on standby, ``template_rss_bytes`` of the fork template, None
    without one. ``vram_bytes`` is None where it is not known. Peaks are those of the one worker
    with the highest value. ``overhead_s`` is by part: spawn, import, load, release.
    """

    workers: Mapping[str, int] = field(default_factory=dict)
    rss_bytes: int | None = None
    standby_rss_bytes: int | None = None
    template_rss_bytes: int | None = None
    vram_bytes: int | None = None
    peak_rss_bytes: int = 0
    peak_vram_bytes: int | None = None
    started: int = 0
    stopped: _Numbers = field(default_factory=dict)
    lost: _Numbers = field(default_factory=dict)
    retries: int = 0
    overhead_s: _Numbers = field(default_factory=dict)
    lookups: _Numbers = field(default_factory=dict)
    onnx_fallbacks: int = 0
    evictions: int = 0
    admission_waits: int = 0
    admission_wait_s: float = 0.0
    overcommitted: int = 0


@dataclass(frozen=True)
class GpuMemory:
    """The memory of one GPU in bytes; ``used_bytes`` counts all programs."""

    uuid: str
    total_bytes: int
    used_bytes: int


@dataclass(frozen=True)
class Load:
    """Tasks in the queue, how long the first of them has waited, how many run (None where that is
    not known here), the workers, if any, the GPUs, and the cached results, if there
    is a cache."""

    waiting: int = 0
    oldest_wait_s: float | None = None
    running: int | None = None
    isolation: Isolation | None = None
    gpus: Sequence[GpuMemory] = ()
    cache_bytes: int | None = None
    cache_lookups: _Numbers = field(default_factory=dict)


Read = Callable[[], Load | None]
"""The current load; None where it cannot be read."""

_GAUGES: dict[str, tuple[str, str, Callable[[Load], list[Observation]]]] = {
    "docling_serve.tasks.waiting": (
        "",
        "Tasks that have not started.",
        lambda load: [Observation(load.waiting)],
    ),
    "docling_serve.tasks.waiting.age": (
        "s",
        "Age of the oldest waiting task, 0 if none is waiting.",
        lambda load: _one(load.oldest_wait_s),
    ),
    "docling_serve.tasks.running": (
        "",
        "Running tasks.",
        lambda load: _one(load.running),
    ),
    "docling_serve.result_cache.size": (
        "By",
        "Size of the cached results.",
        lambda load: _one(load.cache_bytes),
    ),
    "docling_serve.workers": (
        "",
        "Worker processes by state.",
        lambda load: _of(load, lambda now: _by("state", now.workers)),
    ),
    "docling_serve.workers.memory": (
        "By",
        "Resident memory of the worker processes and their child processes.",
        lambda load: _of(load, lambda now: _one(now.rss_bytes)),
    ),
    "docling_serve.standby.memory": (
        "By",
        "Resident memory of standby workers, included in that of all workers.",
        lambda load: _of(load, lambda now: _one(now.standby_rss_bytes)),
    ),
    "docling_serve.template.memory": (
        "By",
        "Resident memory of the fork template.",
        lambda load: _of(load, lambda now: _one(now.template_rss_bytes)),
    ),
    "docling_serve.workers.gpu_memory": (
        "By",
        "GPU memory of the worker processes, where it is known.",
        lambda load: _of(load, lambda now: _one(now.vram_bytes)),
    ),
    "docling_serve.workers.peak_memory": (
        "By",
        "Highest resident memory of one worker process since the server started.",
        lambda load: _of(load, lambda now: _one(now.peak_rss_bytes)),
    ),
    "docling_serve.workers.peak_gpu_memory": (
        "By",
        "Highest GPU memory of one worker process since the server started.",
        lambda load: _of(load, lambda now: _one(now.peak_vram_bytes)),
    ),
    "docling_serve.gpu.memory": (
        "By",
        "Memory of each visible GPU.",
        lambda load: [Observation(gpu.total_bytes, {"gpu": gpu.uuid}) for gpu in load.gpus],
    ),
    "docling_serve.gpu.memory_used": (
        "By",
        "Memory of each visible GPU that is in use by any program.",
        lambda load: [Observation(gpu.used_bytes, {"gpu": gpu.uuid}) for gpu in load.gpus],
    ),
}

_COUNTERS: dict[str, tuple[str, str, Callable[[Isolation], list[Observation]]]] = {
    "docling_serve.workers.started": (
        "",
        "Worker processes started.",
        lambda now: _one(now.started),
    ),
    "docling_serve.workers.stopped": (
        "",
        "Worker processes that exited, by reason.",
        lambda now: _by("reason", now.stopped),
    ),
    "docling_serve.workers.lost": (
        "",
        "Worker processes lost in the middle of a task, by signal or exit code.",
        lambda now: _by("exit", now.lost),
    ),
    "docling_serve.tasks.retries": (
        "",
        "Tasks tried again in a fresh worker.",
        lambda now: _one(now.retries),
    ),
    "docling_serve.isolation.overhead": (
        "s",
        "Time spent on isolation, by part: spawn, import, load of models, release of GPU memory.",
        lambda now: _by("part", now.overhead_s),
    ),
    "docling_serve.converters.lookups": (
        "",
        "Tasks that needed models, by whether their worker had them loaded (hit, miss).",
        lambda now: _by("result", now.lookups),
    ),
    "docling_serve.onnx.fallbacks": (
        "",
        "Tasks that ONNX Runtime ran on a provider other than the requested one.",
        lambda now: _one(now.onnx_fallbacks),
    ),
    "docling_serve.neighbours.evictions": (
        "",
        "Times that another program on the GPU unloaded at the request of this server.",
        lambda now: _one(now.evictions),
    ),
    "docling_serve.admission.waits": (
        "",
        "Tasks that had to wait for free GPU memory.",
        lambda now: _one(now.admission_waits),
    ),
    "docling_serve.admission.overcommitted": (
        "",
        "Tasks that started with less free GPU memory than their kind needs.",
        lambda now: _one(now.overcommitted),
    ),
    "docling_serve.admission.wait": (
        "s",
        "Time that tasks waited for free GPU memory.",
        lambda now: _one(now.admission_wait_s),
    ),
}


def make_load_instruments(meter: Meter, read: Read) -> None:
    """Let ``meter`` report at every scrape what ``read`` returns.

    A scrape reads once: OpenTelemetry queries instruments in order of creation, and all but the
    first report what the first one has read.
    """
    latest: list[Load | None] = [None]
    first = next(iter(_GAUGES.values()))[2]

    def observer(
        observe: Callable[[Load], list[Observation]],
    ) -> Callable[[CallbackOptions], Iterator[Observation]]:
        def callback(_: CallbackOptions) -> Iterator[Observation]:
            if observe is first:
                latest[0] = read()
            load = latest[0]
            if load is not None:
                yield from observe(load)

        return callback

    for name, (unit, description, observe) in _GAUGES.items():
        meter.create_observable_gauge(
            name, callbacks=[observer(observe)], unit=unit, description=description
        )
    meter.create_observable_counter(
        "docling_serve.result_cache.lookups",
        callbacks=[observer(lambda load: _by("result", load.cache_lookups))],
        description="Lookups in the result cache (hit, miss).",
    )
    for name, (unit, description, count) in _COUNTERS.items():
        meter.create_observable_counter(
            name,
            callbacks=[observer(lambda load, count=count: _of(load, count))],  # type: ignore[misc]
            unit=unit,
            description=description,
        )


def _of(load: Load, observe: Callable[[Isolation], list[Observation]]) -> list[Observation]:
    return [] if load.isolation is None else observe(load.isolation)


def _one(value: float | None) -> list[Observation]:
    return [] if value is None else [Observation(value)]


def _by(label: str, values: _Numbers) -> list[Observation]:
    return [Observation(value, {label: name}) for name, value in values.items()]
