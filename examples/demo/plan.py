"""The documents to convert, and how each is sent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EXAMPLES = Path(__file__).resolve().parents[1]
DOCUMENTS = EXAMPLES / "documents"
CONFIG_FILE = EXAMPLES / "embedded.yaml"

Mode = Literal["on", "off"]


@dataclass(frozen=True)
class Step:
    """One task: which document, sent as what, answered when."""

    document: str
    send: Literal["upload", "base64"]
    answer: Literal["sync", "async"]

    @property
    def path(self) -> Path:
        """The file on disk."""
        return DOCUMENTS / self.document

    @property
    def way(self) -> str:
        """How the document is sent, in two words."""
        return f"{self.send}, {self.answer}"


# Every document once, then the scans again: leaked memory shows only when work is repeated.
STEPS = (
    Step("scan.pdf", "upload", "sync"),
    Step("letter.docx", "base64", "sync"),
    Step("scan.png", "upload", "async"),
    Step("page.html", "base64", "async"),
    Step("notes.md", "upload", "sync"),
    Step("scan.png", "base64", "sync"),
    Step("scan.pdf", "base64", "async"),
)


def expected_phrases() -> dict[str, list[str]]:
    """Per document, what its Markdown must contain: phrases, and of scans the structure."""
    expected = json.loads((DOCUMENTS / "expected.json").read_text())
    return {
        name: [*entry["phrases"], *entry.get("structure", [])] for name, entry in expected.items()
    }


def missing_phrases(text: str, phrases: list[str]) -> list[str]:
    """The phrases that ``text`` lacks; line breaks and runs of spaces do not matter."""
    flat = " ".join(text.split())
    return [phrase for phrase in phrases if phrase not in flat]
