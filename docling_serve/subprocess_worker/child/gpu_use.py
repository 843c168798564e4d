"""Whether this process has used a GPU, as the kernel sees it."""

from __future__ import annotations

import contextlib
import os

_DEVICES = ("/dev/nvidia", "/dev/dxg", "/dev/kfd")  # NVIDIA's driver, that of WSL, AMD's


def has_opened_gpu(descriptors: str = "/proc/self/fd") -> bool:
    """Whether a driver may hold memory for this process: it keeps a device of one open from the
    first CUDA or HIP call to its end."""
    for descriptor in os.listdir(descriptors):  # noqa: PTH208 - a Path each is slow
        with contextlib.suppress(OSError):  # closed meanwhile
            if os.readlink(f"{descriptors}/{descriptor}").startswith(_DEVICES):  # noqa: PTH115
                return True
    return False
