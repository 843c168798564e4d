"""Requests made up from our OpenAPI document: whatever comes, the server answers and goes on."""

from __future__ import annotations

from typing import Any

import requests
import schemathesis

from docling_serve.api import make_app
from docling_serve.policy import ServicePolicy
from tests.helpers.rest_server import everything_installed, no_lifespan, settings_of

#: No answer to a request of this size takes this long; one that does is a hang.
ANSWER_LIMIT_S = 60.0

#: Answers that say what is the matter: a time limit, no room, too much waits, going down.
_SAID = frozenset({503, 504, 507})


def our_schema() -> Any:
    """The document of a server with default settings, and one test for each operation in it."""
    settings = settings_of(enable_management_endpoints=True)
    policy = ServicePolicy.from_settings(settings, everything_installed())
    return schemathesis.openapi.from_dict(make_app(settings, policy, no_lifespan).openapi())


def answer_is_no_fault(case: Any, url: str, session: requests.Session) -> None:
    """Send ``case``; whatever is wrong with it, the answer says so in our words."""
    reply = case.call(base_url=url, session=session, timeout=ANSWER_LIMIT_S)
    told = f"{reply.status_code} {reply.text[:500]}\n{case.as_curl_command()}"
    if reply.status_code in _SAID or _is_failed_task(reply):
        return
    assert reply.status_code < 500, told


def _is_failed_task(reply: Any) -> bool:
    """Whether a task ended as ``internal`` with its cause; no fault of the API."""
    if reply.status_code != 500 or "json" not in reply.headers.get("content-type", [""])[0]:
        return False
    return bool(reply.json().get("kind") == "TaskFailureResult")
