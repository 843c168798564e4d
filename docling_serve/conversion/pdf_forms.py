"""How often the forms of a PDF are painted: each may paint others, several times, recursively.

Reads the file itself, since a library that opens such a page is already stuck. Forms that this
cannot see are not counted: those of encrypted files, and those whose resources are elsewhere.
"""

from __future__ import annotations

import mmap
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping

Pdf = bytes | mmap.mmap
"""The content of a file, in memory or mapped."""

_FORM = b"/Form"
_NUMBER = re.compile(rb"(\d{1,9})\s+\d{1,5}\s+$")
_NAMED = re.compile(rb"/([^\s/<>\[\]()]{1,127})\s+(\d{1,9})\s+\d{1,5}\s+R\b")
_PAINTED = re.compile(rb"/([^\s/<>\[\]()]{1,127})\s+Do\b")
_DICTIONARY_BYTES = 4000
_CONTENT_BYTES = 1024 * 1024
#: Longer chains of forms are not followed; programs write three or four.
_DEPTH = 50


def most_paints(pdf: Pdf, at_most: int) -> int:
    """How many forms are painted when one of them is, for the form with the most; at most
    ``at_most + 1``."""
    forms = dict(_forms(pdf))
    counts: dict[int, int] = {}

    def paints(form: int, depth: int) -> int:
        if form not in forms or depth > _DEPTH:
            return 1
        if form not in counts:
            counts[form] = 1  # in case it paints itself
            inside = sum(times * paints(other, depth + 1) for other, times in forms[form].items())
            counts[form] = min(at_most + 1, 1 + inside)
        return counts[form]

    return max((paints(form, 0) for form in forms), default=0)


def _forms(pdf: Pdf) -> Iterator[tuple[int, Mapping[int, int]]]:
    """The number of each form, with the numbers of those that it paints, and how often."""
    at = 0
    while (at := pdf.find(_FORM, at + 1)) >= 0:
        begins = pdf.rfind(b" obj", max(0, at - _DICTIONARY_BYTES), at)
        ends = pdf.find(b"stream", at, at + _DICTIONARY_BYTES)
        number = _NUMBER.search(pdf[max(0, begins - 20) : begins + 1]) if begins >= 0 else None
        if number is None or ends < 0:
            continue
        dictionary = pdf[begins:ends]
        named = {name: int(other) for name, other in _NAMED.findall(dictionary)}
        painted = _PAINTED.findall(_content(pdf, ends + len(b"stream"), dictionary))
        yield int(number[1]), Counter(named[name] for name in painted if name in named)


def _content(pdf: Pdf, start: int, dictionary: bytes) -> bytes:
    start += 2 if pdf[start : start + 2] == b"\r\n" else 1  # the end of the line
    end = pdf.find(b"endstream", start, start + _CONTENT_BYTES)
    content = pdf[start : end if end >= 0 else start + _CONTENT_BYTES]
    if b"FlateDecode" not in dictionary:
        return content
    try:
        return zlib.decompressobj().decompress(content, _CONTENT_BYTES)
    except zlib.error:
        return b""
