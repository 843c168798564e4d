from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable

import pytest

from docling_serve.subprocess_worker.protocol.channel import socket_pair
from docling_serve.subprocess_worker.protocol.log_pipe import WorkerOutput
from tests.helpers.loops import ON_BOTH_LOOPS
from tests.helpers.process_ends import ROOT, python

pytestmark = ON_BOTH_LOOPS


async def followed(write: Callable[[socket.socket], None]) -> WorkerOutput:
    """What became of the output that ``write`` sends."""
    ours, theirs = socket_pair()
    theirs.setblocking(True)
    output = WorkerOutput()
    following = asyncio.create_task(output.follow(ours))
    await asyncio.to_thread(write, theirs)
    theirs.close()
    await following
    return output


async def test_output_is_passed_on_and_its_end_kept(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f"line {number}" for number in range(100)]
    output = await followed(lambda end: end.sendall("\n".join(lines).encode() + b"\n"))

    assert capsys.readouterr().err.splitlines() == lines
    assert output.tail() == "\n".join(lines[-20:])
    assert output.tail(2) == "line 98\nline 99"
    assert len(output.tail(1000).splitlines()) == 40


async def test_a_last_line_without_an_end_is_kept() -> None:
    assert (await followed(lambda end: end.sendall(b"a\nKilled"))).tail() == "a\nKilled"


async def test_empty_lines_do_not_end_it() -> None:
    assert (await followed(lambda end: end.sendall(b"a\n\n\nb\n"))).tail() == "a\n\n\nb"


async def test_bytes_that_are_no_text_are_replaced() -> None:
    assert (
        await followed(lambda end: end.sendall(b"\xff!\n"))
    ).tail() == "\N{REPLACEMENT CHARACTER}!"


async def test_a_line_beyond_all_limits_is_passed_on_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    length = 300_000
    output = await followed(lambda end: end.sendall(b"x" * length + b"\nafter\n"))

    assert output.tail().endswith("after")
    passed_on = capsys.readouterr().err.count("x")
    assert passed_on == length


async def test_nothing_at_all_is_fine() -> None:
    assert (await followed(lambda _: None)).tail() == ""


SPEAKING = """
import os, socket, subprocess, sys
from docling_serve.subprocess_worker.protocol.log_pipe import redirect_output
redirect_output(socket.socket(fileno=int(sys.argv[1])))
print("printed", flush=True)
os.write(2, b"by native code\\n")
subprocess.run(["echo", "by a child"])
"""


async def test_all_that_a_worker_and_its_children_print_is_redirected() -> None:
    def speak(end: socket.socket) -> None:
        subprocess.run(
            python("-c", SPEAKING, str(end.fileno())),
            cwd=ROOT,
            pass_fds=[end.fileno()],
            check=True,
            timeout=300,
        )

    assert (await followed(speak)).tail() == "printed\nby native code\nby a child"
