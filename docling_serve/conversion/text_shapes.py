"""Refuse text whose shape keeps a parser busy for minutes: endless paragraphs, depth, huge tables.

Each check takes linear time in the size of the text, whatever its content.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from docling_serve.conversion.document_limits import DocumentLimits, OverLimit

#: What makes docling's Markdown parser scan the rest of its paragraph again.
_MARKS = ("`", "](")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
#: What starts a block of its own: a bullet, the first number, a heading, a row of a table.
_BLOCK = re.compile(r"\s*(?:[-*+]\s|1[.)]\s|#{1,6}\s|\|)")
_QUOTE_OR_LIST = "> \t-*+"
_DELIMITERS = ",;\t|"

_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
#: Elements without content.
_EMPTY = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source"}
    | {"track", "wbr"}
)
#: Elements that end where the next one of the same kind starts.
_SIBLINGS = frozenset({"p", "li", "dt", "dd", "tr", "td", "th", "option"})
#: Their content is not markup.
_RAW = frozenset({"script", "style"})


def check_markdown(text: str, limits: DocumentLimits) -> None:
    """Raises ``OverLimit``; code in fences is not checked."""
    marks = cells = columns = 0
    fence = ""
    for line in text.splitlines():
        opening = _FENCE.match(line)
        if fence:
            fence = "" if opening and opening[1].startswith(fence) else fence
            continue
        if opening:
            fence, marks = opening[1], 0
            continue
        _check_depth(_quotes(line), limits)
        if not line.strip() or _BLOCK.match(line):
            marks = 0
        marks += sum(line.count(mark) for mark in _MARKS)
        if marks > limits.max_paragraph_marks:
            raise OverLimit(
                f"A paragraph has more than {limits.max_paragraph_marks} backticks and links"
                " (max_paragraph_marks)."
            )
        columns = max(columns, line.count("|")) if line.lstrip().startswith("|") else 0
        cells = cells + columns if columns else 0
        check_cells(cells, "A table", limits)


def _quotes(line: str) -> int:
    """How many quotations and list items a line opens."""
    start = line[: len(line) - len(line.lstrip(_QUOTE_OR_LIST))]
    return start.count(">") + sum(start.count(f"{bullet} ") for bullet in "-*+")


def check_html(text: str, limits: DocumentLimits) -> None:
    """Raises ``OverLimit``. An element without an end tag contains all that follows it, as in
    docling's parser; of paragraphs and the like only the last one does."""
    inside: list[str] = []
    open_ones: Counter[str] = Counter()
    for name, ends in _tags(text):
        if not ends:
            if name in _SIBLINGS and inside and inside[-1] == name:
                continue
            inside.append(name)
            open_ones[name] += 1
            _check_depth(len(inside), limits)
        elif open_ones[name]:
            while True:
                last = inside.pop()
                open_ones[last] -= 1
                if last == name:
                    break


def _tags(text: str) -> Iterator[tuple[str, bool]]:
    """The name of each tag, and whether it ends an element; those without content are left out."""
    at = 0
    while (at := text.find("<", at)) >= 0:
        if text.startswith("<!--", at):
            at = text.find("-->", at)
            if at < 0:
                return
            continue
        tag = _TAG.match(text, at)
        if tag is None:
            at += 1
            continue
        end = text.find(">", tag.end())
        if end < 0:
            return
        name, ends = tag[2].lower(), bool(tag[1])
        at = end
        if name in _EMPTY or text[end - 1] == "/":
            continue
        if name in _RAW and not ends:
            closing = re.compile(f"</{name}", re.IGNORECASE).search(text, end)
            if closing is None:
                return
            at = closing.start() + 1
            continue
        yield name, ends


def _check_depth(depth: int, limits: DocumentLimits) -> None:
    if depth > limits.max_markup_depth:
        raise OverLimit(
            f"The document is nested more than {limits.max_markup_depth} levels deep, or has that"
            " many unclosed elements (max_markup_depth)."
        )


def check_csv(text: str, limits: DocumentLimits) -> None:
    """Raises ``OverLimit``."""
    cells = max(text.count(delimiter) for delimiter in _DELIMITERS) + text.count("\n")
    check_cells(cells, "The table", limits)


def check_cells(cells: int, what: str, limits: DocumentLimits) -> None:
    """Raises ``OverLimit`` if ``what`` has too many."""
    if cells > limits.max_table_cells:
        raise OverLimit(f"{what} has more than {limits.max_table_cells} cells (max_table_cells).")
