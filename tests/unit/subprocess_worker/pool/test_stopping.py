"""The ladder, on an exit event of the test's own and on real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from docling_serve.subprocess_worker.pool.stopping import Ladder, Rung, kill_group, stop
from tests.helpers.loops import ON_BOTH_LOOPS
from tests.helpers.process_ends import has_ended, killed_at_end

NOBODY = 2**22 + 1  # beyond pid_max: signals to it reach no process

QUICK = Ladder(ask_s=0.01, term_s=0.01, kill_s=0.01)
PATIENT = Ladder(ask_s=10, term_s=10, kill_s=10)


def _nothing() -> None:
    pass


async def test_who_listens_is_only_asked() -> None:
    exited = asyncio.Event()
    assert await stop(NOBODY, exited, PATIENT, ask=exited.set) is Rung.ASKED


async def test_who_has_ended_already_is_not_signalled() -> None:
    exited = asyncio.Event()
    exited.set()
    assert await stop(NOBODY, exited, PATIENT, ask=_nothing) is Rung.ASKED


async def test_who_survives_everything_is_reported() -> None:
    assert await stop(NOBODY, asyncio.Event(), QUICK, ask=_nothing) is Rung.SURVIVED


async def test_asking_can_be_left_out() -> None:
    asked: list[bool] = []
    ladder = Ladder(ask_s=0, term_s=0.01, kill_s=0.01)
    rung = await stop(NOBODY, asyncio.Event(), ladder, ask=lambda: asked.append(True))
    assert rung is Rung.SURVIVED
    assert not asked


#: Each says so once it is set up, and then waits.
SCRIPTS = {
    "reads": "import sys; print(flush=True); sys.stdin.read()",
    "hangs": "import signal; print(flush=True); signal.pause()",
    "ignores SIGTERM": (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)\n"
        "while True: signal.pause()"
    ),
    "has a child": (
        "import subprocess, signal; child = subprocess.Popen(['sleep', '600'])\n"
        "print(child.pid, flush=True); signal.pause()"
    ),
}


@contextmanager
def _process(script: str, *, own_group: bool = True) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-ISc", SCRIPTS[script]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=own_group,
    )
    assert process.stdout is not None
    with killed_at_end(process):
        yield process, process.stdout.readline().strip()


async def _stop(process: subprocess.Popen[str], ladder: Ladder, ask: Callable[[], None]) -> Rung:
    exited = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, exited.set)
    try:
        return await stop(process.pid, exited, ladder, ask)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


@ON_BOTH_LOOPS
@pytest.mark.parametrize(
    ("script", "ladder", "rung", "code"),
    [
        ("reads", PATIENT, Rung.ASKED, 0),
        ("hangs", Ladder(0, 10, 10), Rung.TERMINATED, -signal.SIGTERM),
        ("hangs", Ladder(0.01, 10, 10), Rung.TERMINATED, -signal.SIGTERM),
        ("ignores SIGTERM", Ladder(0, 0.01, 10), Rung.KILLED, -signal.SIGKILL),
    ],
)
async def test_a_process_is_ended_by_the_first_rung_that_works(
    script: str, ladder: Ladder, rung: Rung, code: int
) -> None:
    with _process(script) as (process, _):
        ask = process.stdin.close if script == "reads" and process.stdin else _nothing

        assert await _stop(process, ladder, ask) is rung
        assert process.wait(300) == code


@pytest.mark.parametrize("ladder", [Ladder(0, 10, 10), Ladder(0, 0.001, 10)])
async def test_what_a_process_started_ends_with_it(ladder: Ladder) -> None:
    with _process("has a child") as (process, child):
        await _stop(process, ladder, _nothing)

        assert process.wait(300) < 0
        assert has_ended(int(child))


async def test_a_process_without_a_group_of_its_own_yet_is_ended_alone() -> None:
    with _process("hangs", own_group=False) as (process, _):
        assert await _stop(process, Ladder(0, 10, 10), _nothing) is Rung.TERMINATED


def test_a_group_is_killed_after_its_leader_has_gone() -> None:
    with _process("has a child") as (process, child):
        process.kill()
        process.wait(300)
        assert not has_ended(int(child), within_s=0)

        kill_group(process.pid)

        assert has_ended(int(child))


def test_killing_a_group_that_is_gone_is_no_error() -> None:
    kill_group(NOBODY)
