"""What the allocator does in a process of its own: it cannot be undone."""

from __future__ import annotations

import json
import os
import platform
import subprocess

import pytest

from tests.helpers.process_ends import python

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not glibc"
)

BLOCK_PAGES = 8192
ROUNDS = 5

# Blocks of the size of a page's image, taken and freed again, in the main thread and in another.
PROCESS = f"""
import ctypes, json, os, resource, sys, threading
from docling_serve.subprocess_worker.child import allocator

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
size = {BLOCK_PAGES} * resource.getpagesize()

def work():
    for _ in range({ROUNDS}):
        block = ctypes.c_void_p(libc.malloc(size))
        ctypes.memset(block, 1, size)
        libc.free(block)

def resident():
    return int(open("/proc/self/statm").read().split()[1])

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

told = {{"said": allocator.keep_freed_memory(os.environ) if sys.argv[1] == "keep" else None}}
if told["said"] not in ("on", None):
    print(json.dumps(told))
    sys.exit()
before = faults()
work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
told["faults"] = faults() - before
kept = resident()
allocator.give_back_freed_memory()
told["given_back"] = kept - resident()
print(json.dumps(told))
"""


def told(how: str, **env: str) -> dict[str, int | str | None]:
    """What a process says of itself."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    output = subprocess.check_output(python("-c", PROCESS, how), env=clean | env, timeout=60)
    answer: dict[str, int | str | None] = json.loads(output)
    return answer


def test_freed_memory_is_used_again_and_given_back_at_rest() -> None:
    kept, usual = told("keep"), told("leave")

    assert kept["said"] == "on"
    assert isinstance(kept["faults"], int)
    assert isinstance(usual["faults"], int)
    assert isinstance(kept["given_back"], int)
    assert kept["faults"] < 2 * BLOCK_PAGES
    assert usual["faults"] > 2 * ROUNDS * BLOCK_PAGES * 0.9
    assert kept["given_back"] > BLOCK_PAGES * 0.9


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_an_allocator_that_the_operator_has_tuned_is_left_alone(name: str) -> None:
    value = "glibc.malloc.arena_max=3" if name == "GLIBC_TUNABLES" else "3"

    assert told("keep", **{name: value})["said"] == f"left to {name}"
