"""A fake NVIDIA driver for machines without one: libraries in C below the real pynvml and torch.

The fixture ``fake_gpu`` gives a :class:`FakeGpu`. A process finds it by ``LD_LIBRARY_PATH``, which
is read when a process starts. So a test starts a server with :meth:`FakeGpu.environment`, or a
Python process with :meth:`FakeGpu.python`; the process of pytest keeps the driver it has.
"""

from tests.helpers.fake_gpu.driver import (
    DRIVER_NOT_LOADED,
    GIB,
    GPU_IS_LOST,
    MIB,
    NO_PERMISSION,
    NOT_SUPPORTED,
    UNKNOWN,
    Call,
    FakeCard,
    FakeDriver,
    FakeGpu,
    FakeProcess,
)

__all__ = [
    "DRIVER_NOT_LOADED",
    "GIB",
    "GPU_IS_LOST",
    "MIB",
    "NOT_SUPPORTED",
    "NO_PERMISSION",
    "UNKNOWN",
    "Call",
    "FakeCard",
    "FakeDriver",
    "FakeGpu",
    "FakeProcess",
]
