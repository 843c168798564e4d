"""Children that answer, and children that do not."""

from __future__ import annotations

import pytest

from docling_serve.doctor.children import ChildFailed, asked
from tests.helpers.process_ends import has_ended

PROBE = "tests.unit.doctor.misbehaving_probe"
LONG_S = 60.0


def _failure(question: str, limit_s: float = LONG_S) -> str:
    with pytest.raises(ChildFailed) as caught, asked(question, limit_s, PROBE):
        pass
    return str(caught.value)


def test_a_child_that_answers_waits_and_is_gone_afterwards() -> None:
    with asked("talks", LONG_S, PROBE) as child:
        pid = child.answer["pid"]
        assert child.process.poll() is None

    assert has_ended(pid)


def test_a_child_that_hangs_is_given_up() -> None:
    assert _failure("hangs", 0.5).startswith("no answer within 0.5 s")


def test_a_child_that_crashes_says_how_it_ended() -> None:
    assert _failure("crashes") == "ended by SIGSEGV: the last words"


def test_a_child_that_raises_says_why() -> None:
    told = _failure("raises")

    assert told.startswith("ended by exit code 1: ")
    assert told.endswith("RuntimeError: no such device")
