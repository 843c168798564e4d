"""Tasks that wait in order, and how many of them may be with the runner."""

from __future__ import annotations

import asyncio

from docling_serve.engines.task_record import TaskRecord


class Line:
    """A queue, and ``hand_over`` hands that take tasks out of it."""

    def __init__(self, hand_over: int) -> None:
        self.queue: asyncio.Queue[TaskRecord] = asyncio.Queue()
        self.hands = asyncio.Semaphore(hand_over)
