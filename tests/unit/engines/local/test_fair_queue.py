from __future__ import annotations

from collections import Counter, deque

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from docling_serve.engines.local.fair_queue import FairQueue

TENANTS = st.sampled_from(["a", "b", "c"])
COSTS = st.sampled_from([1.0, 2.0, 5.0])
#: Puts (a tenant and a cost), takes (None) and withdrawals (which of those that wait).
STEPS = st.lists(st.one_of(st.tuples(TENANTS, COSTS), st.none(), st.integers(0, 20)), max_size=60)
quick = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def filled(*tenants: str) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue()
    for number, tenant in enumerate(tenants):
        queue.put(number, tenant)
    return queue


def drained(queue: FairQueue[int]) -> list[int]:
    return [queue.take() for _ in range(len(queue))]


def test_one_tenant_is_served_in_order() -> None:
    assert drained(filled(*"aaaa")) == [0, 1, 2, 3]


def test_tenants_take_turns() -> None:
    assert drained(filled(*"aaaabbbc")) == [0, 4, 7, 1, 5, 2, 6, 3]


def test_whoever_comes_late_does_not_wait_behind_what_others_sent_before() -> None:
    queue = filled(*"a" * 1000)
    for _ in range(10):
        queue.take()
    queue.put(1000, "b")

    assert queue.position(1000) <= 2


def test_having_waited_for_nobody_earns_no_credit() -> None:
    """A tenant that was away does not get the turns that it did not take."""
    queue = filled(*"a" * 10)
    for _ in range(5):
        queue.take()
    for number in range(10, 15):
        queue.put(number, "b")

    taken = [queue.take() for _ in range(6)]
    assert sum(number >= 10 for number in taken) in (3, 4)


def test_an_item_waits_once() -> None:
    queue = filled("a")
    with pytest.raises(ValueError, match="already queued"):
        queue.put(0, "a")


def test_what_is_not_there_cannot_be_withdrawn() -> None:
    assert filled("a").discard(7) is False


@quick
@given(STEPS)
def test_nothing_is_lost_doubled_or_out_of_its_tenants_order(
    steps: list[tuple[str, float] | int | None],
) -> None:
    queue: FairQueue[int] = FairQueue()
    waiting: dict[str, deque[int]] = {tenant: deque() for tenant in "abc"}
    for number, step in enumerate(steps):
        everything = [item for line in waiting.values() for item in line]
        if step is None:
            if everything:
                taken = queue.take()
                (line,) = (line for line in waiting.values() if taken in line)
                assert line.popleft() == taken
        elif isinstance(step, int):
            if everything:
                gone = everything[step % len(everything)]
                assert queue.discard(gone)
                next(line for line in waiting.values() if gone in line).remove(gone)
        else:
            queue.put(number, *step)
            waiting[step[0]].append(number)
        assert sorted(queue) == sorted(item for line in waiting.values() for item in line)
        assert [queue.position(item) for item in queue] == list(range(1, len(queue) + 1))


@quick
@given(st.lists(st.tuples(TENANTS, COSTS), min_size=1, max_size=60))
def test_of_two_that_wait_none_is_ahead_by_more_than_one_item_of_each(
    arrivals: list[tuple[str, float]],
) -> None:
    queue: FairQueue[int] = FairQueue()
    for number, (tenant, cost) in enumerate(arrivals):
        queue.put(number, tenant, cost)
    left = Counter(tenant for tenant, _ in arrivals)
    served: Counter[str] = Counter()
    both = max((cost for _, cost in arrivals), default=0) * 2
    while queue:
        tenant, cost = arrivals[queue.take()]
        served[tenant] += int(cost)
        left[tenant] -= 1
        backlogged = [name for name in left if left[name] > 0]
        shares = [served[name] for name in backlogged]
        assert not shares or max(shares) - min(shares) <= both


@quick
@given(st.lists(TENANTS, max_size=30), TENANTS)
def test_the_position_foretold_is_the_position_given(tenants: list[str], tenant: str) -> None:
    queue = filled(*tenants)
    foretold = queue.position_of_next(tenant)
    queue.put(-1, tenant)

    assert queue.position(-1) == foretold
