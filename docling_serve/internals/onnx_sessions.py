"""Sessions of ONNX Runtime: loads CUDA's libraries first, and records what sessions run on.

ONNX Runtime falls back to the CPU without an error: when a CUDA library is missing, or when the GPU
has no memory left for a session. RapidOCR does when the installed build has no CUDA at all.
:func:`watch_sessions` makes every session of this process record what was requested and what it
got. Running out of memory raises instead: the task can be retried once there is more.

Read from onnxruntime 1.32 (``preload_dlls``, ``InferenceSession``) and rapidocr 3.10
(``ProviderConfig``). Guarded by tests/unit/internals/test_onnx_sessions.py.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakSet

from docling_serve.internals.memory_texts import gpu_memory_ran_out
from docling_serve.jobs.spec import OnnxUse

CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_CPU_BUILD = "the installed ONNX Runtime is a build without CUDA (onnxruntime, not onnxruntime-gpu)"
_NOT_BUILT = "the installed ONNX Runtime is a build without it"
_NOT_FOUND = "cannot open shared object file"


def watch_sessions() -> None:
    """Make the sessions of this process record what they run on. Does nothing without ONNX Runtime,
    and touches no driver."""
    try:
        import onnxruntime  # noqa: PLC0415 - an OCR engine that may be left out
    except ImportError:
        return
    if not issubclass(onnxruntime.InferenceSession, _Watched):
        onnxruntime.InferenceSession = _watched(onnxruntime.InferenceSession)


def watch_rapidocr() -> None:
    """Make RapidOCR's sessions, if it is imported, record that CUDA was requested, even if the
    build has none."""
    if "rapidocr" not in sys.modules:
        return
    try:
        import onnxruntime  # noqa: PLC0415
        from rapidocr.inference_engine.onnxruntime import main  # noqa: PLC0415
    except ImportError:
        return
    module: Any = main
    module.InferenceSession = onnxruntime.InferenceSession
    if not issubclass(module.ProviderConfig, _Asking):
        module.ProviderConfig = type("ProviderConfig", (_Asking, module.ProviderConfig), {})


def onnx_use() -> OnnxUse | None:
    """What the sessions of this process run on: one that runs on something other than requested, if
    there is any; None before the first session."""
    with _sessions.lock:
        uses = [session.onnx_use for session in _sessions.live] or _sessions.last
    return next((use for use in uses if use.differs), uses[0] if uses else None)


def asked_for_cuda() -> bool:
    """Whether the newest session was to run on CUDA, and did not fall back."""
    return _sessions.newest_on_cuda


class _Sessions:
    """The sessions of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.live: WeakSet[Any] = WeakSet()
        self.last: list[OnnxUse] = []
        self.newest_on_cuda = False

    def add(self, session: Any) -> None:
        with self.lock:
            self.live.add(session)
            self.last = [session.onnx_use]
            self.newest_on_cuda = session.onnx_use.used == CUDA


_sessions = _Sessions()


class _Providers(list[Any]):
    """Providers for a session that was to run on CUDA, whether or not the list names it."""


class _Asking:
    """A mixin placed in front of RapidOCR's reading of its configuration."""

    def get_ep_list(self) -> list[Any]:
        config: Any = self
        providers = super().get_ep_list()  # type: ignore[misc]
        return _Providers(providers) if config.cfg_use_cuda else list(providers)


class _Watched:
    """Marks a session class that is watched."""


def _watched(session_class: Any) -> Any:
    class InferenceSession(_Watched, session_class):  # type: ignore[misc]
        """ONNX Runtime's session, which records its provider and falls back less readily."""

        def __init__(
            self,
            path_or_bytes: Any,
            sess_options: Any = None,
            providers: Any = None,
            provider_options: Any = None,
            **kwargs: Any,
        ) -> None:
            names = [_name(provider) for provider in providers or ()]
            self._asked = CUDA if isinstance(providers, _Providers) else (*names, _CPU)[0]
            self._offered = self._asked in _available()
            self._why = "" if self._offered else _CPU_BUILD if self._asked == CUDA else _NOT_BUILT
            first = (path_or_bytes, sess_options, providers, provider_options)
            if CUDA in names and CUDA in _available():
                self._try_cuda(first, kwargs)
            else:
                super().__init__(*first, **kwargs)
            _sessions.add(self)

        def _try_cuda(self, first: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            """Raises ONNX Runtime's error if memory ran out; any other error makes it a session on
            the CPU."""
            _sessions.newest_on_cuda = True
            _preload_cuda()
            try:
                super().__init__(*first, **{**kwargs, "enable_fallback": 0})
            except (ValueError, RuntimeError) as exc:
                if gpu_memory_ran_out(str(exc), on_gpu=True):
                    raise
                self._why = " ".join(str(exc).split())[:500]
                super().__init__(first[0], first[1], [_CPU], **kwargs)
            self.enable_fallback()  # for single calls, as in ONNX Runtime

        @property
        def onnx_use(self) -> OnnxUse:
            used = self.get_providers()[0]
            if used == self._asked:
                return OnnxUse(asked=used, used=used)
            why = self._why or _missing_library() or _NO_REASON
            return OnnxUse(asked=self._asked, used=used, why=why, offered=self._offered)

    return InferenceSession


_NO_REASON = (
    "ONNX Runtime gave up on CUDA, although the libraries it needs are there; the reason is in the"
    " lines that it logged"
)


def _available() -> list[str]:
    """The providers of the installed build. Touches no driver."""
    import onnxruntime  # noqa: PLC0415

    return list(onnxruntime.get_available_providers())


def _name(provider: Any) -> str:
    return str(provider[0] if isinstance(provider, tuple) else provider)


@cache
def _preload_cuda() -> None:
    """Load the libraries of CUDA and cuDNN from their wheels: the provider searches for them only
    in the system. Source: https://onnxruntime.ai/docs/install (preload_dlls, 1.21)."""
    import onnxruntime  # noqa: PLC0415

    preload = getattr(onnxruntime, "preload_dlls", None)
    if preload is not None:
        preload()


@cache
def _missing_library() -> str:
    """The library that the CUDA provider lacks here, in words; empty if none is missing."""
    import onnxruntime  # noqa: PLC0415

    provider = Path(onnxruntime.__file__).parent / "capi/libonnxruntime_providers_cuda.so"
    if not provider.is_file():
        return ""  # this build ships its provider in another way
    try:
        ctypes.CDLL(str(provider))
    except OSError as exc:
        # Any other error comes after its libraries were found: a missing symbol that ONNX Runtime
        # itself would provide, for example.
        return str(exc) if _NOT_FOUND in str(exc) else ""
    return ""
