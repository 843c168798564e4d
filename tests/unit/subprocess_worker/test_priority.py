"""Giving way on the processors, for good and for a while."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from docling_serve.subprocess_worker import priority

IN_A_SESSION = """
import os, threading
from pathlib import Path
from docling_serve.subprocess_worker.priority import run_in_background

os.setsid()
autogroup = Path("/proc/self/autogroup")

def show():
    thread = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    session = autogroup.read_text().split()[-1] if autogroup.exists() else thread
    print(thread, session)

os.nice({nice})
if autogroup.exists():
    autogroup.write_text("{nice}")
show()
run_in_background(show)
show()
"""


@pytest.mark.parametrize(("nice", "then"), [(0, 10), (5, 15), (15, 19)])
def test_it_gives_way_while_it_runs_in_the_background(nice: int, then: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IN_A_SESSION.format(nice=nice)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        preexec_fn=_usual_niceness,
    )

    assert ran.stdout.splitlines() == [f"{nice} {nice}", f"{then} {then}", f"{nice} {nice}"]


def _usual_niceness() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 0)


def test_what_goes_wrong_in_the_background_is_told() -> None:
    def broken() -> None:
        raise ImportError("no such module")

    with pytest.raises(ImportError, match="no such module"):
        priority.run_in_background(broken)


class Kernel:
    """Stands in for the file of the kernel that takes a session's niceness."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.written: list[str] = []

    def write_text(self, text: str) -> None:
        if self.answers and (code := self.answers.pop(0)):
            raise OSError(code, os.strerror(code))
        self.written.append(text)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "_PAUSE_S", 0)


@pytest.mark.usefixtures("impatient")
def test_a_kernel_that_takes_one_at_a_time_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(errno.EAGAIN, errno.EAGAIN, 0, errno.EAGAIN)
    monkeypatch.setattr(priority, "_AUTOGROUP", kernel)

    priority.run_in_background(lambda: None)

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert kernel.written == [str(min(19, usual + 10)), str(usual)]


def test_it_works_where_sessions_have_no_niceness(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(priority, "_AUTOGROUP", tmp_path / "no such folder" / "autogroup")
    ran: list[bool] = []

    priority.run_in_background(lambda: ran.append(True))

    assert ran == [True]


def test_a_refusal_costs_the_priority_only(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(errno.EROFS)
    monkeypatch.setattr(priority, "_AUTOGROUP", kernel)
    ran: list[bool] = []

    priority.run_in_background(lambda: ran.append(True))

    assert ran == [True]
    assert kernel.written == []


@pytest.mark.usefixtures("impatient")
def test_staying_at_a_low_priority_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(priority, "_AUTOGROUP", Kernel(0, errno.EPERM))

    priority.run_in_background(lambda: None)

    assert "stays at a low priority" in caplog.text
