"""A process that gives way on the processors."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from docling_serve.subprocess_worker.child import priority

IN_A_SESSION = """
import os
from pathlib import Path
from docling_serve.subprocess_worker.child.priority import give_way

os.setsid()
autogroup = Path("/proc/self/autogroup")
give_way(7)
niceness = os.getpriority(os.PRIO_PROCESS, 0)
print(niceness, autogroup.read_text().split()[-1] if autogroup.exists() else niceness)
"""


def test_a_process_and_its_session_give_way() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IN_A_SESSION],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        preexec_fn=_usual_niceness,
    )

    assert ran.stdout.split() == ["7", "7"]


def _usual_niceness() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, 0)


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
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between tries, and the niceness of this process stays."""
    monkeypatch.setattr(priority, "_PAUSE_S", 0)
    monkeypatch.setattr(os, "nice", lambda increment: increment)


@pytest.mark.usefixtures("at_once")
def test_a_kernel_that_takes_one_at_a_time_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(errno.EAGAIN, errno.EAGAIN)
    monkeypatch.setattr(priority, "_AUTOGROUP", kernel)

    priority.give_way(5)

    assert kernel.written == ["5"]


@pytest.mark.usefixtures("at_once")
def test_it_works_where_sessions_have_no_niceness(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(priority, "_AUTOGROUP", tmp_path / "no such folder" / "autogroup")

    priority.give_way(5)


@pytest.mark.usefixtures("at_once")
def test_a_refusal_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "_AUTOGROUP", Kernel(errno.EROFS))

    with pytest.raises(OSError, match="Read-only"):
        priority.give_way(5)
