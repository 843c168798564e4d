from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from docling_serve.errors import ChannelBroken, Failure
from docling_serve.jobs.spec import JobProgress, JobResult
from docling_serve.subprocess_worker.protocol.messages import (
    HEADER,
    MAX_FRAME_BYTES,
    CallbackDue,
    Done,
    Failed,
    Inspect,
    Inspected,
    Message,
    Progressed,
    Ready,
    Rest,
    Rested,
    Run,
    Started,
    Stop,
    body_length,
    decode,
    encode,
)

RESULT = JobResult(
    body="result.body",
    media_type="application/zip",
    download_name="converted_docs.zip",
    processing_time=1.25,
    num_converted=3,
    num_succeeded=1,
    num_partially_succeeded=1,
    num_failed=1,
)
EVERY: list[Message] = [
    Run(job=7, folder="/scratch/ünïcode/task", output="/scratch/out"),
    Inspect(job=3, folder="/tmp/task"),
    Inspected(job=3, uses_gpu=True),
    Rest(),
    Stop(),
    Rested(),
    Ready(pid=4711, import_s=0.5, contained={"core_dumps_off": "on"}),
    Started(job=7),
    Progressed(
        job=7,
        progress=JobProgress(
            phase="build", document=2, num_docs=3, completed_pages=4, total_pages=5
        ),
        holds_models=True,
        lean=True,
    ),
    CallbackDue(job=7, payload={"kind": "update_processed", "docs": [{"source": "名.pdf"}]}),
    Done(job=7, result=RESULT, holds_models=True),
    Failed(
        job=7,
        category="backend_failure",
        message="“quoted”\nand\u0000more",
        retryable=True,
        phase="execution",
        details={"exit": "SIGSEGV"},
        holds_models=False,
    ),
]


@pytest.mark.parametrize("message", EVERY, ids=lambda message: message.kind)
def test_a_message_survives_the_wire(message: Message) -> None:
    frame = encode(message)

    assert body_length(frame[: HEADER.size]) == len(frame) - HEADER.size
    assert decode(frame[HEADER.size :]) == message


def test_the_examples_above_are_all_there_is() -> None:
    assert {type(message) for message in EVERY} == set(get_args(Message))


def test_a_frame_may_be_as_large_as_the_limit_and_no_larger() -> None:
    room = MAX_FRAME_BYTES - len(Run(job=1, folder="", output="").model_dump_json())

    assert len(encode(Run(job=1, folder="x" * room, output=""))) == HEADER.size + MAX_FRAME_BYTES
    with pytest.raises(ValueError, match=f"run message of {MAX_FRAME_BYTES + 1} bytes"):
        encode(Run(job=1, folder="x" * (room + 1), output=""))


def test_the_limit_counts_bytes() -> None:
    with pytest.raises(ValueError, match="limit"):
        encode(Run(job=1, folder="名" * (MAX_FRAME_BYTES // 2), output=""))


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 2**32 - 1])
def test_an_impossible_length_is_refused(length: int) -> None:
    with pytest.raises(ChannelBroken, match=str(length)):
        body_length(HEADER.pack(length))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"kind": "moon"}',
        b'{"kind": "started"}',
        b'{"kind": "started", "job": "seven"}',
        b'{"kind": "started", "job": 7, "secret": 1}',
        b'{"kind": "started", "job": 7} trailing',
        b'{"kind": "done", "job": 7, "result": {}, "holds_models": true}',
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(ChannelBroken, match="not a message"):
        decode(body)


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    secret = json.dumps({"kind": "started", "job": "s3cret"}).encode()
    with pytest.raises(ChannelBroken) as refusal:
        decode(secret)
    assert "s3cret" not in str(refusal.value)


def test_a_failure_is_carried_whole() -> None:
    failure = Failure("capacity", "Too much.", True, "orchestration", {"a": "b"})
    message = Failed(job=1, holds_models=False, **vars(failure))

    assert message.failure() == failure


@pytest.mark.parametrize("change", [{"job": 8}, {"kind": "stop"}])
def test_messages_do_not_change(change: dict[str, Any]) -> None:
    ((name, value),) = change.items()
    with pytest.raises(ValidationError):
        setattr(Started(job=7), name, value)
