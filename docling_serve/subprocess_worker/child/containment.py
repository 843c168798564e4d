"""What a worker does to itself before it touches a document.

Each measure reports what took effect, since kernels and containers differ; none of them stops a
worker from starting.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import tempfile
import threading
from collections.abc import Callable, MutableMapping
from multiprocessing import connection, parent_process
from pathlib import Path

from docling_serve.sandbox.kernel import gain_no_privileges, show_memory
from docling_serve.sandbox.plan import NOT_ASKED_FOR, SandboxPlan, confine
from docling_serve.subprocess_worker.child.priority import give_way

_OOM_SCORE_ADJ = 500  # the kernel kills a worker before the server
_PARENT_GONE_EXIT = 3
_INIT = 1


def contain(
    *,
    parent_pid: int,
    nice: int = 0,
    sandbox: SandboxPlan | None = None,
    folder: Path | None = None,
) -> dict[str, str]:
    """Apply every measure; maps its name to ``"on"``, ``NOT_ASKED_FOR``, or why it is off.
    With a ``sandbox`` the process keeps ``folder`` to work in, or all files without one.

    Raises:
        SandboxUnavailable: ``sandbox`` requires what this kernel does not give.
    """
    os.setsid()  # one kill reaches tesseract, soffice and any other child
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler never runs inside C code
    os.umask(0o077)
    show_memory()  # a hidden process cannot write to its own files in /proc
    measures = {
        "core_dumps_off": _tried(lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))),
        "oom_first": _tried(_volunteer_for_oom),
        "nice": _tried(lambda: give_way(nice)) if nice > 0 else NOT_ASKED_FOR,
        "no_new_privs": _tried(gain_no_privileges),
        **({} if sandbox is None else confine(sandbox, folder)),
    }
    # Last: a thread that already exists would be outside the sandbox.
    measures["parent_watch"] = _tried(lambda: _watch_parent(parent_pid))
    return measures


#: Variables a worker keeps, by name prefix: paths, locale, and settings of the libraries that
#: convert. Everything else may be a secret of the server and is dropped.
_KEPT_PREFIXES = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_", "TZ", "TMPDIR", "TERM", "XDG_"),
    *("PYTHON", "VIRTUAL_ENV", "LD_", "MALLOC_", "JE_", "COVERAGE_"),
    *("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TORCH", "PYTORCH_", "MODELSCOPE_", "EASYOCR_"),
    *("OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "KMP_", "GOMP_", "ORT_", "TESSDATA_"),
    *("CUDA", "NVIDIA_", "HIP_", "HSA_", "ROCR_", "DOCLING_", "DOCLINGCORE_"),
    *("SSL_CERT_", "REQUESTS_CA_", "CURL_CA_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
)
_OWN_PREFIX = "DOCLING_SERVE_"
#: Variables that name where torch, Triton, CUDA, numba and matplotlib write.
_CODE_CACHES = (
    *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_CACHE_PATH", "NUMBA_CACHE_DIR"),
    "MPLCONFIGDIR",
)


def scrub_environment(environ: MutableMapping[str, str], pass_env: tuple[str, ...]) -> None:
    """Keep what conversion needs and ``pass_env``; drop the rest, server secrets included."""
    for name in list(environ):
        upper = name.upper()
        kept = upper.startswith(_KEPT_PREFIXES) and not upper.startswith(_OWN_PREFIX)
        if not kept and name not in pass_env:
            del environ[name]


def forget_initial_environment(environ: MutableMapping[str, str]) -> str:
    """Blank the memory block that held the initial environment, so that what was dropped cannot be
    read from ``/proc/<pid>/environ`` either. The contents of ``environ`` stay. Returns the outcome
    in the form that :func:`contain` uses."""
    return _tried(lambda: _blank_environment(environ))


def use_temporary_folder(folder: Path) -> None:
    """Put temporary files into the task's own folder: what a killed worker, or a program that it
    started, leaves behind is removed with the task."""
    with contextlib.suppress(OSError):  # a full disk: the conversion will report it
        folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)


def use_own_caches(folder: Path) -> None:
    """Make libraries keep what they compile in ``folder``: a worker that could write to shared
    caches could change what other workers run."""
    for name in _CODE_CACHES:
        os.environ[name] = str(folder / name.lower())


def _blank_environment(environ: MutableMapping[str, str]) -> None:
    for name, value in list(environ.items()):
        environ[name] = value  # setenv() moves the text to the heap
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start, env_end (man proc_pid_stat)
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)


def limit_threads(environ: MutableMapping[str, str], threads: int) -> None:
    """Keep the numeric libraries of several workers from competing for the processors.

    A variable that the operator set is left alone.
    """
    if threads > 0:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            environ.setdefault(name, str(threads))


def _tried(measure: Callable[[], None]) -> str:
    try:
        measure()
    except OSError as exc:
        return f"off: {exc.strerror or exc}"
    return "on"


def _watch_parent(parent_pid: int) -> None:
    """End this worker's process group when its server is gone, however it exited.

    A thread on the parent's sentinel works under every start method. If a worker is stuck in C code
    that never lets the thread run, the server's guardian ends it. The kernel's parent-death signal
    would reach the worker alone, before it could end what its document started.
    """
    if os.getppid() == _INIT and parent_pid != _INIT:
        os._exit(_PARENT_GONE_EXIT)
    parent = parent_process()
    if parent is not None:
        threading.Thread(
            target=_end_with_parent, args=(parent.sentinel,), name="parent-watch", daemon=True
        ).start()


def _end_with_parent(sentinel: int) -> None:
    connection.wait([sentinel])
    os.kill(0, signal.SIGKILL)  # the whole group


def _volunteer_for_oom() -> None:
    Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ))
