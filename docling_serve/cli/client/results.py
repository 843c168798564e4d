"""Where results go: files, or standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from docling_serve.cli.client.inputs import Source

#: Formats that a result contains as text, with their fields and their suffixes.
FIELDS = {
    "md": "md_content",
    "json": "json_content",
    "html": "html_content",
    "text": "text_content",
    "doctags": "doctags_content",
    "doclang": "doclang_content",
}
SUFFIXES = {"text": "txt", "doctags": "doctags.txt", "doclang": "doclang.xml"}


@dataclass(frozen=True)
class Outcome:
    """The outcome of one source. ``error`` is None for a success; ``files`` were written."""

    source: Source
    task_id: str | None = None
    error: str | None = None
    stage: str = ""
    files: Sequence[Path] = ()
    document: dict[str, Any] | None = None
    waited_s: float | None = None
    converted_s: float | None = None

    def line(self) -> str:
        """One line of JSON; includes the document where no file was written."""
        shown: dict[str, Any] = {
            "source": self.source.shown,
            "task_id": self.task_id,
            "status": "success" if self.error is None else "failure",
            "error": self.error,
            "waited_s": self.waited_s,
            "converted_s": self.converted_s,
            "files": [str(path) for path in self.files],
        }
        if not self.files:
            shown["document"] = self.document
        return json.dumps(shown, ensure_ascii=False)


def texts(document: dict[str, Any], formats: Iterable[str]) -> dict[str, str]:
    """The contents of ``document`` by format, where present."""
    found = {name: document.get(FIELDS[name]) for name in formats}
    return {
        name: content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        for name, content in found.items()
        if content is not None
    }


@dataclass(frozen=True)
class Folder:
    """A folder for results. Files of an earlier command are replaced."""

    path: Path

    def write(self, stem: str, contents: dict[str, str]) -> list[Path]:
        """Write one document's contents; returns the files.

        Raises:
            OSError: the folder cannot be created, or a file cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        written = []
        for name, text in contents.items():
            target = self.path / _file_name(stem, name)
            target.write_text(text, encoding="utf-8")
            written.append(target)
        return written

    def stems(self, sources: Sequence[Source], formats: Sequence[str]) -> list[str]:
        """The file stem of each source: no two alike, and none that would replace a source."""
        kept = {source.path.resolve() for source in sources if source.path is not None}
        stems: list[str] = []

        def is_free(stem: str) -> bool:
            files = (self.path / _file_name(stem, name) for name in formats)
            return stem not in stems and not any(file.resolve() in kept for file in files)

        for source in sources:
            first = Path(source.name).stem or source.name
            numbered = (f"{first}-{number}" for number in count(2))
            stems.append(next(stem for stem in chain([first], numbered) if is_free(stem)))
        return stems


@dataclass(frozen=True)
class OneFile:
    """The file for the one content of one document."""

    path: Path

    def write(self, stem: str, contents: dict[str, str]) -> list[Path]:
        """See :meth:`Folder.write`."""
        del stem
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for text in contents.values():
            self.path.write_text(text, encoding="utf-8")
        return [self.path] if contents else []

    def stems(self, sources: Sequence[Source], formats: Sequence[str]) -> list[str]:
        """See :meth:`Folder.stems`."""
        del formats
        return [self.path.stem for _ in sources]


def _file_name(stem: str, format_name: str) -> str:
    return f"{stem}.{SUFFIXES.get(format_name, format_name)}"
