"""Derive findings from facts: pure, no driver, no processes, no clock."""

from __future__ import annotations

from collections.abc import Iterator

from docling_serve.doctor.facts import Facts, GpuFacts, ModeFacts, WorkerFacts
from docling_serve.doctor.findings import Area, Finding, note, ok, problem, warning
from docling_serve.doctor.library_findings import engine_findings, library_findings

_GIB = 1024**3
_GPU, _WORKERS, _MODE = Area.GPU, Area.WORKERS, Area.MODE
#: The states of a measure that is in force, or that was not requested.
_IN_FORCE = ("on", "not asked for", "left to")
#: The state of a measure that other settings make unnecessary.
_OPEN = "left open"
_REINSTALL = "Read the lines above; reinstall the package that they name."


def judge(facts: Facts) -> list[Finding]:
    """All findings about ``facts``, in the order in which they are printed."""
    found = [
        *_gpu(facts),
        *engine_findings(facts),
        *library_findings(facts),
        *_workers(facts),
        *_mode(facts),
    ]
    order = list(Area)
    return sorted(found, key=lambda finding: order.index(finding.area))


# ---- the driver and its cards --------------------------------------------------------------------


def _gpu(facts: Facts) -> Iterator[Finding]:
    gpu = facts.gpu.facts
    if gpu is None:
        yield problem(
            _GPU,
            f"The NVIDIA driver cannot be read: {facts.gpu.failure}",
            "Run nvidia-smi; if it hangs too, restart the driver or the machine.",
        )
        return
    if gpu.state == "none":
        yield from _no_gpu(gpu)
        return
    if gpu.driver_version is not None:
        newest = f", supports CUDA up to {_cuda(gpu.cuda_version)}" if gpu.cuda_version else ""
        yield ok(_GPU, f"NVIDIA driver {gpu.driver_version}{newest}.")
    if gpu.state == "unknown":
        yield warning(
            _GPU,
            f"The driver reports no memory figures: {gpu.reason}",
            "Memory on the card cannot be checked before a task starts. Run nvidia-smi; after an "
            "update of the driver, restart the machine.",
        )
    for uuid in gpu.unreadable:
        yield warning(
            _GPU, f"A card reports no memory figures: {uuid}", "Run nvidia-smi -q and read why."
        )
    yield from _cards(gpu)
    for holder in gpu.holders:
        held = "an unknown amount" if holder.used_bytes is None else _gib(holder.used_bytes)
        who = holder.name or "a process that cannot be seen from here"
        whose = "docling-serve" if holder.ours else "not docling-serve"
        where = f"{_named(gpu, holder.uuid)} ({holder.uuid})"
        yield note(_GPU, f"pid {holder.pid} ({who}, {whose}) holds {held} on {where}.")


def _no_gpu(gpu: GpuFacts) -> Iterator[Finding]:
    if gpu.device_files and gpu.visible_devices is None:
        yield warning(
            _GPU,
            f"{', '.join(gpu.device_files)} is there, but memory cannot be read: {gpu.reason}.",
            "In a container, set NVIDIA_DRIVER_CAPABILITIES=compute,utility; elsewhere, install "
            "the package of the driver that has libnvidia-ml.so.1.",
        )
        return
    yield note(_GPU, f"No NVIDIA GPU: {gpu.reason}. Conversions run on the CPU.")


def _cards(gpu: GpuFacts) -> Iterator[Finding]:
    in_order = sorted(gpu.cards, key=lambda card: _place(gpu, card.uuid))
    for card in in_order:
        yield ok(
            _GPU,
            f"{_named(gpu, card.uuid)}: {card.name}, {card.uuid}, "
            f"{_gib(card.used_bytes)} of {_gib(card.total_bytes)} in use.",
        )
    if gpu.visible_devices is not None:
        yield note(_GPU, f"CUDA_VISIBLE_DEVICES={gpu.visible_devices} is set.")
    if gpu.cuda_error:
        yield warning(
            _GPU,
            f"CUDA shows no card: {gpu.cuda_error}",
            "Conversions run on the CPU. Compare CUDA_VISIBLE_DEVICES with the cards above; in a "
            "container, set NVIDIA_DRIVER_CAPABILITIES=compute,utility.",
        )
    counted = [card.index for card in in_order if card.uuid in gpu.cuda_order]
    if counted != sorted(counted):
        yield note(
            _GPU,
            "CUDA counts the cards in another order than nvidia-smi; the numbers above are CUDA's.",
        )


def _place(gpu: GpuFacts, uuid: str) -> int:
    order = gpu.cuda_order
    return order.index(uuid) if uuid in order else len(order)


def _named(gpu: GpuFacts, uuid: str) -> str:
    """A card as CUDA counts it, where that is known."""
    order = gpu.cuda_order
    return f"cuda:{order.index(uuid)}" if uuid in order else "card"


# ---- worker processes ----------------------------------------------------------------------------


def _workers(facts: Facts) -> Iterator[Finding]:
    if facts.settings_error:
        return
    workers = facts.workers.facts
    if workers is None:
        yield problem(
            _WORKERS,
            f"No worker process could be started: {facts.workers.failure}",
            "With the mode on no task would run. " + _REINSTALL,
        )
        return
    yield ok(
        _WORKERS,
        f"A worker is ready after {workers.ready_s:.1f} s ({workers.start_method}) and takes "
        f"{_mb(workers.rss_bytes)} of host memory, no GPU memory.",
    )
    yield from _measures(workers)
    if workers.ended_after_s is None:
        yield problem(
            _WORKERS,
            "A worker kept running after its server was killed.",
            "Do not turn the mode on here: report this, with the output of "
            "docling-serve doctor --json.",
        )
    else:
        yield ok(
            _WORKERS,
            "When the server is killed (kill -9), its worker is gone within "
            f"{workers.ended_after_s:.2f} s.",
        )
    yield _template(facts, workers)


def _measures(workers: WorkerFacts) -> Iterator[Finding]:
    held = [name for name, state in workers.measures.items() if state == "on"]
    if held:
        yield ok(_WORKERS, f"A worker's own measures hold: {', '.join(held)}.")
    for name, state in workers.measures.items():
        if state.startswith(_OPEN):
            yield note(_WORKERS, f"A worker's measure {name} is {state}.")
        elif not state.startswith(_IN_FORCE):
            yield warning(
                _WORKERS,
                f"A worker's measure {name} does not hold: {state}",
                "Workers run without it. In a container, see whether its security profile "
                "forbids it.",
            )


def _template(facts: Facts, workers: WorkerFacts) -> Finding:
    if workers.template_unfit is None:
        size = "" if workers.template_rss_bytes is None else f" ({_mb(workers.template_rss_bytes)})"
        return ok(_WORKERS, f"The fork template{size} is fit: forkserver would be used.")
    text = f"The fork template is refused: {workers.template_unfit}"
    mode = facts.mode.facts
    if mode is not None and mode.start_method == "forkserver":
        return warning(
            _WORKERS,
            f"{text}; workers are spawned instead.",
            "Set DOCLING_SERVE_SUBPROCESS_START_METHOD=spawn, or report this: spawn works, but "
            "starts more slowly.",
        )
    return note(_WORKERS, f"{text}; spawn, which is set, does not need it.")


# ---- the settings on this machine ----------------------------------------------------------------


def _mode(facts: Facts) -> Iterator[Finding]:
    if facts.settings_error:
        yield problem(
            _MODE,
            f"A server would not start with these settings: {facts.settings_error}",
            "docling-serve config check shows where each setting comes from.",
        )
        return
    mode = facts.mode.facts
    if mode is None:
        yield problem(
            _MODE,
            f"Whether the mode would be on is not known: {facts.mode.failure}",
            "Set DOCLING_SERVE_USE_SUBPROCESS to true or false: auto asks the driver.",
        )
        return
    gpu = facts.gpu.facts
    has_card = gpu is not None and gpu.state == "known"
    if mode.enabled:
        yield ok(_MODE, f"Subprocess mode is on ({mode.reason}).")
    else:
        advice = (
            "DOCLING_SERVE_USE_SUBPROCESS=true frees memory after each task; "
            "docling-serve doctor --convert shows what it saves and costs here."
        )
        yield note(_MODE, f"Subprocess mode is off ({mode.reason}).", advice)
    if mode.enabled and not mode.frees_vram_on_idle:
        yield note(
            _MODE,
            "free_vram_on_idle=false: a worker keeps its models, and their memory, while it is "
            "idle.",
        )
    yield ok(_MODE, _limits(mode))
    if has_card and mode.enabled and gpu is not None:
        yield from _reserve(mode, gpu)


def _limits(mode: ModeFacts) -> str:
    limit = _mb(mode.memory_limit_bytes) if mode.memory_limit_bytes else "unlimited"
    return (
        f"Workers: at most {mode.max_workers}, and {mode.light_workers} for documents without "
        f"models; host memory of each: {limit}; a task may take {mode.timeout_s:g} s."
    )


def _reserve(mode: ModeFacts, gpu: GpuFacts) -> Iterator[Finding]:
    reserve = mode.vram_reserve_bytes
    in_order = sorted(gpu.cards, key=lambda card: _place(gpu, card.uuid))
    usable = in_order if mode.devices else in_order[:1]
    largest = max(card.total_bytes for card in usable)
    free = max(card.total_bytes - card.used_bytes for card in usable)
    text = f"A task of a kind not seen before needs {_gib(reserve)} of free GPU memory"
    advice = "Lower DOCLING_SERVE_SUBPROCESS_VRAM_RESERVE"
    if reserve > largest:
        yield warning(_MODE, f"{text}; no card that workers use has as much.", f"{advice}.")
    elif reserve > free:
        yield warning(
            _MODE,
            f"{text}; {_gib(free)} are free now.",
            f"{advice}, free the memory that other programs hold, or name these in "
            "DOCLING_SERVE_UNLOAD_* so that they are asked to unload.",
        )
    else:
        yield ok(_MODE, f"{text}; {_gib(free)} are free.")


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _cuda(number: int | None) -> str:
    return "" if number is None else f"{number // 1000}.{number % 1000 // 10}"
