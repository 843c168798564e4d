"""Recorded requests get the recorded answers, except where a difference is listed.

Those that convert go to real servers, in both modes; the others to an app in this process.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.documented import is_documented
from tests.contract.listed import LISTED, expected
from tests.contract.recordings import Exchange, Replay, exchanges, recording, unlike, unlike_json
from tests.helpers.eventually import eventually
from tests.helpers.receiver import Receiver
from tests.helpers.rest_server import rest_server
from tests.helpers.server import RunningServer

AS_RECORDED: dict[str, Any] = {"allow_custom_layout_config": True, "allow_custom_ocr_config": True}

_REMOVAL_LIMIT_S = 30.0


def check(exchange: Exchange, reply: httpx.Response) -> None:
    """The answer is the expected one; a listed difference is one."""
    wrong = unlike(expected(exchange), reply)
    assert not wrong, f"{exchange.id} {exchange.note}: {wrong}\n{reply.text[:1000]}"
    if exchange.id in LISTED:
        assert unlike(exchange.response, reply), f"{exchange.id} is no difference any more"


def replay(server: RunningServer, name: str, plan: Replay) -> list[httpx.Response]:
    """Send every exchange of a recording, in order."""
    replies = []
    for exchange in exchanges(name):
        request = plan.request(exchange)
        polls = exchange.request["path"].startswith("/v1/status/poll/<task_id>")
        if polls and exchange.note in ("", "polled after the task had finished"):
            # The recorded ones were sent when the task had ended.
            request["url"] = request["url"].partition("?")[0] + "?wait=100"
        reply = server.api.http.request(**request)
        if exchange.note == "after the removal delay":
            reply = _gone(server, request)
        plan.note(reply)
        if exchange.recording != "11":
            check(exchange, reply)
        replies.append(reply)
    return replies


def _gone(server: RunningServer, request: dict[str, Any]) -> httpx.Response:
    replies: list[httpx.Response] = []

    def is_gone() -> bool:
        replies.append(server.api.http.request(**request))
        return replies[-1].status_code == 404

    eventually(is_gone, within_s=_REMOVAL_LIMIT_S, what="the result is removed")
    return replies[-1]


@pytest.mark.parametrize("name", ["01", "02", "03", "04", "05", "08"])
def test_conversions(recorded_server: RunningServer, name: str) -> None:
    replay(recorded_server, name, Replay())


def test_targets(recorded_server: RunningServer, receiver: Receiver) -> None:
    replay(recorded_server, "07", Replay(receiver.url))
    (put,) = receiver.got
    assert (put.method, put.path) == ("PUT", "/put")
    assert b'name="file"; filename="converted_docs.zip"' in put.body


def test_callbacks(recorded_server: RunningServer, receiver: Receiver) -> None:
    """The recorded ones came in any order; these come in the order of events, and tell the end."""
    recorded = recording("10")["callbacks_received"]
    plan = Replay(receiver.url)
    replay(recorded_server, "10", plan)
    count = len(recorded) + 1
    eventually(lambda: len(receiver.got) == count, within_s=60, what="all callbacks")
    *told, end = receiver.got
    assert json.loads(end.body)["progress"] == {
        "kind": "task_completed",
        "task_status": "success",
        "failure": None,
    }
    for before, now in zip(recorded, told, strict=True):
        assert (now.method, now.path) == (before["method"], before["path"])
        assert before["headers"].items() <= now.headers.items()
        assert unlike_json(before["json"], json.loads(now.body)) == []
        assert json.loads(now.body)["task_id"] == plan.task_id


def test_document_versions(recorded_server: RunningServer) -> None:
    replies = replay(recorded_server, "11", Replay())
    for exchange, reply in zip(exchanges("11"), replies, strict=True):
        if reply.status_code != 200:
            check(exchange, reply)
            continue
        document = reply.json()["document"]["json_content"]
        assert exchange.response["json"] == {
            "document.json_content.version": document["version"],
            "document.json_content keys": sorted(document),
            "texts[0] keys": sorted(document["texts"][0]),
        }


def test_limits_of_documents(recorded_server: RunningServer) -> None:
    plan = Replay(sized=True)
    for exchange in exchanges("14")[:2]:
        check(exchange, recorded_server.api.http.request(**plan.request(exchange)))


GATED: dict[str, Any] = {
    "api_key": "secret",
    "show_version_info": False,
    "enable_api_docs": False,
    "enable_capabilities_endpoint": False,
}


@pytest.mark.parametrize(
    ("name", "numbers", "settings"),
    [
        ("06", slice(None), {}),
        ("12", slice(None), {}),
        ("13", slice(None), GATED),
        ("14", slice(2, None), {"max_sources_per_request": 1}),
        ("15", slice(None), {"max_sync_wait": 1, "closed": True}),
    ],
)
async def test_without_a_conversion(
    tmp_path: Path, name: str, numbers: slice, settings: dict[str, Any]
) -> None:
    async with rest_server(tmp_path, **AS_RECORDED, **settings) as server:
        for exchange in exchanges(name)[numbers]:
            check(exchange, await server.client.request(**Replay().request(exchange)))


def test_what_is_listed_is_documented() -> None:
    assert [
        row for row in {listed.row for listed in LISTED.values()} if not is_documented(row)
    ] == []
