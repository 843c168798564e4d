"""The engine. It loads no weights, so a worker that is to fail fails soon."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from docling.datamodel.pipeline_options import OcrOptions
from docling.models.base_ocr_model import BaseOcrModel
from pydantic import Field

from faulty_ocr import hostile

HOG_BYTES = 4 << 30
_BLOCK_BYTES = 128 << 20
#: Ten shells, each the child of the one before, with a sleeper each.
_TREE = 'f() { [ "$1" = 0 ] || (f $(($1 - 1))) & sleep 600; }; f 9'
CUDA_MESSAGE = "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has 11.76 GiB in all."


class FaultyOcrOptions(OcrOptions):
    """What to do at a page; with ``marker``, the path of a file whose time is 0, only
    once. With ``facts`` it tries what a hostile document would."""

    kind: ClassVar[str] = "faulty"
    lang: list[str] = Field(default_factory=list)
    do: str = "nothing"
    marker: str = ""
    facts: dict[str, Any] = Field(default_factory=dict)


class FaultyOcr(BaseOcrModel):
    """Finds no text, and does ``options.do``."""

    def __init__(
        self, enabled: bool, artifacts_path: Path | None, options: Any, accelerator_options: Any
    ) -> None:
        super().__init__(
            enabled=enabled,
            artifacts_path=artifacts_path,
            options=options,
            accelerator_options=accelerator_options,
        )
        self.options: FaultyOcrOptions = options

    def __call__(self, conv_res: Any, page_batch: Iterable[Any]) -> Iterator[Any]:
        del conv_res
        if self.options.facts:
            hostile.report(self.options.facts)
        elif not self.options.marker:
            FAULTS[self.options.do]()
        elif Path(self.options.marker).stat().st_mtime == 0:
            os.utime(self.options.marker)  # the sandbox leaves it no more of that file
            FAULTS[self.options.do]()
        yield from page_batch

    @classmethod
    def get_options_type(cls) -> type[FaultyOcrOptions]:
        return FaultyOcrOptions


def _signal_self(number: signal.Signals) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def _hang() -> None:
    threading.Event().wait()


def _segfault() -> None:
    ctypes.string_at(0)


def _abort() -> None:
    ctypes.CDLL(None).abort()


def _loop_with_the_lock() -> None:
    """A loop in C that never lets another thread run Python."""
    sum(itertools.repeat(0))


def _hog() -> None:
    """Takes 4 GiB and no more."""
    blocks = []
    for _ in range(HOG_BYTES // _BLOCK_BYTES):
        blocks.append(b"\1" * _BLOCK_BYTES)
        threading.Event().wait(0.02)
    _hang()


def _have_grandchildren() -> None:
    subprocess.Popen(["/bin/sh", "-c", _TREE])
    _hang()


def _tear_the_pipe() -> None:
    """Half a frame, then the end of the channel; the process lives on."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) > 2 and _is_a_socket(entry):
            channel = socket.socket(fileno=os.dup(int(entry.name)))
            channel.sendall(b"\0\0\0\x40{half")
            channel.shutdown(socket.SHUT_RDWR)
    _hang()


def _is_a_socket(entry: Path) -> bool:
    try:
        return str(entry.readlink()).startswith("socket:")
    except OSError:
        return False


def _fill_the_disk() -> None:
    """The reply will be written to a device that is always full."""
    folder = Path(tempfile.gettempdir()).parent
    (folder / "result.part").symlink_to("/dev/full")


def _go_deaf() -> None:
    """Ignore SIGTERM, which only libc lets a thread do, and hang."""
    ctypes.CDLL(None).signal(int(signal.SIGTERM), 1)  # SIG_IGN
    _hang()


def _run_out_of_gpu_memory() -> None:
    raise RuntimeError(CUDA_MESSAGE)


def _run_out_of_memory() -> None:
    raise MemoryError


FAULTS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "sigkill": _signal_self(signal.SIGKILL),
    "segfault": _segfault,
    "sigstop": _signal_self(signal.SIGSTOP),
    "abort": _abort,
    "exit": lambda: os._exit(3),
    "hang": _hang,
    "loop": _loop_with_the_lock,
    "hog": _hog,
    "grandchildren": _have_grandchildren,
    "torn_pipe": _tear_the_pipe,
    "full_disk": _fill_the_disk,
    "deaf": _go_deaf,
    "cuda": _run_out_of_gpu_memory,
    "memory": _run_out_of_memory,
}
