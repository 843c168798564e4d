"""The parts of the worker's main function that can be had without a conversion."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from docling_serve.subprocess_worker.child.main import _Worker
from docling_serve.subprocess_worker.protocol.channel import (
    ServerChannel,
    WorkerChannel,
    socket_pair,
)
from docling_serve.subprocess_worker.protocol.messages import MAX_FRAME_BYTES, CallbackDue


async def _relayed(payload: dict[str, Any]) -> CallbackDue:
    """What the server hears of a callback event."""
    ours, theirs = socket_pair()
    server = await ServerChannel.open(ours)
    worker = _Worker.__new__(_Worker)  # its constructor imports all that converts
    worker._channel = WorkerChannel(theirs)
    sending = asyncio.create_task(asyncio.to_thread(worker._relay, 7, payload))
    await asyncio.wait({sending})
    theirs.close()
    message = await server.receive()
    server.close()
    sending.result()
    assert isinstance(message, CallbackDue)
    return message


def _processed(name: str, count: int) -> dict[str, Any]:
    docs = [{"source": name, "status": "success", "error": None} for _ in range(count)]
    return {"kind": "update_processed", "num_processed": count, "docs": docs}


async def test_an_event_of_usual_size_is_relayed_whole() -> None:
    payload = _processed("a.pdf", 10)

    assert await _relayed(payload) == CallbackDue(job=7, payload=payload)


@pytest.mark.parametrize(
    ("name", "count"), [("a.pdf", 2_000), ("名" * 40, 500)], ids=["many", "many bytes a character"]
)
async def test_an_event_too_large_for_a_frame_leaves_out_its_list(name: str, count: int) -> None:
    payload = _processed(name, count)
    assert len(CallbackDue(job=7, payload=payload).model_dump_json().encode()) > MAX_FRAME_BYTES

    assert (await _relayed(payload)).payload == {**payload, "docs": []}
