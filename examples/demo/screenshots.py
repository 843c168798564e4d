"""Takes the pictures of the page in ``docs/images``, from a server of its own.

``python -m examples.demo.screenshots`` needs Chromium and the extra ``dev``. The documents are the
bundled ones, and the pictures show real conversions.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from docling_serve.process.shutdown import unwinding_at_sigterm

from .plan import DOCUMENTS
from .server import TASK_WITHIN_S, DemoError, demo_server

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_WIDE = (1280, 860)
_PHONE = (390, 800)
_COLOURS = 256


@dataclass(frozen=True)
class Shot:
    """A picture: its file, what it shows, and how it is taken."""

    name: str
    show: Callable[[Page], None]
    size: tuple[int, int] = _WIDE
    dark: bool = False


def _convert(page: Page, *names: str) -> None:
    files = [str(DOCUMENTS / name) for name in names]
    page.get_by_label("Files", exact=True).set_input_files(files)
    page.get_by_role("button", name="Convert", exact=True).click()
    for name in names:
        page.locator(".row.done", has_text=name).wait_for()


def _pages(page: Page) -> None:
    page.get_by_label("Show pages").check()
    _convert(page, "scan.pdf", "page.html", "notes.md")
    page.get_by_role("tab", name="Pages").wait_for()


def _result(page: Page) -> None:
    _convert(page, "page.html")
    page.get_by_role("tab", name="Markdown", exact=True).wait_for()


def _tasks(page: Page) -> None:
    page.get_by_role("link", name="Tasks", exact=True).click()
    page.locator(".tasks tbody tr").first.wait_for()


def _operations(page: Page) -> None:
    page.get_by_role("link", name="Operations").click()
    page.locator(".staircase canvas").wait_for()


SHOTS = (
    Shot("page-convert", _pages),
    Shot("page-phone", _result, _PHONE, dark=True),
    Shot("page-tasks", _tasks),
    Shot("page-operations", _operations),
    Shot("page-operations-dark", _operations, dark=True),
)


@unwinding_at_sigterm()
def main() -> int:
    """Take all pictures; the exit status is 1 without a browser or a server."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo.screenshots", description=__doc__
    )
    parser.add_argument("--output", type=Path, default=Path("docs/images"), help="folder to write")
    output: Path = parser.parse_args().output
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        print("Chromium is needed (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        log = Path(folder) / "server.log"
        try:
            with demo_server("on", log, enable_ui="true", enable_management_endpoints="true") as at:
                at.wait_ready()
                browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
                for shot in SHOTS:
                    _take(browser, f"{at.url}/ui/", shot, output / f"{shot.name}.png")
                browser.close()
        except DemoError as exc:
            print(f"FAILED: {exc}", file=sys.stderr)
            return 1
    return 0


def _take(browser: Browser, url: str, shot: Shot, file: Path) -> None:
    width, height = shot.size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if shot.dark else "light"
    )
    page = context.new_page()
    page.set_default_timeout(TASK_WITHIN_S * 1000)
    page.goto(url)
    page.get_by_text("Connected").wait_for()
    shot.show(page)
    # A page needs few colours, and that keeps the file small.
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB").quantize(_COLOURS, kmeans=2)
    picture.save(file, optimize=True)
    context.close()
    print(f"{file} ({file.stat().st_size // 1024} KiB)")


if __name__ == "__main__":
    sys.exit(main())
