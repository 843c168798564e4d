"""Throw-away child processes that answer one question each, with a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from docling_serve.process.safe_path import safe_path

PROBE = "docling_serve.doctor.probe"

_LINES = 3
_TAIL_BYTES = 64 * 1024


class ChildFailed(Exception):
    """A child did not answer; the text says how it exited, and what it printed last."""


@dataclass
class Child:
    """A child process that has answered and waits; leaving :func:`asked` kills its group."""

    process: subprocess.Popen[bytes]
    answer: Any

    def kill(self) -> None:
        """Send SIGKILL to the child alone: the processes it started must notice by themselves."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def asked(question: str, limit_s: float, probe: str = PROBE) -> Iterator[Child]:
    """Run ``python -m PROBE QUESTION`` and wait for its answer.

    Raises:
        ChildFailed: no answer came within ``limit_s``, or the child exited without one.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", probe, question],
        env={**os.environ, **safe_path()},
        stdin=subprocess.PIPE,  # closing it signals the child to exit
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # one kill reaches what it started
    )
    try:
        yield Child(process, _answer(process, limit_s))
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def ask(question: str, limit_s: float) -> Any:
    """The answer of a child that exits after it; raises as :func:`asked`."""
    with asked(question, limit_s) as child:
        return child.answer


def _answer(process: subprocess.Popen[bytes], limit_s: float) -> Any:
    """The one line of JSON that the child writes; its standard error is kept."""
    assert process.stdout is not None
    assert process.stderr is not None
    answer, said = process.stdout.fileno(), process.stderr.fileno()
    kept = {answer: b"", said: b""}
    waiting = select.poll()
    for descriptor in kept:
        waiting.register(descriptor, select.POLLIN | select.POLLHUP)
    deadline = time.monotonic() + limit_s
    while b"\n" not in kept[answer]:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise ChildFailed(f"no answer within {limit_s:g} s{_last_lines(kept[said])}")
        for descriptor, _ in waiting.poll(left_s * 1000):
            data = os.read(descriptor, 65536)
            if data:
                kept[descriptor] += data
            else:
                waiting.unregister(descriptor)
                if descriptor == answer:
                    raise ChildFailed(_how_it_ended(process, kept[said]))
        kept[said] = kept[said][-_TAIL_BYTES:]
    return json.loads(kept[answer].partition(b"\n")[0])


def _how_it_ended(process: subprocess.Popen[bytes], said: bytes) -> str:
    assert process.stderr is not None
    code = process.wait()
    with contextlib.suppress(OSError):
        said += os.read(process.stderr.fileno(), _TAIL_BYTES)
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"ended by {how}{_last_lines(said)}"


def _last_lines(said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return ": " + " | ".join(lines[-_LINES:]) if lines else ""
