"""Let go of the code that a worker has run, while it is at rest.

The kernel counts pages of program files as memory of each process that has touched them: 60 MB in
a fresh worker, and 85 MB after a scan. They stay in the page cache, so a process gets them back
with a few hundred page faults.

Sources: dl_iterate_phdr(3), elf(5), madvise(2).
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from typing import Any

_PT_LOAD, _PT_DYNAMIC = 1, 2
_PF_X, _PF_W = 1, 2
_DT_NULL, _DT_TEXTREL, _DT_FLAGS = 0, 22, 30
_DF_TEXTREL = 4
_MADV_DONTNEED = 4


class _Header(ctypes.Structure):
    """``Elf64_Phdr``."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("physical", ctypes.c_uint64),
        ("in_file", ctypes.c_uint64),
        ("in_memory", ctypes.c_uint64),
        ("alignment", ctypes.c_uint64),
    )


class _Dynamic(ctypes.Structure):
    """``Elf64_Dyn``."""

    _fields_ = (("tag", ctypes.c_int64), ("value", ctypes.c_uint64))


class _Object(ctypes.Structure):
    """The start of ``struct dl_phdr_info``."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("headers", ctypes.POINTER(_Header)),
        ("count", ctypes.c_uint16),
    )


_Visit = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Object), ctypes.c_size_t, ctypes.c_void_p)


def let_go_of_code() -> None:
    """Drop the pages of executable segments of all loaded files from this process. Does nothing
    where the C library cannot list them."""
    libc = ctypes.CDLL(None)
    visit_all = getattr(libc, "dl_iterate_phdr", None)
    if visit_all is None or ctypes.sizeof(ctypes.c_void_p) != ctypes.sizeof(ctypes.c_uint64):
        return
    ranges: list[tuple[int, int]] = []

    def visit(found: Any, _size: int, _data: int | None) -> int:
        ranges.extend(_code(found.contents))
        return 0

    visit_all(_Visit(visit), None)
    for start, length in ranges:
        # Refused for what is not a file, such as the kernel's own page of code.
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_DONTNEED)


def _code(loaded: _Object) -> Iterator[tuple[int, int]]:
    """Start and length in bytes, in whole pages, of the segments that are only read and run."""
    headers = [loaded.headers[number] for number in range(loaded.count)]
    if not loaded.name or any(_is_relocated(loaded.base, header) for header in headers):
        return
    for header in headers:
        if header.type == _PT_LOAD and header.flags & (_PF_X | _PF_W) == _PF_X:
            start = loaded.base + header.address
            first = start - start % mmap.PAGESIZE
            yield first, start + header.in_file - first


def _is_relocated(base: int, header: _Header) -> bool:
    """Whether the loader wrote addresses into the code, which the file does not have."""
    if header.type != _PT_DYNAMIC:
        return False
    entries = ctypes.cast(
        ctypes.c_void_p(base + header.address), ctypes.POINTER(_Dynamic * (1 << 16))
    ).contents
    for entry in entries:
        if entry.tag == _DT_NULL:
            return False
        if entry.tag == _DT_TEXTREL or (entry.tag == _DT_FLAGS and entry.value & _DF_TEXTREL):
            return True
    return False
