"""One small document of every format that docling converts without models, with a word in it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

WORD = "Lighthouse"

_EPUB_CONTAINER = (
    '<?xml version="1.0"?><container version="1.0" '
    'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
    'full-path="book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
_EPUB_PACKAGE = (
    '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
    'unique-identifier="id"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
    '<dc:identifier id="id">1</dc:identifier><dc:title>Log</dc:title>'
    "<dc:language>en</dc:language></metadata><manifest>"
    '<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>'
    '<spine><itemref idref="a"/></spine></package>'
)
_JATS = (
    '<?xml version="1.0"?><!DOCTYPE article PUBLIC "-//NLM//DTD JATS (Z39.96) Journal '
    'Archiving and Interchange DTD v1.2 20190208//EN" "JATS-archivearticle1.dtd">'
    "<article><front><article-meta><title-group><article-title>{word}</article-title>"
    "</title-group></article-meta></front><body><sec><title>Log</title><p>{word}</p></sec></body>"
    "</article>"
)
_JSON = (
    '{{"schema_name": "DoclingDocument", "version": "1.0.0", "name": "log", "body": {{"self_ref": '
    '"#/body", "children": [{{"$ref": "#/texts/0"}}]}}, "texts": [{{"self_ref": "#/texts/0", '
    '"parent": {{"$ref": "#/body"}}, "label": "text", "orig": "{word}", "text": "{word}"}}]}}'
)
_PLAIN = {
    "notes.md": "# Log\n\n{word}\n",
    "page.html": "<html><body><h1>Log</h1><p>{word}</p></body></html>",
    "table.csv": "Place,Depth\n{word},7\n",
    "log.adoc": "= Log\n\n{word} was painted.\n",
    "log.tex": "\\documentclass{{article}}\\begin{{document}}{word} was painted.\\end{{document}}",
    "film.vtt": "WEBVTT\n\n00:00.000 --> 00:02.000\n{word}\n",
    "letter.eml": "From: a@b.c\nTo: d@e.f\nSubject: Log\nContent-Type: text/plain\n\n{word}\n",
    "log.json": _JSON,
    "article.nxml": _JATS,
}


def _docx(file: Any) -> None:
    import docx

    made = docx.Document()
    made.add_paragraph(WORD)
    made.save(file)


def _pptx(file: Any) -> None:
    import pptx

    made = pptx.Presentation()
    made.slides.add_slide(made.slide_layouts[0]).shapes.title.text = WORD
    made.save(file)


def _xlsx(file: Any) -> None:
    import openpyxl

    made = openpyxl.Workbook()
    made.active["A1"] = WORD
    made.save(file)


def _odf(kind: str) -> Callable[[Any], None]:
    def write(file: Any) -> None:
        from odfdo import Document, Paragraph

        made = Document(kind)
        made.body.append(Paragraph(WORD))
        made.save(file)

    return write


def _epub(file: Any) -> None:
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("mimetype", "application/epub+zip")
        made.writestr("META-INF/container.xml", _EPUB_CONTAINER)
        made.writestr("book.opf", _EPUB_PACKAGE)
        page = f'<html xmlns="http://www.w3.org/1999/xhtml"><body><p>{WORD}</p></body></html>'
        made.writestr("a.xhtml", page)


_WRITTEN: dict[str, Callable[[Any], None]] = {
    "letter.docx": _docx,
    "slides.pptx": _pptx,
    "sheet.xlsx": _xlsx,
    "letter.odt": _odf("text"),
    "book.epub": _epub,
}


def model_free_documents() -> dict[str, bytes]:
    """Documents by name; :data:`WORD` is in each."""
    documents = {name: text.format(word=WORD).encode() for name, text in _PLAIN.items()}
    for name, write in _WRITTEN.items():
        file = io.BytesIO()
        write(file)
        documents[name] = file.getvalue()
    return documents
