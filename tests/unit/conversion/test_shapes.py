"""Documents that say little and mean a lot are refused at a glance; ordinary ones are not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from docling.datamodel.base_models import InputFormat

from docling_serve.conversion.input_limits import InputLimits, OverLimit, check_document
from docling_serve.conversion.pdf_forms import most_paints
from tests.helpers import hostile_documents as hostile
from tests.helpers.api import DOCUMENTS

MD, HTML, CSV = InputFormat.MD, InputFormat.HTML, InputFormat.CSV

Make = Callable[[], bytes]


#: "İ" has two characters in lower case: positions differ from those of the text.
LONGER_IN_LOWER_CASE = f"<p>{'İ' * 20_000}</p><script></script>".encode()


@pytest.mark.parametrize(
    ("make", "format_", "setting"),
    [
        (hostile.backticks, MD, "max_paragraph_marks"),
        (hostile.links, MD, "max_paragraph_marks"),
        (hostile.quotes, MD, "max_markup_depth"),
        (hostile.markdown_table, MD, "max_table_cells"),
        (hostile.deep_html, HTML, "max_markup_depth"),
        (hostile.unclosed_html, HTML, "max_markup_depth"),
        (lambda: LONGER_IN_LOWER_CASE + hostile.unclosed_html(), HTML, "max_markup_depth"),
        (lambda: hostile.long_line_csv(2), CSV, "max_table_cells"),
        (hostile.far_corners, InputFormat.XLSX, "max_table_cells"),
        (hostile.repeated_ods, InputFormat.ODS, "max_table_cells"),
        (hostile.one_image_often, InputFormat.DOCX, "max_pictures"),
        (lambda: hostile.frames("GIF", 21), InputFormat.IMAGE, "max_image_frames"),
        (lambda: hostile.frames("WEBP", 21), InputFormat.IMAGE, "max_image_frames"),
        (lambda: hostile.frames("TIFF", 21), InputFormat.IMAGE, "max_image_frames"),
        (hostile.low_dpi_png, InputFormat.IMAGE, "max_image_pixels"),
        (hostile.nested_forms, InputFormat.PDF, "max_form_paints"),
    ],
)
def test_is_refused_with_the_name_of_the_setting(
    make: Make, format_: InputFormat, setting: str
) -> None:
    with pytest.raises(OverLimit, match=setting):
        check_document(io.BytesIO(make()), InputLimits(max_image_frames=20), format_)


FENCED = b"```json\n" + b'{"a_b": [1, "*"]}\n' * 5000 + b"```\n"
LISTED = b"- [a](b) *c*\n" * 5000
PARAGRAPHS = b"<body>" + b"<p>x <br> <img src=a>" * 5000
CLOSED = b"<div><ul><li>x</li></ul></div>" * 5000
SCRIPT = b"<script>" + b'"<b>"; ' * 5000 + b"</script><!-- " + b"<b>" * 5000 + b"-->"


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (FENCED, MD),
        (b"10:00 [INFO] a_b *c* <d> &amp; [x]\n" * 20_000, MD),
        (hostile.underscores(), MD),  # docling takes these with ease
        (hostile.stars(), MD),
        (hostile.brackets(), MD),
        (hostile.entities(), MD),
        (LISTED, MD),
        (b"a_b `c` [d](e)\n\n" * 5000, MD),
        (b"-" * 2000 + b"\n" + b"*" * 2000, MD),
        (b"|a|b|\n|-|-|\n" + b"|1|2|\n" * 10_000, MD),
        (PARAGRAPHS, HTML),
        (CLOSED, HTML),
        (SCRIPT, HTML),
        (hostile.spans_html(), HTML),
        (b"a < b <3 <!-- never closed", HTML),
        (b"a,b\n" * 10_000, CSV),
        (hostile.xlsx_of('<row r="9"><c r="XFC9"/><c r="XFD9" t="s"><v>1</v></c></row>'), None),
        (hostile.xlsx_of('<row r="1"><c r="A1"><v>1</v></c><c r="XFD1048576"/></row>'), None),
        (hostile.repeated_ods(100, 100), None),
        (hostile.one_image_often(100), None),
        (hostile.nested_forms(3, 3), InputFormat.PDF),
        (hostile.frames("GIF", 20), InputFormat.IMAGE),
    ],
)
def test_passes(content: bytes, format_: InputFormat | None) -> None:
    document = io.BytesIO(content)
    check_document(document, InputLimits(), format_)
    assert document.read() == content


@pytest.mark.parametrize("dpi", [(72, 72), (71.98, 71.98), (300, 300), (0, 0)])
def test_usual_resolutions_pass(dpi: tuple[float, float]) -> None:
    per_metre = round(dpi[0] / 0.0254)
    check_document(io.BytesIO(hostile.low_dpi_png(2000, per_metre)), InputLimits())


@pytest.mark.parametrize(
    "make", [hostile.deep_html, lambda: b"<!--" * 50_000, lambda: b"<" * 10**5]
)
def test_a_look_at_html_does_not_take_long_itself(make: Make) -> None:
    """They end, which a look that starts again at every sign would not in the time of a test."""
    limits = InputLimits(max_markup_depth=10**6)
    check_document(io.BytesIO(make()), limits, HTML)


def test_forms_are_counted_through_each_other() -> None:
    assert most_paints(hostile.nested_forms(3, 4), 1000) == 1 + 4 * (1 + 4)
    assert most_paints(hostile.nested_forms(60, 2), 1000) == 1001
    assert most_paints(b"%PDF-1.7 /Form", 1000) == 0


def test_forms_of_a_file_are_counted_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "forms.pdf"
    path.write_bytes(hostile.nested_forms(3, 4))
    with path.open("rb") as file, pytest.raises(OverLimit, match="max_form_paints"):
        check_document(file, InputLimits(max_form_paints=20), InputFormat.PDF)
    with path.open("rb") as file:
        check_document(file, InputLimits(max_form_paints=21), InputFormat.PDF)
        assert file.tell() == 0


@pytest.mark.parametrize("path", sorted(DOCUMENTS.glob("*.*")), ids=lambda path: path.name)
def test_the_examples_pass(path: Path) -> None:
    formats = {".md": MD, ".html": HTML, ".csv": CSV}
    with path.open("rb") as file:
        check_document(file, InputLimits(), formats.get(path.suffix))
