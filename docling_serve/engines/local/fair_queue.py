"""A queue that is fair between tenants: those with waiting items take turns, whatever others send.

Start-time fair queueing: each item gets a *turn* when it arrives, the later of now and the end of
its tenant's previous turn; the smallest turn is next. A tenant's own items stay in order, and of
two tenants that both wait, neither is ahead by more than one item of each. No clock, no I/O.
"""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

_SPARE_TENANTS = 64


@dataclass(order=True)
class _Entry(Generic[T]):
    turn: float
    number: int
    item: T = field(compare=False)
    tenant: str = field(compare=False)
    cost: float = field(compare=False)


class FairQueue(Generic[T]):
    """Items in the order in which they will be taken if no more arrive."""

    def __init__(self) -> None:
        self._order: list[_Entry[T]] = []
        self._entries: dict[T, _Entry[T]] = {}
        #: Where the turns of each tenant end; a tenant behind ``_now`` has no entry.
        self._ends: dict[str, float] = {}
        self._now = 0.0
        self._arrivals = 0

    def put(self, item: T, tenant: str, cost: float = 1.0) -> None:
        """Queue ``item``; ``cost`` says how much of its tenant's share it takes."""
        if item in self._entries:
            raise ValueError(f"{item!r} is already queued")
        self._arrivals += 1
        entry = _Entry(self._turn(tenant), self._arrivals, item, tenant, cost)
        self._ends[tenant] = entry.turn + cost
        self._entries[item] = entry
        bisect.insort(self._order, entry)

    def take(self) -> T:
        """The next item.

        Raises:
            IndexError: nothing waits.
        """
        entry = self._order.pop(0)
        del self._entries[entry.item]
        self._now = max(self._now, entry.turn)
        self._forget_tenants()
        return entry.item

    def discard(self, item: T) -> bool:
        """Remove ``item`` from the queue; its tenant's later ones move up. False if it was not
        queued."""
        gone = self._entries.pop(item, None)
        if gone is None:
            return False
        self._order.remove(gone)
        turn = gone.turn
        for entry in self._order:
            if entry.tenant == gone.tenant and entry.number > gone.number:
                entry.turn = turn
                turn += entry.cost
        self._ends[gone.tenant] = turn
        self._order.sort()
        self._forget_tenants()
        return True

    def position(self, item: T) -> int:
        """The position of an item, counted from 1.

        Raises:
            KeyError: it is not queued here.
        """
        return bisect.bisect_left(self._order, self._entries[item]) + 1

    def position_of_next(self, tenant: str) -> int:
        """The position that the next item of ``tenant`` would get."""
        turn = self._turn(tenant)
        return bisect.bisect_right(self._order, turn, key=lambda entry: entry.turn) + 1

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, item: object) -> bool:
        return item in self._entries

    def __iter__(self) -> Iterator[T]:
        return (entry.item for entry in self._order)

    def _turn(self, tenant: str) -> float:
        return max(self._now, self._ends.get(tenant, 0.0))

    def _forget_tenants(self) -> None:
        """Drop tenants whose turns have passed: they are equal to ones never seen."""
        if not self._order:
            self._ends.clear()
            self._now = 0.0
        elif len(self._ends) > len(self._order) + _SPARE_TENANTS:
            self._ends = {name: end for name, end in self._ends.items() if end > self._now}
