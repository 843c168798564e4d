"""What libraries report when GPU or host memory runs out.

Read from onnxruntime 1.31 and from errors that users reported, which
tests/unit/conversion/memory_errors.json lists with their addresses.
Guarded by tests/unit/conversion/test_exhaustion.py.
"""

from __future__ import annotations

import re

#: Messages of torch, cuBLAS, cuDNN, cuFFT and ONNX Runtime when the GPU is full.
_GPU_FULL = re.compile(
    r"(?:CUDA|HIP|XPU).*out[ _]of[ _]memory"
    r"|\bCU(?!DNN_STATUS_INTERNAL_ERROR_HOST)[A-Z]+_(?:\w+_)?ALLOC(?:ATION)?_FAILED",
    re.I | re.S,
)
#: Their messages when they cannot be set up on a GPU, nearly always because it is full: a handle
#: takes memory, and so does a context. torch asserts that NVML answers while it composes its
#: out-of-memory error.
_GPU_LIKELY_FULL = re.compile(
    r"CU(?:BLAS|DNN)_STATUS_NOT_INITIALIZED"
    r"|CUDA-capable device(?:s are|\(s\) is/are) busy or unavailable"
    r"|NVML_SUCCESS == .*INTERNAL ASSERT FAILED.*CUDACachingAllocator",
    re.S,
)
#: What an arena of ONNX Runtime reports when it cannot grow. It does not say whose arena it is.
_ARENA_FULL = re.compile(
    r"BFCArena::.*(?:Failed to allocate memory for requested buffer"
    r"|Available memory of \d+ is smaller than requested bytes)",
    re.S,
)
#: Messages of Python, C++, numpy and torch when the host is full.
_HOST_FULL = re.compile(
    r"MemoryError|std::bad_alloc|Unable to allocate .* for an array|Cannot allocate memory"
    r"|DefaultCPUAllocator: |CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    re.S,
)


def gpu_memory_ran_out(text: str, *, on_gpu: bool) -> bool:
    """Whether an error with this ``text`` means that GPU memory ran out. ``on_gpu``: ONNX Runtime's
    sessions run there, so that its arena is the GPU's."""
    if _GPU_FULL.search(text) or _GPU_LIKELY_FULL.search(text):
        return True
    return on_gpu and _ARENA_FULL.search(text) is not None


def host_memory_ran_out(text: str) -> bool:
    """Whether an error with this ``text``, which is not about GPU memory, means that host memory
    ran out."""
    return _HOST_FULL.search(text) is not None or _ARENA_FULL.search(text) is not None
