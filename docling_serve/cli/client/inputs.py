"""What the arguments of ``convert`` stand for: files, folders, URLs, and standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import typer

STDIN = "-"
_SUFFIXES = """
aac adoc afp asc asciidoc avi bmp boxnote csv dclg dclg.xml dclx doc docm docx dot dotm dotx ebc
ebcdic eml epub flac gif gz htm html jpeg jpg json key latex m4a markdown md mht mhtml mkv mov
mp3 mp4 mpga msg numbers nxml odp ods odt ogg otp ots ott pages pdf png pot potm potx pps ppsm
ppsx ppt pptm pptx qmd rmd rtf tar tar.gz tex text tif tiff txt vtt wav webm webp xbrl xhtml xls
xlsm xlsx xlt xltm xltx xml
"""
#: Suffixes that a folder is searched for: those of docling's formats, without a dot.
SUFFIXES = frozenset(_SUFFIXES.split())


@dataclass(frozen=True)
class Source:
    """A document. ``shown`` is how the user named it; ``name`` is what the server calls it. One of
    ``path``, ``url`` and ``data`` (of standard input) is set."""

    shown: str
    name: str
    path: Path | None = None
    url: str | None = None
    data: bytes | None = None

    def read(self) -> bytes:
        """Its bytes; not for a URL, which the server fetches."""
        return self.path.read_bytes() if self.path is not None else self.data or b""


def expand(words: Sequence[str], stdin_name: str) -> list[Source]:
    """All documents that ``words`` name, in order; for folders all documents in them, sorted.

    Raises:
        typer.BadParameter: a file does not exist, a folder has no document, or standard input is
            named twice.
    """
    sources: list[Source] = []
    for word in words:
        sources += _expand_one(word, stdin_name)
    if sum(source.data is not None for source in sources) > 1:
        raise typer.BadParameter("standard input (-) can be read only once")
    return sources


def _expand_one(word: str, stdin_name: str) -> Iterator[Source]:
    if word == STDIN:
        yield Source("standard input", stdin_name, data=sys.stdin.buffer.read())
        return
    if urlsplit(word).scheme in ("http", "https"):
        parts = urlsplit(word)
        name = PurePosixPath(unquote(parts.path)).name or parts.hostname or "document"
        yield Source(word, name, url=word)
        return
    path = Path(word)
    if path.is_file():
        yield Source(word, path.name, path=path)
    elif path.is_dir():
        found = sorted(each for each in path.rglob("*") if _is_document(each, path))
        if not found:
            raise typer.BadParameter(f"folder {word!r} contains no document that can be converted")
        yield from (Source(str(each), each.name, path=each) for each in found)
    else:
        raise typer.BadParameter(f"{word!r} is not a file, folder or URL")


def _is_document(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    known = any("".join(suffixes[-length:]).removeprefix(".") in SUFFIXES for length in (1, 2))
    return known and not hidden and path.is_file()
