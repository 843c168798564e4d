"""Words that a reader of the field stumbles over stay out of pages, messages and docstrings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: A word that is unusual in technical English, and what to write.
INSTEAD = {
    r"whoever|whomever": "name the role: the client, the operator",
    r"nobody|somebody": "name who: no client, an operator",
    r"told|untold": "reported to, notified, given",
    r"hears?|heard|unheard": "receives, is notified",
    r"(?:goes|go|went|gone) on": "continues",
    r"(?:lives|lived) on": "keeps running",
    r"all the same": "anyway",
    r"once only": "only once",
    r"in vain": "without success",
    r"anew": "again",
    r"mend|mends|mended": "fix, repair",
    r"(?:gives?|gave) (?:it|them) back": "frees, returns",
    r"hence|thence|whence|thereby|whereby|wherein|thereof|hitherto": "so, where, by this",
    r"lest": "so that ... not",
    r"upon|amongst|whilst|besides": "on, among, while, in addition to",
    r"(?<!there )(?:is|are|was) no (?:file|folder|number|source|list|URL|page)": "is not a ...",
}
BANNED = re.compile(rf"\b(?:{'|'.join(INSTEAD)})\b", re.IGNORECASE)
#: What is prose in a Python file, near enough: comments, docstrings and other texts.
PROSE = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*')
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / ".env.example"]
SOURCES = sorted((ROOT / "docling_serve").rglob("*.py"))
#: The name of a column that an older journal has.
EXCEPT = {"docling_serve/engines/local/journal/schema.py": "untold"}


def _found(text: str, allowed: str = "") -> list[str]:
    return [word for word in BANNED.findall(text) if word != allowed]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_none_of_them(page: Path) -> None:
    assert _found(page.read_text(encoding="utf-8")) == []


def test_no_message_and_no_docstring_has_them() -> None:
    found = {}
    for file in SOURCES:
        name = file.relative_to(ROOT).as_posix()
        prose = "\n".join(PROSE.findall(file.read_text(encoding="utf-8")))
        if words := _found(prose, EXCEPT.get(name, "")):
            found[name] = words
    assert found == {}


@pytest.mark.parametrize(
    "text",
    ["the task goes on", "Nobody waits", "'a.pdf' is no file, folder or URL", "it lived on."],
)
def test_they_are_found(text: str) -> None:
    assert len(_found(text)) == 1


@pytest.mark.parametrize("text", ["a task is no longer there", "foregone one", "anewton"])
def test_others_are_not(text: str) -> None:
    assert _found(text) == []
