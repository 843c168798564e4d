from __future__ import annotations

from pathlib import Path

import pytest
import typer
from docling.datamodel.base_models import FormatToExtensions

from docling_serve.cli.client.inputs import SUFFIXES, Source, expand


def test_a_folder_stands_for_the_documents_below_it(tmp_path: Path) -> None:
    for name in ("b.PDF", "a.docx", "sub/c.md", ".git/d.md", "e.exe"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    found = [source.name for source in expand([str(tmp_path)], "stdin.pdf")]

    assert found == ["a.docx", "b.PDF", "c.md"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/x/My%20file.pdf?sig=1", "My file.pdf"),
        ("http://example.org", "example.org"),
    ],
)
def test_a_url_is_named_after_its_path(url: str, name: str) -> None:
    assert expand([url], "") == [Source(url, name, url=url)]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="contains no document"):
        expand([str(tmp_path)], "")


def test_a_folder_is_searched_for_every_suffix_that_docling_converts() -> None:
    every = {suffix.lower() for group in FormatToExtensions.values() for suffix in group}

    assert every - SUFFIXES == set()
