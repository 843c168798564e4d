"""Whether this process has used a GPU, as the kernel sees it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import MutableMapping

_DEVICES = ("/dev/nvidia", "/dev/dxg", "/dev/kfd")  # NVIDIA's driver, WSL's, AMD's

_DEVICE = "DOCLING_DEVICE"
_SHOWN = "CUDA_VISIBLE_DEVICES"
_NUMBERED = re.compile(r"cuda:(\d+)", re.IGNORECASE)


def has_opened_gpu(descriptors: str = "/proc/self/fd") -> bool:
    """Whether a driver may hold memory for this process: from the first CUDA or HIP call until the
    process exits, the driver keeps a device file open."""
    for descriptor in os.listdir(descriptors):  # noqa: PTH208 - a Path each is slow
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(f"{descriptors}/{descriptor}").startswith(_DEVICES):  # noqa: PTH115
                return True
    return False


def take_device_number(environ: MutableMapping[str, str]) -> int | None:
    """The number in docling's own choice of a GPU, ``DOCLING_DEVICE=cuda:1``, which becomes
    ``cuda``: a worker is shown one GPU, which is then the first. None without a number."""
    chosen = _NUMBERED.fullmatch(environ.get(_DEVICE, "").strip())
    if chosen is None:
        return None
    environ[_DEVICE] = "cuda"
    return int(chosen[1])


def show_one_gpu(environ: MutableMapping[str, str], uuid: str | None, number: int | None) -> None:
    """Make CUDA, which checks at its first use, show only the GPU ``uuid``; without one, the GPU
    that had ``number`` among those shown so far."""
    if uuid is not None:
        environ[_SHOWN] = uuid
    elif number is not None:
        shown = environ.get(_SHOWN)
        if shown is None:
            environ[_SHOWN] = str(number)
        else:
            entries = [entry.strip() for entry in shown.split(",")]
            environ[_SHOWN] = entries[number] if number < len(entries) else "-1"
