"""Findings about the libraries that run models: what they would use, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

from docling_serve.doctor.facts import EngineFacts, Facts, OnnxFacts, StageFacts
from docling_serve.doctor.findings import Area, Finding, note, ok, problem, warning

_ENGINES, _LIBRARIES = Area.ENGINES, Area.LIBRARIES
_CUDA_PROVIDER = "CUDAExecutionProvider"
#: The oldest Linux driver for each major version of CUDA (NVIDIA, CUDA Toolkit Release Notes,
#: "CUDA Toolkit and Minimum Required Driver Version for CUDA Minor Version Compatibility").
_OLDEST_DRIVER = {11: "450.80.02", 12: "525", 13: "580"}
_GPU_WHEEL = (
    "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'docling-serve[cuda]' (the two "
    "packages write the same files, so both have to go first)"
)


def engine_findings(facts: Facts) -> Iterator[Finding]:
    """Which stage runs on which device, and why not on the GPU where there is one."""
    if facts.settings_error:
        return
    engines = facts.engines.facts
    if engines is None or engines.failure:
        why = facts.engines.failure if engines is None else engines.failure
        yield problem(
            _ENGINES,
            f"What a conversion would run on is not known: {why}",
            "A task would fail in the same way. Fix what the message names.",
        )
    if engines is not None:
        for stage in engines.stages:
            yield _stage(facts, engines, stage)


def library_findings(facts: Facts) -> Iterator[Finding]:
    """Packages that are missing, broken, or incompatible."""
    if facts.settings_error:
        return
    yield from _both_packages(facts)
    if facts.engines.facts is not None:
        yield from _torch(facts, facts.engines.facts)
    onnx = facts.onnxruntime.facts
    if onnx is None:
        yield problem(
            _LIBRARIES,
            f"ONNX Runtime cannot be used: {facts.onnxruntime.failure}",
            f"Reinstall it: {_GPU_WHEEL}, or pip install 'docling-serve[rapidocr]' for the CPU.",
        )
    elif onnx.version is None:
        yield note(_LIBRARIES, "ONNX Runtime is not installed.")
    else:
        yield from _onnx(facts, onnx)


# ---- stages --------------------------------------------------------------------------------------


def _stage(facts: Facts, engines: EngineFacts, stage: StageFacts) -> Finding:
    name = f"{stage.stage}: {stage.kind}"
    if not stage.library:
        return ok(_ENGINES, f"{name}, without a model.")
    if stage.device.startswith("none"):
        return problem(
            _ENGINES,
            f"{name} on {stage.library} fails: {stage.device.removeprefix('none: ')}",
            f"DOCLING_DEVICE={engines.asked_device} asks for a device that {stage.library} does "
            "not have here; unset it, or see below.",
        )
    device, why = stage.device, ""
    if device != "cpu" or _has_card(facts):
        if stage.library == "onnxruntime":
            device, why = _onnx_device(facts, stage)
        elif device == "cpu":
            why = _why_torch_is_on_cpu(engines)
    text = f"{name} runs on {_LABELS.get(stage.library, stage.library)}, {device}"
    if device != "cpu":
        return ok(_ENGINES, f"{text}.")
    if _has_card(facts) and why and engines.asked_device != "cpu":
        return warning(_ENGINES, f"{text}: {why}.", "What to do is below, under Libraries.")
    return ok(_ENGINES, f"{text}{': ' + why if why else ''}.")


_LABELS = {"onnxruntime": "ONNX Runtime", "torch": "torch"}


def _onnx_device(facts: Facts, stage: StageFacts) -> tuple[str, str]:
    onnx = facts.onnxruntime.facts
    if onnx is None or onnx.version is None:
        return "cpu", "ONNX Runtime is not installed"
    if stage.device == "cpu":
        engines = facts.engines.facts
        return "cpu", "" if engines is None else _why_torch_is_on_cpu(engines)
    if _CUDA_PROVIDER not in onnx.providers:
        return "cpu", f"the installed package has no {_CUDA_PROVIDER}"
    if onnx.provider != _CUDA_PROVIDER:
        return "cpu", f"a session that asked for CUDA got {onnx.provider}"
    return stage.device, ""


def _why_torch_is_on_cpu(engines: EngineFacts) -> str:
    torch = engines.torch
    if engines.asked_device == "cpu":
        return "DOCLING_DEVICE=cpu"
    if torch.version is None:
        return "torch cannot be imported"
    if torch.cuda is None:
        return f"torch {torch.version} is built without CUDA"
    return torch.error.partition(". ")[0] or "torch finds no GPU"


# ---- packages ------------------------------------------------------------------------------------


def _both_packages(facts: Facts) -> Iterator[Finding]:
    versions = facts.distributions
    if "onnxruntime" in versions and "onnxruntime-gpu" in versions:
        yield problem(
            _LIBRARIES,
            f"onnxruntime {versions['onnxruntime']} and onnxruntime-gpu "
            f"{versions['onnxruntime-gpu']} are both installed: each overwrites the other's files.",
            f"Keep one: {_GPU_WHEEL}.",
        )


def _torch(facts: Facts, engines: EngineFacts) -> Iterator[Finding]:
    torch = engines.torch
    if "torch" not in facts.distributions:
        yield ok(
            _LIBRARIES,
            "This is the lite install, without torch: no models but those of the embedded profile.",
        )
        return
    if torch.version is None:
        yield problem(
            _LIBRARIES,
            f"torch cannot be imported: {torch.error}",
            "Layout and table models need it: reinstall torch.",
        )
        return
    built = f"built for CUDA {torch.cuda}" if torch.cuda else "built without CUDA"
    unused = not _has_card(facts) or engines.asked_device == "cpu"
    if unused or (torch.cuda and torch.available):
        yield ok(_LIBRARIES, f"torch {torch.version}, {built}.")
        return
    if not torch.cuda:
        yield warning(
            _LIBRARIES,
            f"torch {torch.version} is {built}, and this machine has an NVIDIA GPU.",
            "Install a build with CUDA, for example pip install --force-reinstall torch.",
        )
        return
    gpu = facts.gpu.facts
    supported = gpu.cuda_version if gpu is not None else None
    wanted = int(torch.cuda.split(".")[0])
    if supported is not None and supported // 1000 < wanted:
        assert gpu is not None
        yield problem(
            _LIBRARIES,
            f"The driver ({gpu.driver_version}) is too old for torch {torch.version}, {built}: it "
            f"supports CUDA {supported // 1000}.",
            f"Update the driver to {_OLDEST_DRIVER.get(wanted, 'a newer one')} or newer, or "
            f"install a torch that is built for CUDA {supported // 1000}.",
        )
        return
    yield problem(
        _LIBRARIES,
        f"torch {torch.version}, {built}, cannot use the GPU: {torch.error or 'it finds none'}",
        "Compare CUDA_VISIBLE_DEVICES with the cards above; in a container, set "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility.",
    )


def _onnx(facts: Facts, onnx: OnnxFacts) -> Iterator[Finding]:
    built = f"built for CUDA {onnx.cuda}" if onnx.cuda else "built without CUDA"
    yield ok(_LIBRARIES, f"ONNX Runtime {onnx.version}, {built}.")
    has_provider = _CUDA_PROVIDER in onnx.providers
    if _has_card(facts) and not has_provider and _runs_on_onnx(facts):
        yield warning(
            _LIBRARIES,
            "OCR runs on the CPU: this package of ONNX Runtime cannot use the GPU.",
            _GPU_WHEEL + ".",
        )
    if onnx.missing:
        level = problem if _has_card(facts) else warning
        yield level(
            _LIBRARIES,
            f"ONNX Runtime's CUDA provider needs {', '.join(onnx.missing)}, which the loader does "
            "not find: OCR would run on the CPU.",
            f"pip install 'onnxruntime-gpu[cuda,cudnn]=={onnx.version}' brings them.",
        )
    elif _has_card(facts) and has_provider and onnx.provider not in (None, _CUDA_PROVIDER):
        yield problem(
            _LIBRARIES,
            f"A session that asked for {_CUDA_PROVIDER} got {onnx.provider}: "
            f"{onnx.error or 'ONNX Runtime does not say why'}",
            "OCR runs on the CPU until that is fixed.",
        )
    yield from _majors(facts, onnx)


def _majors(facts: Facts, onnx: OnnxFacts) -> Iterator[Finding]:
    torch = facts.engines.facts.torch if facts.engines.facts is not None else None
    if torch is None or not torch.cuda or not onnx.cuda:
        return
    ours, theirs = onnx.cuda.split(".")[0], torch.cuda.split(".")[0]
    if ours != theirs:
        yield warning(
            _LIBRARIES,
            f"ONNX Runtime is built for CUDA {onnx.cuda}, torch for CUDA {torch.cuda}: they cannot "
            "share libraries.",
            "Install the two for the same major version; else the provider needs its own: "
            f"pip install 'onnxruntime-gpu[cuda,cudnn]=={onnx.version}'.",
        )


def _has_card(facts: Facts) -> bool:
    gpu = facts.gpu.facts
    return gpu is not None and (gpu.state != "none" or bool(gpu.device_files))


def _runs_on_onnx(facts: Facts) -> bool:
    engines = facts.engines.facts
    return engines is not None and any(one.library == "onnxruntime" for one in engines.stages)
