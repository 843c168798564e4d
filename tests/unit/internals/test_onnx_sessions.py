"""What sessions of ONNX Runtime run on: with the real library, and with a stand-in for a build
that has CUDA."""

from __future__ import annotations

import gc
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import onnxruntime
import pytest
import rapidocr
from onnxruntime.capi import onnxruntime_inference_collection
from rapidocr.inference_engine.onnxruntime import main, provider_config

from docling_serve.conversion.exhaustion import out_of_memory
from docling_serve.errors import CUDA_OUT_OF_MEMORY, OUT_OF_MEMORY
from docling_serve.internals import onnx_sessions
from docling_serve.internals.onnx_sessions import (
    CUDA,
    onnx_use,
    watch_rapidocr,
    watch_sessions,
)
from tests.helpers.api import SLIP, document
from tests.helpers.fake_gpu.build import compiler

CPU = "CPUExecutionProvider"
MODEL = Path(rapidocr.__file__).parent / "models/PP-OCRv6_det_small.onnx"
ARENA_FULL = (
    "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for"
    " requested buffer of size 8388608000"
)
SCAN = document(SLIP)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is watched, and no session was made before."""
    gc.collect()
    monkeypatch.setattr(onnx_sessions, "_sessions", onnx_sessions._Sessions())
    for module, name in (
        (onnxruntime, "InferenceSession"),
        (main, "InferenceSession"),
        (main, "ProviderConfig"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    onnx_sessions._preload_cuda.cache_clear()
    onnx_sessions._missing_library.cache_clear()
    yield
    onnx_sessions._preload_cuda.cache_clear()
    onnx_sessions._missing_library.cache_clear()


# ---- the real library ---------------------------------------------------------------------


def test_a_session_on_the_cpu_is_what_was_asked_for() -> None:
    watch_sessions()
    assert onnx_use() is None

    session = onnxruntime.InferenceSession(str(MODEL), providers=[CPU])

    use = onnx_use()
    assert session.get_providers() == [CPU]
    assert use is not None
    assert (use.asked, use.used, use.differs, use.fell_back) == (CPU, CPU, False, False)


def test_watching_twice_changes_nothing() -> None:
    watch_sessions()
    once = onnxruntime.InferenceSession
    watch_sessions()

    assert onnxruntime.InferenceSession is once


def test_rapidocr_that_asks_a_build_without_cuda_for_cuda_is_told_of() -> None:
    watch_sessions()
    watch_rapidocr()
    reader = rapidocr.RapidOCR(
        params={"EngineConfig.onnxruntime.use_cuda": True, "Global.log_level": "critical"}
    )

    found = reader(SCAN)

    use = onnx_use()
    assert found.txts
    assert use is not None
    assert (use.asked, use.used, use.offered) == (CUDA, CPU, False)
    assert "onnxruntime-gpu" in use.why
    assert not use.fell_back, "what the task took is what such a task takes with this build"


def test_rapidocr_on_the_cpu_asks_for_nothing_else() -> None:
    watch_sessions()
    watch_rapidocr()

    rapidocr.RapidOCR(params={"Global.log_level": "critical"})(SCAN, use_cls=False, use_rec=False)

    use = onnx_use()
    assert use is not None
    assert not use.differs


def test_the_libraries_are_used_as_they_are_now() -> None:
    """What the module builds on: a newer version that changes it must be looked at."""
    session_class = onnxruntime_inference_collection.InferenceSession
    assert list(inspect.signature(session_class.__init__).parameters)[1:5] == [
        "path_or_bytes",
        "sess_options",
        "providers",
        "provider_options",
    ]
    assert "enable_fallback" in inspect.getsource(session_class.__init__)
    assert callable(onnxruntime.preload_dlls)
    assert "provider_cfg.get_ep_list()" in inspect.getsource(main.OrtInferSession.__init__)
    assert provider_config.ProviderConfig({"use_cuda": True}).cfg_use_cuda is True


# ---- a build with CUDA, played ------------------------------------------------------------


class StandInBuild:
    """A build of ONNX Runtime with CUDA whose sessions do what the test says."""

    def __init__(self, folder: Path) -> None:
        self.calls: list[str] = []
        self.raises: Exception | None = None
        self.gives = [CUDA, CPU]
        build = self

        class InferenceSession:
            def __init__(self, *given: Any, **kwargs: Any) -> None:
                providers = given[2]
                names = [each[0] if isinstance(each, tuple) else each for each in providers]
                build.calls.append(f"session on {names[0]}")
                build.fallback = kwargs.get("enable_fallback", 1)
                if CUDA in names and build.raises is not None:
                    raise build.raises
                self._providers = build.gives if CUDA in names else [CPU]

            def get_providers(self) -> list[str]:
                return self._providers

            def enable_fallback(self) -> None:
                build.calls.append("fallback of calls")

        module: Any = ModuleType("onnxruntime")
        module.__file__ = str(folder / "__init__.py")
        module.InferenceSession = InferenceSession
        module.get_available_providers = lambda: [CUDA, CPU]
        module.preload_dlls = lambda: build.calls.append("preload")
        self.module = module
        self.fallback = 1

    def session(self, *providers: str) -> Any:
        return self.module.InferenceSession("a model", providers=[(each, {}) for each in providers])


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandInBuild:
    build = StandInBuild(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", build.module)
    watch_sessions()
    return build


def test_the_libraries_of_cuda_are_loaded_once_and_before_the_first_session(
    build: StandInBuild,
) -> None:
    build.session(CUDA, CPU)
    build.session(CUDA, CPU)

    assert build.calls == [
        *("preload", f"session on {CUDA}", "fallback of calls"),
        *(f"session on {CUDA}", "fallback of calls"),
    ]


def test_a_session_on_the_cpu_loads_none(build: StandInBuild) -> None:
    build.session(CPU)

    assert build.calls == [f"session on {CPU}"]


def test_memory_that_runs_out_while_a_session_is_made_is_raised(build: StandInBuild) -> None:
    build.raises = RuntimeError(ARENA_FULL)

    with pytest.raises(RuntimeError, match="BFCArena") as raised:
        build.session(CUDA, CPU)

    assert build.fallback == 0
    failure = out_of_memory(str(raised.value))
    assert failure is not None
    assert failure.details["reason"] == CUDA_OUT_OF_MEMORY


def test_memory_of_an_arena_is_the_host_s_where_sessions_run_on_the_cpu(
    build: StandInBuild,
) -> None:
    build.session(CUDA, CPU)
    build.session(CPU)

    failure = out_of_memory(ARENA_FULL)

    assert failure is not None
    assert failure.details["reason"] == OUT_OF_MEMORY


def test_another_error_makes_it_a_session_on_the_cpu_with_the_reason(build: StandInBuild) -> None:
    build.raises = RuntimeError("CUDA failure 35: CUDA driver version is insufficient")

    session = build.session(CUDA, CPU)

    use = onnx_use()
    assert session.get_providers() == [CPU]
    assert use is not None
    assert use.fell_back
    assert use.why == "CUDA failure 35: CUDA driver version is insufficient"


def test_a_session_that_got_the_cpu_in_silence_is_told_of(build: StandInBuild) -> None:
    build.gives = [CPU]

    session = build.session(CUDA, CPU)

    use = onnx_use()
    assert use is not None
    assert (use.asked, use.used, use.fell_back) == (CUDA, CPU, True)
    assert "gave up on CUDA" in use.why
    del session


def test_one_session_of_several_that_fell_back_is_told_of(build: StandInBuild) -> None:
    build.gives = [CPU]
    fell_back = build.session(CUDA, CPU)
    build.gives = [CUDA, CPU]
    on_cuda = build.session(CUDA, CPU)

    use = onnx_use()
    assert use is not None
    assert use.used == CPU
    del fell_back
    gc.collect()
    use = onnx_use()
    assert use is not None
    assert use.used == CUDA
    del on_cuda


def test_a_call_that_made_a_session_fall_back_is_seen(build: StandInBuild) -> None:
    """ONNX Runtime gives the session other providers when a call of CUDA's provider fails."""
    session = build.session(CUDA, CPU)
    session._providers = [CPU]

    use = onnx_use()
    assert use is not None
    assert use.fell_back


def test_the_library_that_is_missing_is_named(build: StandInBuild, tmp_path: Path) -> None:
    compile_with = compiler()
    if compile_with is None:
        pytest.skip("no C compiler (gcc or cc) to build a library with that lacks another")
    (tmp_path / "capi").mkdir()
    source = tmp_path / "empty.c"
    source.write_text("int nothing;\n")
    lacking = tmp_path / "libstand_in_curand.so.10"
    shared = [compile_with, "-shared", "-fPIC"]
    soname = f"-Wl,-soname,{lacking.name}"
    subprocess.run([*shared, soname, "-o", str(lacking), str(source)], check=True)
    provider = tmp_path / "capi/libonnxruntime_providers_cuda.so"
    keep = "-Wl,--no-as-needed"
    subprocess.run([*shared, keep, "-o", str(provider), str(source), str(lacking)], check=True)
    lacking.unlink()
    build.gives = [CPU]

    session = build.session(CUDA, CPU)

    use = onnx_use()
    assert use is not None
    assert use.why.startswith("libstand_in_curand.so.10: cannot open shared object file")
    del session


def test_options_of_a_preset_reach_a_session_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """RapidOCR's engine is given what a session on CUDA would get; the session itself is on the
    CPU, since this build has nothing else."""
    given: list[Any] = []
    real = onnxruntime_inference_collection.InferenceSession

    def stand_in_session(path: str, sess_options: Any, providers: list[Any]) -> Any:
        given.extend(providers)
        return real(path, sess_options, [CPU])

    monkeypatch.setattr(provider_config, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(provider_config, "get_device", lambda: "GPU")
    monkeypatch.setattr(main, "InferenceSession", stand_in_session)
    asked = {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "gpu_mem_limit": 2 * 1024**3,
    }
    prefix = "EngineConfig.onnxruntime.cuda_ep_cfg."
    params = {
        "Global.log_level": "critical",
        "EngineConfig.onnxruntime.use_cuda": True,
        **{f"{prefix}{name}": value for name, value in asked.items()},
    }

    rapidocr.RapidOCR(params=params)(SCAN, use_cls=False, use_rec=False)

    provider, options = given[0]
    assert provider == CUDA
    assert {name: options[name] for name in asked} == asked
