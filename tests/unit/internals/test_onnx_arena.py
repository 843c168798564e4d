"""What the arena does in a process of its own: it cannot be taken down again."""

from __future__ import annotations

import json
import subprocess
from typing import TypedDict, cast

from tests.helpers.process_ends import python

PROCESS = """
import json
import numpy as np
from rapidocr import RapidOCR
from docling_serve.internals import onnx_arena, onnx_sessions
from docling_serve.internals.rapidocr_sessions import plan_no_memory

image = np.random.default_rng(7).random((1, 3, 640, 640), dtype=np.float32)

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20

def detection():
    model = RapidOCR()._load_det_model()
    before = resident()
    total = float(model.session(image).sum())
    grown = resident() - before
    onnx_arena.give_back_arena()
    return {
        "arena": model.session.session.get_session_options().enable_cpu_mem_arena,
        "total": total,
        "grown": grown,
        "kept": resident() - before,
        "sessions": len(onnx_sessions._sessions.live),
    }

onnx_sessions.watch_sessions()
plan_no_memory()
usual = detection()
onnx_arena.share_arena()
onnx_arena.share_arena()
print(json.dumps([usual, detection()]))
"""


class Told(TypedDict):
    """What a session of text detection says of itself, in MiB."""

    arena: bool
    total: float
    grown: int
    kept: int
    sessions: int


def test_a_session_uses_the_arena_which_is_given_back_and_its_result_stays_the_same() -> None:
    output = subprocess.check_output(python("-c", PROCESS), timeout=110)
    usual, shared = cast("list[Told]", json.loads(output))

    assert (usual["arena"], shared["arena"]) == (False, True)
    assert usual["total"] == shared["total"]
    assert shared["grown"] > 20
    assert shared["kept"] < shared["grown"] / 2
    assert usual["sessions"] == shared["sessions"] == 1  # the one that shrinks it is not counted
