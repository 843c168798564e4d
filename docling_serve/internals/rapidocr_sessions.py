"""How RapidOCR sets up ONNX Runtime's sessions.

ONNX Runtime plans memory for each input shape it has seen, and allocates it as one block from the
second time on. Text lines come in many shapes, and the block for a page does not fit between those
that are kept: the process grows by some 300 MB, and no scan gets faster.

Read from rapidocr 3.10 (``inference_engine.onnxruntime.main``).
Guarded by tests/unit/internals/test_rapidocr_sessions.py.
"""

from __future__ import annotations

from typing import Any

from docling_serve.internals.onnx_arena import use_shared_arena


def plan_no_memory() -> None:
    """Make RapidOCR's sessions plan no memory; results stay the same. Sessions on the CPU use the
    arena of this process, if it has one.

    Raises:
        ImportError: RapidOCR or ONNX Runtime is not installed.
    """
    from rapidocr.inference_engine.onnxruntime import main  # noqa: PLC0415 - may be left out

    session: Any = main.OrtInferSession
    usual = session._init_sess_opts
    if getattr(usual, "plans_no_memory", False):
        return

    def options(config: dict[str, Any]) -> Any:
        made = usual(config)
        made.enable_mem_pattern = False
        if not config.get("use_cuda"):
            use_shared_arena(made)
        return made

    vars_of_options: Any = options
    vars_of_options.plans_no_memory = True
    session._init_sess_opts = staticmethod(options)
