"""Needs of a shared library, compared with libraries that a compiler makes here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from docling_serve.doctor.elf import missing_libraries, read_dynamic
from tests.helpers.fake_gpu.build import compiler


def _library(folder: Path, name: str, *arguments: str) -> Path:
    used = compiler()
    if used is None:
        pytest.skip("no C compiler (gcc or cc) to build a library with")
    file = folder / name
    command = [used, "-shared", "-fPIC", "-x", "c", "/dev/null", "-x", "none", "-o", str(file)]
    subprocess.run([*command, f"-Wl,-soname,{name}", *arguments], check=True, timeout=300)
    return file


@pytest.mark.parametrize("kind", ["--enable-new-dtags", "--disable-new-dtags"])
def test_names_and_folders_are_read(tmp_path: Path, kind: str) -> None:
    _library(tmp_path, "libdeep.so.7")
    needs = ["-Wl,--no-as-needed", f"-L{tmp_path}", "-l:libdeep.so.7", "-lm"]
    path = f"-Wl,{kind},-rpath,$ORIGIN/sub:/elsewhere"

    found = read_dynamic(_library(tmp_path, "libtop.so", *needs, path))

    assert found.needed[:2] == ("libdeep.so.7", "libm.so.6")
    assert found.folders == (tmp_path / "sub", Path("/elsewhere"))


def test_what_the_loader_does_not_find_is_missing(tmp_path: Path) -> None:
    deep = _library(tmp_path, "libdeep.so.7")
    needs = ["-Wl,--no-as-needed", f"-L{tmp_path}", "-l:libdeep.so.7", "-lm"]
    beside = _library(tmp_path, "libbeside.so", *needs, "-Wl,-rpath,$ORIGIN")
    top = _library(tmp_path, "libtop.so", *needs)

    assert missing_libraries(beside) == []
    assert missing_libraries(top) == ["libdeep.so.7"]

    deep.unlink()
    assert missing_libraries(beside) == ["libdeep.so.7"]


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01" + bytes(20)])
def test_what_is_no_library_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)

    with pytest.raises(ValueError, match=r"ELF|broken"):
        read_dynamic(file)
