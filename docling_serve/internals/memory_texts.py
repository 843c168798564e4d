"""What libraries say when memory ran out, of the GPU or of the host.

Read from onnxruntime 1.31 and from errors that people reported, which
tests/unit/conversion/memory_errors.json lists with their addresses.
Guarded by tests/unit/conversion/test_exhaustion.py.
"""

from __future__ import annotations

import re

#: What torch, cuBLAS, cuDNN, cuFFT and ONNX Runtime say when the GPU is full.
_GPU_FULL = re.compile(
    r"(?:CUDA|HIP|XPU).*out[ _]of[ _]memory"
    r"|\bCU(?!DNN_STATUS_INTERNAL_ERROR_HOST)[A-Z]+_(?:\w+_)?ALLOC(?:ATION)?_FAILED",
    re.I | re.S,
)
#: What they say when they cannot be set up on a GPU, nearly always because it is full: a handle
#: takes memory, and so does a context. torch asserts that NVML answers while it makes the text of
#: the error that memory ran out.
_GPU_LIKELY_FULL = re.compile(
    r"CU(?:BLAS|DNN)_STATUS_NOT_INITIALIZED"
    r"|CUDA-capable device(?:s are|\(s\) is/are) busy or unavailable"
    r"|NVML_SUCCESS == .*INTERNAL ASSERT FAILED.*CUDACachingAllocator",
    re.S,
)
#: What an arena of ONNX Runtime says when it cannot grow. It does not say whose it is.
_ARENA_FULL = re.compile(
    r"BFCArena::.*(?:Failed to allocate memory for requested buffer"
    r"|Available memory of \d+ is smaller than requested bytes)",
    re.S,
)
#: What Python, C++, numpy and torch say when the host is.
_HOST_FULL = re.compile(
    r"MemoryError|std::bad_alloc|Unable to allocate .* for an array|Cannot allocate memory"
    r"|DefaultCPUAllocator: |CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    re.S,
)


def gpu_memory_ran_out(text: str, *, on_gpu: bool) -> bool:
    """Whether an error with this ``text`` is for want of GPU memory. ``on_gpu``: the sessions of
    ONNX Runtime run there, so that its arena is the GPU's."""
    if _GPU_FULL.search(text) or _GPU_LIKELY_FULL.search(text):
        return True
    return on_gpu and _ARENA_FULL.search(text) is not None


def host_memory_ran_out(text: str) -> bool:
    """Whether an error with this ``text``, which is not for want of GPU memory, is for want of the
    host's."""
    return _HOST_FULL.search(text) is not None or _ARENA_FULL.search(text) is not None
