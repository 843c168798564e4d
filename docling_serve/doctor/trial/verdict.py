"""Whether the promise held: pure, based on the measurements."""

from __future__ import annotations

from collections.abc import Iterator

from docling_serve.doctor.findings import Area, Finding, note, ok, problem, warning
from docling_serve.doctor.trial.memory import Sample
from docling_serve.doctor.trial.run import GPU_TOLERANCE, HOST_TOLERANCE, ModeTrial, is_back

_AREA = Area.CONVERSION
_MB = 1_000_000
_REPORT = "Report this, with the output of docling-serve doctor --convert --json."


def promise(on: ModeTrial, off: ModeTrial) -> list[Finding]:
    """What the two trials show. A problem means that the promise did not hold."""
    return [
        *_conversions(on),
        *_conversions(off),
        *_memory(on),
        *_server_on_gpu(on),
        note(_AREA, _kept_with_mode_off(off)),
        note(_AREA, overhead(on, off)),
    ]


def overhead(on: ModeTrial, off: ModeTrial) -> str:
    """How much longer the tasks took with the mode on, in percent."""
    alone = sum(task.seconds for task in on.tasks), sum(task.seconds for task in off.tasks)
    together = on.together_s, off.together_s
    return (
        f"Overhead of the mode: {_percent(*alone)} one task at a time ({alone[0]:.1f} s, off "
        f"{alone[1]:.1f} s), {_percent(*together)} all in one go ({together[0]:.1f} s, off "
        f"{together[1]:.1f} s)."
    )


def grown(trial: ModeTrial, sample: Sample) -> tuple[int, int | None]:
    """Bytes that ``sample`` holds above the server at rest before its first task: of the host, and
    of the GPUs where there are any."""
    gpu = None
    if sample.gpu_used is not None and trial.idle.gpu_used is not None:
        gpu = sample.gpu_used - trial.idle.gpu_used
    return sample.total - trial.idle.total, gpu


def _conversions(trial: ModeTrial) -> Iterator[Finding]:
    wrong = [
        f"task {number} ({task.document}): {task.problem}"
        for number, task in enumerate(trial.tasks, start=1)
        if task.problem
    ] + [f"in one go: {text}" for text in trial.together_problems]
    if wrong:
        yield problem(
            _AREA,
            f"With the mode {trial.mode}, {len(wrong)} task(s) were not converted; {wrong[0]}",
            "Convert the document at a running server and read its log.",
        )
    else:
        count = 2 * len(trial.tasks)
        yield ok(_AREA, f"With the mode {trial.mode}, all {count} tasks were converted.")


def _memory(on: ModeTrial) -> Iterator[Finding]:
    has_gpu = on.idle.gpu_used is not None
    if not has_gpu:
        yield note(_AREA, "No GPU could be read: what follows is about host memory.")
    elif all((grown(on, task.peak)[1] or 0) < GPU_TOLERANCE for task in on.tasks):
        yield warning(
            _AREA,
            "No task took GPU memory.",
            "See Engines above; convert a document that needs a model, such as a scan.",
        )
    rests = [grown(on, task.after) for task in on.tasks]
    host, gpu = max(rest[0] for rest in rests), max(rest[1] or 0 for rest in rests)
    tolerance = f"host memory {HOST_TOLERANCE / _MB:.0f} MB"
    held = f"{host / _MB:+.0f} MB of host memory"
    if has_gpu:
        tolerance = f"GPU memory {GPU_TOLERANCE / _MB:.0f} MB, {tolerance}"
        held = f"{gpu / _MB:+.0f} MB of GPU memory, {held}"
    late = [number for number, task in enumerate(on.tasks, 1) if not is_back(task.after, on.idle)]
    if late:
        yield problem(
            _AREA,
            f"With the mode on, memory was not back after task {', '.join(map(str, late))}: at "
            f"most {held} (tolerance: {tolerance}).",
            "Run it again while no other program uses the GPU; with free_vram_on_idle=false a "
            f"worker keeps its models on purpose. Otherwise: {_REPORT}",
        )
        return
    slowest = max(task.back_s or 0.0 for task in on.tasks)
    yield ok(
        _AREA,
        f"With the mode on, memory was back after each of {len(on.tasks)} tasks, at the latest "
        f"{slowest:.1f} s after the answer; left: at most {held} (tolerance: {tolerance}).",
    )
    first, last = grown(on, on.tasks[0].after), grown(on, on.tasks[-1].after)
    gained = f"{(last[0] - first[0]) / _MB:+.0f} MB of host memory"
    if has_gpu:
        gained = f"{((last[1] or 0) - (first[1] or 0)) / _MB:+.0f} MB of GPU memory, {gained}"
    yield ok(_AREA, f"From the first task to the last: {gained}.")


def _server_on_gpu(on: ModeTrial) -> Iterator[Finding]:
    if on.idle.gpu_used is None:
        return
    if any(sample.gateway_listed for sample in on.samples):
        yield problem(_AREA, "The server process was listed on the GPU.", _REPORT)
    elif any(sample.listed for sample in on.samples):
        yield ok(_AREA, "The server process was never listed on the GPU, its workers were.")
    else:
        yield note(
            _AREA,
            "The driver listed no process of the server under its number here (a container?), so "
            "it cannot tell whether the server process held GPU memory.",
        )


def _kept_with_mode_off(off: ModeTrial) -> str:
    host, gpu = grown(off, off.tasks[-1].after)
    on_card = "" if gpu is None else f"{gpu / _MB:+.0f} MB of GPU memory, "
    return (
        f"With the mode off, after the last task the server holds {on_card}{host / _MB:+.0f} MB "
        f"of host memory compared with its start ({off.tasks[-1].after.total / _MB:,.0f} MB)."
    )


def _percent(with_mode: float, without: float) -> str:
    return f"{(with_mode / without - 1) * 100:+.0f}%" if without else "unknown"
