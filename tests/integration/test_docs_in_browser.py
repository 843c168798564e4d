"""The documentation pages in a real browser, with no network but the app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, ConsoleMessage, Route, expect

from docling_serve.api import make_app
from docling_serve.policy import ServicePolicy
from tests.helpers.browser import browser as a_browser
from tests.helpers.rest_server import everything_installed, no_lifespan, settings_of


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as running:
        yield running


@pytest.mark.parametrize("path", ["/swagger", "/docs", "/scalar"])
def test_a_browser_shows_the_document(browser: Browser, path: str) -> None:
    """What it asks for is answered from the app, so there is no other network by construction."""
    settings = settings_of()
    policy = ServicePolicy.from_settings(settings, everything_installed())
    client = TestClient(make_app(settings, policy, no_lifespan), base_url="http://here")
    wrong: list[str] = []

    def answer(route: Route) -> None:
        url = route.request.url
        if not url.startswith("http://here/"):
            wrong.append(f"asked {url}")
            route.abort()
            return
        reply = client.get(url, headers={"Accept-Encoding": "identity"})
        route.fulfill(status=reply.status_code, headers=dict(reply.headers), body=reply.content)

    page = browser.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if _is_fault(said) else None)
    page.route(lambda url: not url.startswith(("blob:", "data:")), answer)
    page.goto(f"http://here{path}")
    expect(page.get_by_text("Docling Serve").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("health").first).to_be_visible(timeout=60_000)
    page.close()
    assert wrong == []


def _is_fault(said: ConsoleMessage) -> bool:
    """Whether an error was said that is not the policy's refusal of ReDoc's logo, which is the one
    thing that a tool asks another host for."""
    return said.type == "error" and "cdn.redoc.ly" not in said.text
