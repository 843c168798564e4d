"""Which libraries a shared library needs, read from its file.

Source: System V ABI, chapter "Dynamic Linking"; ``elf.h`` for the numbers. 64-bit, little-endian
files only: those of x86-64 and 64-bit ARM.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"\x7fELF\x02\x01"
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH = 1, 5, 10, 15, 29
_HEADER = struct.Struct("<16x 16x Q 14x H H")  # e_phoff, e_phentsize, e_phnum
_SEGMENT = struct.Struct("<I 4x Q Q 8x Q 16x")  # p_type, p_offset, p_vaddr, p_filesz
_ENTRY = struct.Struct("<q Q")


@dataclass(frozen=True)
class Dynamic:
    """What a library requires of the loader: names, and folders to search first."""

    needed: tuple[str, ...]
    folders: tuple[Path, ...]


def read_dynamic(library: Path) -> Dynamic:
    """The needs of ``library``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a 64-bit little-endian ELF file, or a broken one.
    """
    try:
        with library.open("rb") as file:
            return _read(file, library.parent)
    except struct.error as exc:
        raise ValueError(f"{library} is broken: {exc}") from exc


def missing_libraries(library: Path) -> list[str]:
    """The names that ``library`` needs and that this process would not find for it. Libraries that
    are found get loaded.

    Raises:
        OSError, ValueError: as :func:`read_dynamic`.
    """
    needs = read_dynamic(library)
    return [name for name in needs.needed if not _is_found(name, needs.folders)]


def _is_found(name: str, folders: tuple[Path, ...]) -> bool:
    if any((folder / name).is_file() for folder in folders):
        return True
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _read(file: BinaryIO, origin: Path) -> Dynamic:
    header = file.read(64)
    if not header.startswith(_MAGIC):
        raise ValueError("no 64-bit little-endian ELF file")
    start, size, count = _HEADER.unpack_from(header)
    segments = [_SEGMENT.unpack(_at(file, start + size * n, _SEGMENT.size)) for n in range(count)]
    dynamic = next((one for one in segments if one[0] == _PT_DYNAMIC), None)
    if dynamic is None:
        return Dynamic((), ())
    entries = list(_entries(_at(file, dynamic[1], dynamic[3])))
    known = dict(entries)
    address = known.get(_DT_STRTAB, 0)
    offset = next(
        (
            address - virtual + position
            for kind, position, virtual, length in segments
            if kind == _PT_LOAD and virtual <= address < virtual + length
        ),
        None,
    )
    if offset is None:
        raise ValueError("its table of names is not in the file")
    names = _at(file, offset, known.get(_DT_STRSZ, 0))

    def text(place: int) -> str:
        return names[place : names.index(b"\0", place)].decode()

    paths = [text(value) for tag, value in entries if tag in (_DT_RPATH, _DT_RUNPATH)]
    return Dynamic(
        tuple(text(value) for tag, value in entries if tag == _DT_NEEDED),
        tuple(
            Path(folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", str(origin)))
            for path in paths
            for folder in path.split(":")
            if folder
        ),
    )


def _entries(table: bytes) -> Iterator[tuple[int, int]]:
    for tag, value in _ENTRY.iter_unpack(table):
        if tag == 0:
            return
        yield tag, value


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
