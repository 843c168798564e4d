"""Recorded answers that this server gives otherwise, and why (docs/differences.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.contract.recordings import Exchange, exchanges


@dataclass(frozen=True)
class Listed:
    """``answer`` in place of the recorded one; ``row`` of the page tells of it."""

    row: str
    answer: dict[str, Any]


def _json(status: int, body: Any) -> dict[str, Any]:
    return {"status": status, "headers": {"content-type": "application/json"}, "json": body}


def _failed(status: int, **details: str) -> dict[str, Any]:
    failure = {
        "category": "policy",
        "message": "<text>",
        "retryable": False,
        "phase": "execution",
        "details": details,
    }
    body = {"kind": "TaskFailureResult", "failure": failure}
    return _json(status, {"detail": "<text>", "task_id": "<volatile>", **body})


_META = {
    "num_docs": 1,
    "num_processed": 1,
    "num_succeeded": 1,
    "num_partially_succeeded": 0,
    "num_failed": 0,
    "phase": None,
    "document": None,
    "completed_pages": None,
    "total_pages": None,
}
_SUCCESS = _json(
    200,
    {
        "task_id": "<volatile>",
        "task_type": "convert",
        "task_status": "success",
        "task_position": None,
        "task_meta": _META,
        "error_message": None,
        "failure": None,
    },
)
_CONVERTED = exchanges("01")[0].response


def _all_of_one_name() -> dict[str, Any]:
    return {**exchanges("07")[2].response, "zip_entries": ["a-2.md", "a.md"]}


def _no_tokenizer() -> dict[str, Any]:
    answer = _failed(422)
    answer["json"]["failure"] |= {"phase": "orchestration"}
    return answer


def _too_long() -> dict[str, Any]:
    recorded = exchanges("15")[0].response
    body = {**recorded["json"], "task_id": "<volatile>", "task": "cancelled"}
    return _json(504, body)


def _capabilities() -> dict[str, Any]:
    (recorded,) = (e for e in exchanges("12") if e.request["path"] == "/v1/capabilities")
    default = {
        "id": "default",
        "name": "Server default (tableformer_v1_accurate)",
        "description": None,
        "source": "default",
    }
    recorded.response["json"]["stages"]["table_structure"]["presets"].append(default)
    return recorded.response


LISTED: dict[str, Listed] = {
    "04/1": Listed("progress", _SUCCESS),
    "05/0": Listed("M102", _CONVERTED),
    "05/2": Listed("M102", _SUCCESS),
    "05/3": Listed("M102", _CONVERTED),
    "05/6": Listed(
        "F54",
        _failed(415, document="a.xyz", document_number="1", reason="unsupported_format"),
    ),
    "07/2": Listed("F60", _all_of_one_name()),
    "07/4": Listed("F54", _failed(415, reason="unsupported_format")),
    "08/3": Listed("J91", _no_tokenizer()),
    "11/4": Listed(
        "D39",
        _json(422, {"detail": "unparseable Accept-Docling-Document-Version '999999999999.1.1'"}),
    ),
    "12/10": Listed("B14", _capabilities()),
    "13/2": Listed("C20", {"status": 200}),
    "15/0": Listed("F57", _too_long()),
}


def expected(exchange: Exchange) -> dict[str, Any]:
    """What this server answers."""
    listed = LISTED.get(exchange.id)
    return exchange.response if listed is None else listed.answer
