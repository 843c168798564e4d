"""What letting go of code does, in a process of its own: other tests need theirs."""

from __future__ import annotations

import json
import platform
import subprocess
from typing import TypedDict, cast

import pytest

from tests.helpers.process_ends import python

PROCESS = """
import json
import numpy as np
from docling_serve.subprocess_worker.child.code_pages import let_go_of_code

def of_files():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile:"))

def work():
    numbers = np.random.default_rng(7).random((64, 64))
    return float(np.linalg.eigvalsh(numbers @ numbers.T).sum())

usual, before = work(), of_files()
let_go_of_code()
let_go_of_code()
print(json.dumps({"before": before, "after": of_files(), "same": work() == usual}))
"""


class Told(TypedDict):
    """Memory in KiB of pages of files, and whether the process still computes the same."""

    before: int
    after: int
    same: bool


@pytest.mark.skipif(platform.system() != "Linux", reason="madvise(2) is Linux's")
def test_a_process_that_let_go_of_its_code_is_smaller_and_works_as_before() -> None:
    told = cast("Told", json.loads(subprocess.check_output(python("-c", PROCESS), timeout=60)))

    assert told["same"]
    assert told["after"] < told["before"] * 0.8
