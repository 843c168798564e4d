from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from docling_serve.vram.admission_rules import NeighbourView
from docling_serve.vram.eviction import LONGEST_INTERVAL_S, SETTLE_S, Eviction
from docling_serve.vram.neighbours import UnloadOutcome, UnloadReport
from tests.helpers.loops import turns
from tests.unit.vram.stepped_time import SteppedTime

READY, ASKING, QUIET = (
    NeighbourView(may_be_asked=True),
    NeighbourView(may_still_free=True),
    NeighbourView(),
)


class Asked:
    """An eviction whose neighbours answer when told to."""

    def __init__(self) -> None:
        self.time = SteppedTime()
        self.rounds = 0
        self.heard: list[Sequence[UnloadReport]] = []
        self.answers: asyncio.Queue[UnloadOutcome | Exception] = asyncio.Queue()
        self.eviction = Eviction(self._unload, self.time, self.heard.append)

    async def _unload(self) -> Sequence[UnloadReport]:
        self.rounds += 1
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return [UnloadReport("Ollama", "http://ollama", answer, "", 0.0)]

    async def round(self, answer: UnloadOutcome | Exception) -> None:
        self.eviction.ask()
        self.answers.put_nowait(answer)
        await turns(10)


def test_without_neighbours_nobody_is_asked() -> None:
    eviction = Eviction(None, SteppedTime(), lambda _: None)
    eviction.ask()

    assert not eviction.configured
    assert eviction.view() == QUIET


async def test_memory_may_come_until_it_has_had_time_to_settle() -> None:
    asked = Asked()
    assert asked.eviction.view() == READY
    asked.eviction.ask()
    await turns(2)
    assert asked.eviction.view() == ASKING
    await asked.round(UnloadOutcome.UNLOADED)
    assert asked.rounds == 1, "one round at a time"
    assert [report.outcome for report in asked.heard[0]] == [UnloadOutcome.UNLOADED]
    asked.time.now += SETTLE_S - 1
    assert asked.eviction.view() == ASKING
    asked.time.now += 1
    assert asked.eviction.view() == READY


@pytest.mark.parametrize(
    "answer",
    [UnloadOutcome.NOTHING_LOADED, UnloadOutcome.UNREACHABLE, RuntimeError("a fault of ours")],
)
async def test_nothing_more_is_expected_of_one_that_held_nothing(
    answer: UnloadOutcome | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        asked = Asked()
        await asked.round(answer)
        assert asked.eviction.view() == QUIET
        assert len(asked.heard) == 1
    assert ("could not be asked" in caplog.text) == isinstance(answer, Exception)


async def test_the_intervals_grow_up_to_a_limit_and_start_anew_with_the_next_wait() -> None:
    asked = Asked()
    intervals = []
    for _ in range(7):
        await asked.round(UnloadOutcome.NOTHING_LOADED)
        began = asked.time.now
        while not asked.eviction.view().may_be_asked:
            asked.time.now += 1
        intervals.append(asked.time.now - began)
    assert intervals == [10, 20, 40, 80, 160, LONGEST_INTERVAL_S, LONGEST_INTERVAL_S]
    await asked.round(UnloadOutcome.UNLOADED)
    asked.eviction.forget()
    assert asked.eviction.view() == READY


async def test_a_round_that_is_forgotten_is_still_counted_and_delays_nobody() -> None:
    asked = Asked()
    asked.eviction.ask()
    await turns(2)
    asked.eviction.forget()
    assert asked.eviction.view() == ASKING
    asked.answers.put_nowait(UnloadOutcome.UNLOADED)
    await turns(10)
    assert len(asked.heard) == 1
    assert asked.eviction.view() == READY


async def test_a_new_wait_during_a_round_is_part_of_it() -> None:
    asked = Asked()
    asked.eviction.ask()
    await turns(2)
    asked.eviction.forget()
    await asked.round(UnloadOutcome.UNLOADED)
    assert asked.rounds == 1
    assert asked.eviction.view() == ASKING


async def test_after_exhaustion_neighbours_are_asked_before_their_time_and_must_answer() -> None:
    asked = Asked()
    await asked.round(UnloadOutcome.NOTHING_LOADED)
    assert not asked.eviction.view().may_be_asked
    asked.eviction.exhausted()
    await turns(2)
    assert asked.eviction.view() == NeighbourView(may_still_free=True, must_answer=True)
    asked.answers.put_nowait(UnloadOutcome.UNLOADED)
    await turns(10)
    assert asked.rounds == 2
    assert asked.eviction.view() == ASKING


async def test_closing_ends_the_round() -> None:
    asked = Asked()
    asked.eviction.ask()
    await turns(2)
    asked.eviction.close()
    asked.answers.put_nowait(UnloadOutcome.UNLOADED)
    await turns(10)
    assert asked.heard == []
