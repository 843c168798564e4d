"""Signals need a process of their own: a small server for each test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGINT, SIGKILL, SIGTERM
from typing import IO

import pytest

from tests.helpers.process_ends import ROOT, killed_at_end, python

SERVER = """
import asyncio, os, signal, sys, threading
from docling_serve.process.shutdown import Shutdown

# Whoever runs the tests in the background has them inherit that SIGINT is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def say(what):
    os.write(1, what.encode() + b"\\n")

async def serve():
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    if "previous" in sys.argv:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: say(f"previous {number}"))
    loop.add_reader(0, lambda: (sys.stdin.readline(), ended.set()))
    shutdown = Shutdown(
        begin=lambda: say("begin"), at_once=lambda: say("at once"), hurry=lambda: say("hurry")
    )
    with shutdown.listening():
        say("listening")
        await ended.wait()
    say("closed")

if "thread" in sys.argv:
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    thread.join()
else:
    asyncio.run(serve())
"""


class Server:
    """The small server, and what it says."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stdin is not None
        self._out: IO[bytes] = process.stdout
        self._in: IO[bytes] = process.stdin

    def says(self) -> str:
        """The next thing it says; empty at its end."""
        return self._out.readline().decode().strip()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def close(self) -> list[str]:
        """End it as a server ends; everything it still says."""
        self._in.write(b"\n")
        self._in.close()
        return self._out.read().decode().split("\n")[:-1]


@contextmanager
def serving(*words: str) -> Iterator[Server]:
    process = subprocess.Popen(
        python("-c", SERVER, *words),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    with killed_at_end(process):
        server = Server(process)
        assert server.says() == "listening"
        yield server


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_the_first_signal_begins_and_goes_on_to_who_listened_before(number: int) -> None:
    with serving("previous") as server:
        server.signal(number)
        assert {server.says(), server.says()} == {"begin", f"previous {number}"}
        assert server.close() == ["closed"]


@pytest.mark.parametrize(("first", "second"), [(SIGINT, SIGINT), (SIGTERM, SIGINT)])
def test_the_second_signal_ends_it_at_once(first: int, second: int) -> None:
    with serving("previous") as server:
        server.signal(first)
        assert {server.says(), server.says()} == {"begin", f"previous {first}"}
        for _ in range(2):
            server.signal(second)
            said = [server.says() for _ in range(3)]
            assert said == ["at once", f"previous {second}", "hurry"]
        assert server.close() == ["closed"]


def test_a_signal_that_ends_the_process_ends_its_workers() -> None:
    """Nobody listened before: Python's own handler raises KeyboardInterrupt."""
    with serving() as server:
        server.signal(SIGINT)
        said = [server.says() for _ in range(2)]
        assert server.process.wait(300) != 0

        assert "begin" in said or "at once" in said


def test_sigterm_that_nobody_listened_to_begins_only() -> None:
    with serving() as server:
        server.signal(SIGTERM)
        assert server.says() == "begin"
        assert server.close() == ["closed"]


def test_without_a_signal_nothing_begins() -> None:
    with serving() as server:
        assert server.close() == ["closed"]
        assert server.process.wait(300) == 0


def test_outside_the_main_thread_nothing_begins_and_nothing_stays() -> None:
    with serving("thread") as server:
        assert server.close() == ["closed"]
        assert server.process.wait(300) == 0


def test_handlers_are_put_back() -> None:
    script = """
import asyncio, signal
from docling_serve.process.shutdown import Shutdown
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
async def listen():
    with Shutdown(lambda: None, lambda: None).listening():
        during = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        assert not set(during) & set(before)
async def main():
    global before
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    await listen()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
asyncio.run(main())
"""
    subprocess.run(python("-c", script), cwd=ROOT, check=True, timeout=30)


def test_handlers_that_were_put_back_meanwhile_stay() -> None:
    """uvicorn does that when it is told twice, before the lifespan ends."""
    script = """
import asyncio, signal
from docling_serve.process.shutdown import Shutdown
async def main():
    signal.signal(signal.SIGTERM, lambda *_: None)
    with Shutdown(lambda: None, lambda: None).listening():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
asyncio.run(main())
"""
    subprocess.run(python("-c", script), cwd=ROOT, check=True, timeout=30)


def test_a_kill_leaves_no_time_for_anything() -> None:
    with serving() as server:
        server.signal(SIGKILL)

        assert server.process.wait(300) == -SIGKILL
        assert server.says() == ""
