from __future__ import annotations

from pathlib import Path

from docling_serve.cli.client.inputs import Source
from docling_serve.cli.client.results import Folder


def stems(folder: Path, *paths: Path, formats: tuple[str, ...] = ("md",)) -> list[str]:
    sources = [Source(str(path), path.name, path=path) for path in paths]
    return Folder(folder).stems(sources, formats)


def test_the_suffix_of_a_source_is_replaced(tmp_path: Path) -> None:
    assert stems(tmp_path / "out", Path("notes.md"), Path("scan.pdf")) == ["notes", "scan"]


def test_sources_of_one_stem_are_kept_apart_in_their_order(tmp_path: Path) -> None:
    found = stems(tmp_path, Path("a/x.pdf"), Path("b/x.docx"), Path("x-2.pdf"))

    assert found == ["x", "x-2", "x-2-2"]


def test_no_result_replaces_a_source(tmp_path: Path) -> None:
    notes = tmp_path / "notes.md"

    assert stems(tmp_path, notes) == ["notes-2"]
    assert stems(tmp_path, notes, formats=("json",)) == ["notes"]


def test_formats_have_files_of_their_own(tmp_path: Path) -> None:
    written = Folder(tmp_path / "out").write("x", {"md": "# X", "text": "X", "doctags": "<x>"})

    assert [path.name for path in written] == ["x.md", "x.txt", "x.doctags.txt"]
