"""Documents that are small to send and would keep a converter busy for minutes, made by code."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from PIL import Image

_ODS_TYPE = "application/vnd.oasis.opendocument.spreadsheet"


def _zip(parts: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


# ---- text ----------------------------------------------------------------------------------------


def backticks(count: int = 1500) -> bytes:
    """Runs of backticks, each longer than the one before, so that none closes another."""
    return " ".join("`" * length for length in range(1, count)).encode()


def underscores(count: int = 60_000) -> bytes:
    """Emphasis that opens and never closes."""
    return ("_a " * count).encode()


def stars(count: int = 60_000) -> bytes:
    return ("*a **a " * count).encode()


def brackets(count: int = 60_000) -> bytes:
    return b"[" * count


def links(count: int = 30_000) -> bytes:
    return b"[a](b" * count


def entities(count: int = 60_000) -> bytes:
    return b"&amp;&lt;" * count


def quotes(count: int = 5_000) -> bytes:
    """Quotations, each in the one before."""
    return b">" * count + b" a"


def markdown_table(columns: int = 1000, rows: int = 1000) -> bytes:
    """A wide head, and rows of one cell, which are filled up."""
    head = "|" + "a|" * columns + "\n|" + "-|" * columns + "\n"
    return (head + "|a|\n" * rows).encode()


def deep_html(depth: int = 50_000, tag: str = "div") -> bytes:
    return (f"<{tag}>" * depth + "x").encode()


def spans_html(rows: int = 60_000, columns: int = 1000) -> bytes:
    """A table of one cell that says how large it is."""
    return f'<table><tr><td rowspan="{rows}" colspan="{columns}">x</td></tr></table>'.encode()


def unclosed_html(count: int = 50_000) -> bytes:
    return b"<p><b>x" * count


def long_line_csv(mib: int = 200) -> bytes:
    return b"a," * (mib * 512 * 1024)


# ---- office --------------------------------------------------------------------------------------

_CONTENT_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Default Extension="png" ContentType="image/png"/>'
    '<Override PartName="/{part}" ContentType="application/vnd.openxmlformats-officedocument.'
    '{kind}.main+xml"/>{more}</Types>'
)
_RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
    'relationships/{kind}" Target="{target}"/></Relationships>'
)
_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def xlsx_of(cells: str, *, dimension: str = "") -> bytes:
    """A workbook of one sheet whose rows are ``cells``, as XML."""
    sheet_type = (
        '<Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/'
        'vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
    )
    said = f'<dimension ref="{dimension}"/>' if dimension else ""
    return _zip(
        {
            "[Content_Types].xml": _CONTENT_TYPES.format(
                part="xl/workbook.xml", kind="spreadsheetml.sheet", more=sheet_type
            ),
            "_rels/.rels": _RELATIONS.format(kind="officeDocument", target="xl/workbook.xml"),
            "xl/workbook.xml": f'<workbook xmlns="{_SHEETS}" xmlns:r="{_OFFICE}"><sheets>'
            '<sheet name="a" sheetId="1" r:id="rId1"/></sheets></workbook>',
            "xl/_rels/workbook.xml.rels": _RELATIONS.format(
                kind="worksheet", target="worksheets/sheet1.xml"
            ),
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_SHEETS}">{said}'
            f"<sheetData>{cells}</sheetData></worksheet>",
        }
    )


def far_corners() -> bytes:
    """Two cells, at the first and the last place that a sheet has."""
    return xlsx_of(
        '<row r="1"><c r="A1"><v>1</v></c></row>'
        '<row r="1048576"><c r="XFD1048576"><v>2</v></c></row>'
    )


def repeated_ods(rows: int = 1_048_576, columns: int = 16_384) -> bytes:
    """One cell, said to be there as often as a sheet has room."""
    names = "urn:oasis:names:tc:opendocument:xmlns:"
    content = (
        f'<office:document-content xmlns:office="{names}office:1.0" '
        f'xmlns:table="{names}table:1.0" xmlns:text="{names}text:1.0" office:version="1.2">'
        '<office:body><office:spreadsheet><table:table table:name="a">'
        f'<table:table-row table:number-rows-repeated="{rows}">'
        f'<table:table-cell table:number-columns-repeated="{columns}" '
        'office:value-type="string"><text:p>x</text:p></table:table-cell></table:table-row>'
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    manifest = (
        f'<manifest:manifest xmlns:manifest="{names}manifest:1.0">'
        f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{_ODS_TYPE}"/>'
        '<manifest:file-entry manifest:full-path="content.xml" '
        'manifest:media-type="text/xml"/></manifest:manifest>'
    )
    return _zip({"mimetype": _ODS_TYPE, "content.xml": content, "META-INF/manifest.xml": manifest})


def one_image_often(count: int = 5000) -> bytes:
    """A text document that shows one picture again and again."""
    picture = io.BytesIO()
    Image.effect_noise((1000, 1000), 50).save(picture, "PNG")
    words = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    drawing = "http://schemas.openxmlformats.org/drawingml/2006"
    shown = (
        '<w:p><w:r><w:drawing><wp:inline><wp:extent cx="9" cy="9"/><wp:docPr id="1" name="p"/>'
        f'<a:graphic><a:graphicData uri="{drawing}/picture"><pic:pic><pic:blipFill>'
        '<a:blip r:embed="rId1"/></pic:blipFill></pic:pic></a:graphicData></a:graphic>'
        "</wp:inline></w:drawing></w:r></w:p>"
    )
    return _zip(
        {
            "[Content_Types].xml": _CONTENT_TYPES.format(
                part="word/document.xml", kind="wordprocessingml.document", more=""
            ),
            "_rels/.rels": _RELATIONS.format(kind="officeDocument", target="word/document.xml"),
            "word/_rels/document.xml.rels": _RELATIONS.format(
                kind="image", target="media/image1.png"
            ),
            "word/media/image1.png": picture.getvalue(),
            "word/document.xml": f'<w:document xmlns:w="{words}" xmlns:r="{_OFFICE}" '
            f'xmlns:a="{drawing}/main" xmlns:pic="{drawing}/picture" '
            f'xmlns:wp="{drawing}/wordprocessingDrawing"><w:body>{shown * count}</w:body>'
            "</w:document>",
        }
    )


# ---- images and PDF ------------------------------------------------------------------------------


def frames(kind: str, count: int = 3000) -> bytes:
    """An image of ``kind`` (GIF, WEBP, TIFF) with so many tiny frames, no two of them alike."""
    pictures = [Image.new("RGB", (16, 16), (n % 256, n // 256 % 256, 0)) for n in range(count)]
    out = io.BytesIO()
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:], lossless=True)
    return out.getvalue()


def low_dpi_png(side: int = 3000, dots_per_metre: int = 1) -> bytes:
    """A white picture that says it is huge: hundreds of metres on paper."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    rows = zlib.compress((b"\0" + b"\xff" * side) * side, 9)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
            chunk(b"pHYs", struct.pack(">IIB", dots_per_metre, dots_per_metre, 1)),
            chunk(b"IDAT", rows),
            chunk(b"IEND", b""),
        ]
    )


def nested_forms(depth: int = 12, each: int = 10) -> bytes:
    """A PDF page of forms, each of which paints the next one ``each`` times."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Contents 4 0 R"
        b"/Resources<</XObject<</F 5 0 R>>>>>>",
        _stream(b"", b"/F Do"),
    ]
    for level in range(depth):
        last = level == depth - 1
        inside = b"0 0 9 9 re f" if last else b"/F Do " * each
        resources = b"" if last else b"/Resources<</XObject<</F %d 0 R>>>>" % (6 + level)
        objects.append(_stream(b"/Type/XObject/Subtype/Form/BBox[0 0 300 300]" + resources, inside))
    out, places = io.BytesIO(), []
    out.write(b"%PDF-1.7\n")
    for number, content in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    out.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start))
    return out.getvalue()


def _stream(entries: bytes, content: bytes) -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(content), content)
