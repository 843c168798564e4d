"""The page in a real browser, with real conversions, on one server."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.conftest import KEEP_WORKERS, StartServer
from tests.helpers.api import DOCUMENTS, missing_phrases, upload
from tests.helpers.browser import browser as a_browser
from tests.helpers.documents import doclang_archive, scanned_pdf
from tests.helpers.receiver import receiver
from tests.helpers.server import SUBPROCESS_MODE, RunningServer

KEY = "sesame"
_DONE_WITHIN_MS = 120_000
_BAD = {"name": "bad.docx", "mimeType": "application/octet-stream", "buffer": b"no archive"}
_EVIL = {
    "name": "evil.md",
    "mimeType": "text/markdown",
    "buffer": b"# Evil\n\n<img src=x onerror='stolen = 1'>\n\n<script>stolen = 1</script>\n\n"
    b"[a link](javascript:stolen=1)\n",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with a_browser() as running:
        yield running


@pytest.fixture(scope="module")
def server_with_page(
    browser: Browser, serve: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """With a key, with workers to look at, and with tasks that outlive it."""
    env = {
        "DOCLING_SERVE_ENABLE_UI": "true",
        "DOCLING_SERVE_API_KEY": KEY,
        "DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS": "true",
        "DOCLING_SERVE_SCRATCH_PATH": str(tmp_path_factory.mktemp("kept")),
        "DOCLING_SERVE_SHUTDOWN_GRACE": "0.1",
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
    expect.set_options(timeout=_DONE_WITHIN_MS)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: _note_stranger(request.url, server_with_page, wrong))
    open_page(page, f"{server_with_page.url}/ui/")
    yield page
    context.close()
    assert wrong == []


def open_page(page: Page, address: str) -> None:
    """Open the page and give the key; it is asked for, so the server has been heard of."""
    page.goto(address)
    page.get_by_label("API key").fill(KEY)
    page.get_by_label("API key").press("Tab")
    expect(page.get_by_text("Connected")).to_be_visible()


def _note_stranger(url: str, server: RunningServer, wrong: list[str]) -> None:
    if url.startswith(("blob:", "data:")):
        return
    if urlsplit(url).netloc != urlsplit(server.url).netloc:
        wrong.append(f"asked {url}")


def convert(page: Page, *files: object) -> None:
    chosen = [_payload(file) if isinstance(file, str) else file for file in files]
    page.get_by_label("Files", exact=True).set_input_files(chosen)  # type: ignore[arg-type]
    page.get_by_role("button", name="Convert", exact=True).click()


def _payload(name: str) -> dict[str, object]:
    return {"name": name, "mimeType": "", "buffer": (DOCUMENTS / name).read_bytes()}


def row(page: Page, name: str) -> Locator:
    return page.locator(".row", has_text=name)


def a_long_scan() -> dict[str, object]:
    return {"name": "long.pdf", "mimeType": "application/pdf", "buffer": scanned_pdf(pages=30)}


# ---- Convert ---------------------------------------------------------------------------------


def test_each_document_has_its_own_state_and_result(page: Page) -> None:
    for name in ("HTML", "JSON"):
        page.get_by_label(name, exact=True).check()
    convert(page, "notes.md", "page.html", _BAD, _EVIL)

    expect(row(page, "notes.md")).to_contain_text(re.compile(r"Done \(waited .* s, converted .*\)"))
    expect(row(page, "page.html")).to_contain_text("Done")
    expect(row(page, "bad.docx")).to_contain_text(re.compile(r"Failed \(.*\): .*\w"))
    expect(row(page, "bad.docx").get_by_role("button", name="Retry")).to_be_visible()

    page.get_by_role("button", name="notes.md", exact=True).click()
    page.get_by_role("tab", name="Markdown", exact=True).click()
    panel = page.get_by_role("tabpanel")
    expect(panel.get_by_role("heading", name="Keeper's notes")).to_be_visible()
    assert missing_phrases("notes.md", panel.inner_text()) == []
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download notes.md").click()
    assert missing_phrases("notes.md", downloading.value.path().read_text()) == []

    page.get_by_role("tab", name="HTML", exact=True).click()
    assert page.locator("iframe").get_attribute("sandbox") == ""
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Keeper's notes")).to_be_visible()
    page.get_by_role("tab", name="HTML", exact=True).press("ArrowRight")
    expect(page.locator("[role=tab]:focus")).to_have_attribute("aria-selected", "true")
    page.get_by_role("tab", name="JSON tree").click()
    expect(panel.get_by_text("schema_name")).to_be_visible()

    page.get_by_role("button", name="evil.md", exact=True).click()
    expect(page.get_by_role("heading", name="Evil", exact=True)).to_be_visible()
    assert page.evaluate("typeof stolen") == "undefined"
    assert page.locator("#panel [href^=javascript], #panel [onerror], #panel script").count() == 0


def test_pages_show_what_was_recognised(page: Page) -> None:
    page.get_by_label("Show pages").check()
    convert(page, "scan.png")
    page.get_by_role("tab", name="Pages").wait_for()

    page.get_by_role("button", name=re.compile("Ferry Timetable")).press("Enter")
    expect(page.locator(".picked")).to_contain_text("Ferry Timetable Notice")


def test_files_are_dropped_anywhere_and_the_request_is_shown_as_code(page: Page) -> None:
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["# Dropped"], "dropped.md"));
            document.querySelector("footer").dispatchEvent(
                new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }"""
    )
    expect(page.get_by_text("dropped.md")).to_be_visible()
    page.get_by_label("Read whole pages").check()
    page.get_by_text("Copy as code").click()
    shown = page.locator("#snippet")
    for kind, text in (
        ("curl", "files=@dropped.md"),
        ("Python", "httpx.post"),
        ("JavaScript", "fetch"),
    ):
        page.get_by_role("button", name=kind, exact=True).click()
        expect(shown).to_contain_text(text)
        expect(shown).to_contain_text("force_ocr")
    assert KEY not in shown.inner_text()
    page.get_by_role("button", name="Convert", exact=True).click()
    expect(row(page, "dropped.md")).to_contain_text("Done")


def test_a_document_is_cut_into_chunks_by_options_that_are_kept(page: Page) -> None:
    page.get_by_label("Cut into chunks").select_option("hierarchical")
    page.get_by_label("Read bitmaps").uncheck()
    page.get_by_text("Saved options").click()
    page.get_by_label("Name for these options").fill("mine")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Back to the defaults").click()
    expect(page.get_by_label("Read bitmaps")).to_be_checked()
    page.get_by_role("button", name="Use mine").click()
    expect(page.get_by_label("Read bitmaps")).not_to_be_checked()

    convert(page, "notes.md")
    expect(page.locator(".chunks li").first).to_contain_text("Keeper's notes")
    expect(page.get_by_role("link", name="Download notes.chunks.jsonl")).to_be_visible()


def test_an_example_is_converted_by_one_click(page: Page) -> None:
    page.get_by_role("button", name="Convert page.html").click()
    expect(row(page, "page.html")).to_contain_text("Done")
    expect(page.get_by_role("heading", name="Tower opening hours")).to_be_visible()


def test_the_result_is_delivered_as_the_form_says(page: Page) -> None:
    delivery = page.get_by_label("Deliver results")
    kinds = [option.get_attribute("value") for option in delivery.get_by_role("option").all()]
    assert kinds == ["", "inbody", "put", "zip"], "no storage, so no links to it"

    delivery.select_option("zip")
    convert(page, "notes.md")
    expect(row(page, "notes.md")).to_contain_text("Done")
    expect(page.get_by_role("heading", name="Keeper's notes")).to_be_visible()
    expect(page.get_by_role("link", name="Download converted_docs.zip")).to_be_visible()

    delivery.select_option("put")
    page.get_by_role("button", name="Convert", exact=True).click()
    expect(page.locator(".error")).to_contain_text("Choose files")
    convert(page, "notes.md")
    expect(page.locator(".error")).to_contain_text("Give the address for the results.")
    with receiver() as receiving:
        page.get_by_label("Address for the results").fill(f"{receiving.url}/results")
        page.get_by_text("Copy as code").click()
        page.get_by_role("button", name="curl", exact=True).click()
        expect(page.locator("#snippet")).to_contain_text(f'"url":"{receiving.url}/results"')
        page.get_by_role("button", name="Convert", exact=True).click()
        expect(page.locator(".result")).to_contain_text("1 delivered.")
        [arrived] = receiving.got
    assert (arrived.method, arrived.path) == ("PUT", "/results")


def test_archives_of_results_are_opened(page: Page, server_with_page: RunningServer) -> None:
    form = {"to_formats": ["md", "json", "dclx"], "target_type": "zip"}
    reply = server_with_page.api.convert(upload("notes.md"), upload("page.html"), form=form)
    files = page.get_by_label("Files", exact=True)
    files.set_input_files([_archive("results.zip", reply.content), _archive("other.zip", b"none")])

    expect(page.locator(".drop li", has_text="other.zip")).to_be_visible()
    expect(row(page, "results.zip")).to_contain_text("Opened from this computer.")
    expect(page.get_by_role("heading", name="Keeper's notes")).to_be_visible()
    page.get_by_label("Document", exact=True).select_option("page")
    expect(page.get_by_role("heading", name="Tower opening hours")).to_be_visible()
    expect(page.get_by_role("tab", name="Tables (1)")).to_be_visible()
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download page.md").click()
    assert missing_phrases("page.html", downloading.value.path().read_text()) == []

    files.set_input_files([_archive("tides.dclx", doclang_archive())])
    page.get_by_role("button", name="Section header: Tides & Currents").press("Enter")
    expect(page.locator(".picked")).to_contain_text("Tides & Currents")
    assert page.locator(".sheet img").evaluate("image => image.naturalWidth") == 200
    page.get_by_role("tab", name="HTML", exact=True).click()
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Tides & Currents")).to_be_visible()
    expect(frame.get_by_role("columnheader", name="High water")).to_have_attribute("colspan", "2")
    drawn = frame.locator("figure img").evaluate("image => [image.complete, image.naturalWidth]")
    assert drawn == [True, 60]
    page.get_by_role("button", name="Convert tides.dclx").click()
    expect(page.locator(".drop li", has_text="tides.dclx")).to_be_visible()


def _archive(name: str, content: bytes) -> dict[str, object]:
    return {"name": name, "mimeType": "application/zip", "buffer": content}


def test_a_reload_goes_on_and_cancelling_stops(page: Page, server_with_page: RunningServer) -> None:
    convert(page, a_long_scan())
    expect(page).to_have_url(re.compile("#/convert/."))
    page.reload()
    cancel = page.get_by_role("button", name=re.compile("^Cancel"))
    expect(cancel).to_be_visible()
    expect(row(page, "long.pdf")).to_contain_text(
        re.compile(r"page \d+ of 30|Loading|Converting", re.I)
    )
    task_id = page.url.rsplit("/", 1)[1]
    cancel.click()

    expect(row(page, "long.pdf")).to_contain_text("Cancelled.")
    expect(page.get_by_text("1 running")).to_have_count(0)
    assert server_with_page.api.http.get(f"/v1/status/poll/{task_id}").status_code == 404


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "Choose files, or give an address."),
        ({"or an address": "ftp://example.com/a.pdf"}, "sources.0"),
        (
            {"First page": "3", "Last page": "1", "or an address": "http://example.com/a.pdf"},
            "The last page comes before the first.",
        ),
    ],
)
def test_what_is_wrong_is_said(page: Page, fields: dict[str, str], says: str) -> None:
    page.get_by_text("Pages and images").click()
    for label, text in fields.items():
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_role("button", name="Convert", exact=True).click()

    expect(page.locator(".error")).to_contain_text(says) if says.startswith(
        ("Choose", "The")
    ) else expect(page.locator(".row.failed")).to_contain_text(says)


def test_a_wrong_key_is_said_and_can_be_put_right(page: Page) -> None:
    key = page.get_by_label("API key")
    key.fill("wrong")
    key.press("Tab")
    expect(page.get_by_text("The server refuses this key.")).to_be_visible()
    expect(page.get_by_text("API key needed")).to_be_visible()
    key.fill(KEY)
    key.press("Tab")
    expect(page.get_by_text("Connected")).to_be_visible()


# ---- Tasks and Operations --------------------------------------------------------------------


def test_tasks_are_listed_and_one_has_an_address(page: Page) -> None:
    convert(page, "notes.md")
    expect(row(page, "notes.md")).to_contain_text("Done")
    page.get_by_role("link", name="Tasks", exact=True).click()
    page.get_by_label("Name or id").fill("notes")
    first = page.locator(".tasks tbody tr").first
    expect(first).to_contain_text(re.compile(r"notes\.md.*Done"))
    expect(page.locator(".tasks tbody tr", has_text="page.html")).to_have_count(0)
    first.get_by_role("link", name="notes.md").click()
    expect(page).to_have_url(re.compile("#/tasks/."))
    page.reload()
    expect(page.get_by_role("heading", name="Keeper's notes")).to_be_visible()

    page.get_by_role("link", name="All tasks").click()
    delete = page.get_by_role("button", name="Delete notes.md").first
    expect(delete).to_be_visible()
    count = page.locator(".tasks tbody tr").count()
    delete.click()
    expect(page.locator(".tasks tbody tr")).to_have_count(count - 1)


def test_operations_show_memory_and_workers_and_stop_one(page: Page) -> None:
    convert(page, "notes.md")
    expect(row(page, "notes.md")).to_contain_text("Done")
    page.get_by_role("link", name="Operations").click()
    expect(
        page.get_by_role("img", name=re.compile("ten minutes: .* now, .* at most"))
    ).to_be_visible()
    expect(page.locator(".staircase canvas")).to_be_visible()
    name = page.locator(".card h4").first.inner_text().split()[1]
    page.get_by_role("button", name=f"Stop worker {name}").click()

    ended = page.locator(".ended li", has_text=re.compile(rf"^Worker {name},"))
    expect(ended).to_contain_text("memory was asked back")
    page.get_by_role("button", name="Give memory back now").click()
    expect(page.get_by_text("Workers that hold models end")).to_be_visible()


def test_without_management_the_queue_is_still_told(page: Page) -> None:
    def closed(route: Route) -> None:
        route.fulfill(status=403, json={"detail": "Forbidden."})

    page.route("**/v1/workers/events", closed)
    page.reload()
    expect(page.get_by_text("expected wait")).to_be_visible()
    page.get_by_role("link", name="Operations").click()
    expect(page.get_by_text("This server shows no internals")).to_be_visible()
    page.get_by_text("What this server offers").click()
    expect(page.get_by_text("Picture description", exact=True)).to_be_visible()


# ---- where and how it is looked at -----------------------------------------------------------


def test_on_a_phone_and_in_the_dark(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    page.get_by_label("HTML", exact=True).check()
    convert(page, "page.html")
    expect(row(page, "page.html")).to_contain_text("Done")

    result, formats = row(page, "page.html").bounding_box(), page.locator("#formats").bounding_box()
    assert result is not None
    assert formats is not None
    assert result["y"] < formats["y"], "state and result come before the options"
    page.get_by_role("tab", name="HTML", exact=True).click()
    frame = page.frames[-1]
    frame.wait_for_selector("h1, h2, p")
    shades = [
        where.evaluate("getComputedStyle(document.body).backgroundColor") for where in (page, frame)
    ]
    assert [sum(map(int, re.findall(r"\d+", shade)[:3])) < 150 for shade in shades] == [True, True]
    for view in ("Convert", "Tasks", "Operations"):
        page.get_by_role("link", name=view, exact=True).click()
        page.locator("#main h2").first.wait_for()
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, view


def test_behind_a_path_of_a_proxy(page: Page, server_with_page: RunningServer) -> None:
    prefix = f"{server_with_page.url}/sub"
    page.route(
        f"{prefix}/**",
        lambda route: route.continue_(url=route.request.url.replace(prefix, server_with_page.url)),
    )
    open_page(page, f"{prefix}/ui/")
    convert(page, "notes.md")
    expect(row(page, "notes.md")).to_contain_text("Done")
    asked: list[str] = page.evaluate("performance.getEntriesByType('resource').map(r => r.name)")
    assert [url for url in asked if not url.startswith((prefix, "data:", "blob:"))] == []


def test_every_control_has_a_name_and_the_keyboard_reaches_it(page: Page) -> None:
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('input, select, textarea, button')].filter(
            (control) => !control.labels?.length && !control.textContent.trim()
                && !control.getAttribute('aria-label')
        ).map((control) => control.outerHTML)"""
    )
    assert unnamed == []

    page.get_by_label("API key").focus()
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Convert", exact=True)).to_be_focused()


def test_it_goes_on_when_the_server_is_back(page: Page, server_with_page: RunningServer) -> None:
    """Last: the server of the module restarts."""
    scan = {"name": "scan.pdf", "mimeType": "application/pdf", "buffer": scanned_pdf(pages=2)}
    convert(page, scan)
    expect(row(page, "scan.pdf")).to_contain_text(
        re.compile("page|Loading|Converting|Starting", re.I)
    )
    server_with_page.stop()
    expect(page.get_by_text("No connection, trying again")).to_be_visible()
    shutil.rmtree(server_with_page.temp)
    server_with_page.start()

    expect(page.get_by_text("Connected")).to_be_visible()
    expect(row(page, "scan.pdf")).to_contain_text("Done")
