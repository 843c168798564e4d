"""Where events for callbacks are kept until they have arrived."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Delivery:
    """An event that a callback is due: ``body`` goes to ``target`` (a ``CallbackSpec`` as JSON
    data), not before ``due``. ``attempts`` counts the tries so far. Times are seconds since
    1970."""

    delivery_id: int
    task_id: str
    target: dict[str, Any]
    body: dict[str, Any]
    due: float
    created: float
    attempts: int = 0


class Outbox(Protocol):
    """Every call may raise ``OSError``."""

    def add_delivery(
        self, task_id: str, target: dict[str, Any], body: dict[str, Any], now: float
    ) -> Awaitable[int]: ...

    def pending_deliveries(self) -> Awaitable[list[Delivery]]: ...

    def postpone_delivery(self, delivery_id: int, due: float) -> Awaitable[None]: ...

    def delivered(self, delivery_id: int) -> Awaitable[None]: ...
