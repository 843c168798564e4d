"""The demonstration page in a real browser, with real conversions."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.conftest import KEEP_WORKERS, StartServer
from tests.helpers.api import DOCUMENTS, missing_phrases
from tests.helpers.browser import browser as a_browser
from tests.helpers.documents import scanned_pdf
from tests.helpers.server import SUBPROCESS_MODE, RunningServer

KEY = "sesame"
_DONE_WITHIN_MS = 120_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as running:
        yield running


@pytest.fixture(scope="module")
def server_with_page(browser: Browser, serve: StartServer) -> Iterator[RunningServer]:
    """With a key, and with workers to look at."""
    env = {
        "DOCLING_SERVE_ENABLE_UI": "true",
        "DOCLING_SERVE_API_KEY": KEY,
        "DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS": "true",
    }
    with serve(SUBPROCESS_MODE | KEEP_WORKERS | env, headers={"X-Api-Key": KEY}) as running:
        yield running


@pytest.fixture
def page(browser: Browser, server_with_page: RunningServer) -> Iterator[Page]:
    """The page, open and with the key typed in. Whatever its script raises fails the test, and so
    does a request to anybody else."""
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(_DONE_WITHIN_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: _note_stranger(request.url, server_with_page, wrong))
    page.goto(f"{server_with_page.url}/ui/")
    page.get_by_label("API key").fill(KEY)
    yield page
    context.close()
    assert wrong == []


def _note_stranger(url: str, server: RunningServer, wrong: list[str]) -> None:
    if url.startswith(("blob:", "data:")):
        return
    if urlsplit(url).netloc != urlsplit(server.url).netloc:
        wrong.append(f"asked {url}")


def convert(page: Page, *names: str) -> None:
    page.get_by_label("Files").set_input_files([str(DOCUMENTS / name) for name in names])
    page.get_by_role("button", name="Convert").click()


def status(page: Page, text: str) -> None:
    """Wait for what the page says."""
    expect(page.get_by_role("status")).to_contain_text(text, timeout=_DONE_WITHIN_MS)


def test_a_document_is_converted_looked_at_and_downloaded(page: Page) -> None:
    page.get_by_label("HTML", exact=True).check()
    convert(page, "notes.md")
    status(page, "Done in")

    panel = page.get_by_role("tabpanel")
    assert missing_phrases("notes.md", panel.inner_text()) == []
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download notes.md").click()
    assert missing_phrases("notes.md", downloading.value.path().read_text()) == []

    page.get_by_role("tab", name="Markdown").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="HTML")).to_have_attribute("aria-selected", "true")
    preview = page.frame_locator("iframe")
    expect(preview.get_by_role("heading", name="Keeper's notes")).to_be_visible()
    assert page.locator("iframe").get_attribute("sandbox") == ""

    expect(page.get_by_role("heading", name="Workers and memory")).to_be_visible()
    expect(page.locator("#worker-rows tr").first).to_be_visible()


def test_the_form_waits_for_what_the_server_offers(page: Page) -> None:
    held: list[Route] = []
    page.route("**/v1/capabilities", lambda route: held.append(route))  # noqa: PLW0108 - a builtin cannot be one
    page.reload()
    expect(page.get_by_role("button", name="Convert")).to_be_disabled()

    held[0].continue_()
    page.get_by_label("API key").fill(KEY)
    convert(page, "notes.md")
    status(page, "Done in")


def test_several_documents_come_as_an_archive(page: Page) -> None:
    convert(page, "notes.md", "page.html")
    status(page, "one archive")

    expect(page.get_by_role("link", name="Download converted_docs.zip")).to_be_visible()


def test_without_websockets_it_asks_again_and_again(page: Page) -> None:
    page.route_web_socket("**/v1/status/ws/**", lambda socket: socket.close())
    convert(page, "notes.md")

    status(page, "Done in")


def test_a_task_is_cancelled(page: Page) -> None:
    scan = {"name": "long.pdf", "mimeType": "application/pdf", "buffer": scanned_pdf(pages=30)}
    page.get_by_label("Files").set_input_files([scan])  # type: ignore[list-item]
    page.get_by_role("button", name="Convert").click()
    page.get_by_role("button", name="Cancel").click()

    status(page, "Cancelled.")
    expect(page.get_by_role("button", name="Convert")).to_be_enabled()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "Choose files, or give one address."),
        ({"or an address": "ftp://example.com/a.pdf"}, "sources.0"),
        ({"API key": "wrong", "or an address": "http://example.com/a.pdf"}, "API key"),
        (
            {"First page": "3", "Last page": "1", "or an address": "http://example.com/a.pdf"},
            "The last page comes before the first.",
        ),
    ],
)
def test_what_is_wrong_is_said(page: Page, fields: dict[str, str], says: str) -> None:
    for label, text in fields.items():
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_role("button", name="Convert").click()

    expect(page.get_by_role("alert")).to_contain_text(says)
    status(page, "Not converted.")


def test_a_document_that_cannot_be_converted(page: Page) -> None:
    broken = {"name": "bad.docx", "mimeType": "application/octet-stream", "buffer": b"no archive"}
    page.get_by_label("Files").set_input_files([broken])  # type: ignore[list-item]
    page.get_by_role("button", name="Convert").click()

    expect(page.get_by_role("alert")).not_to_be_empty(timeout=_DONE_WITHIN_MS)


def test_every_control_has_a_name_and_the_keyboard_reaches_it(page: Page) -> None:
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, select, button')].filter(
            (control) => !control.labels?.length && !control.textContent.trim()
        ).map((control) => control.outerHTML)"""
    )
    assert unnamed == []

    page.get_by_label("API key").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Convert")).to_be_focused()
