"""One memory arena for all sessions of ONNX Runtime in this process.

Without an arena, each tensor is a block of the C library's heap, aligned to 64 bytes. glibc before
2.38 rarely reuses a freed aligned block for another of the same size, so a page takes two to three
times the memory that is in use at any one time. An arena per session would avoid that, but text
recognition could not use the memory that text detection has freed.

Read from onnxruntime 1.32 (``create_and_register_allocator``, ``session.use_env_allocators``,
``memory.enable_memory_arena_shrinkage``). Guarded by tests/unit/internals/test_onnx_arena.py.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_MIB = 2**20
# Regions double in size. One that fits only what was requested could not be used for more.
_DOUBLING = 0
_ARENA = {
    "max_mem": 0,  # no limit
    "arena_extend_strategy": _DOUBLING,
    "initial_chunk_size_bytes": _MIB,  # never freed
    "max_dead_bytes_per_chunk": -1,  # ONNX Runtime's default
}
# A model that copies one number, as ONNX describes it: shrinking an arena takes a run of a session.
_COPY = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a02080162"
    "0f0a0179120a0a08080112040a0208014202100d"
)

_state = {"shared": False, "used": False}


def share_arena() -> None:
    """Let the sessions of this process that :func:`use_shared_arena` prepares share an arena.
    Starts no thread. Does nothing without ONNX Runtime."""
    try:
        import onnxruntime  # noqa: PLC0415 - an OCR engine that may be left out
    except ImportError:
        return
    if not _state["shared"]:
        onnxruntime.create_and_register_allocator(
            onnxruntime.OrtMemoryInfo(
                "Cpu",
                onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
                0,
                onnxruntime.OrtMemType.DEFAULT,
            ),
            onnxruntime.OrtArenaCfg(_ARENA),
        )
        _state["shared"] = True


def use_shared_arena(options: Any) -> None:
    """Make a session with these ``SessionOptions`` use the shared arena, if there is one."""
    if _state["shared"]:
        _state["used"] = True
        options.enable_cpu_mem_arena = True
        options.add_session_config_entry("session.use_env_allocators", "1")


def give_back_arena() -> None:
    """Return unused regions of the shared arena to the heap."""
    if _state["used"]:
        _shrink()()


@cache
def _shrink() -> Any:
    """A run of a session that shrinks the arena and takes nothing from it."""
    import numpy as np  # noqa: PLC0415 - the server reads this package
    import onnxruntime  # noqa: PLC0415
    from onnxruntime.capi.onnxruntime_inference_collection import (  # noqa: PLC0415 - not watched
        InferenceSession,
    )

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    use_shared_arena(options)
    session = InferenceSession(_COPY, options, providers=["CPUExecutionProvider"])
    number = np.zeros(1, np.float32)
    # An output in the arena would keep its region.
    binding = session.io_binding()
    binding.bind_cpu_input("x", number)
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(number))
    run = onnxruntime.RunOptions()
    run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return lambda: session.run_with_iobinding(binding, run)
