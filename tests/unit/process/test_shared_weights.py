"""Weights in the page cache."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from docling_serve.process import shared_weights
from docling_serve.process.shared_weights import available_memory, preload_models_mmap

_SIZE = 3 * 2**20 + 17


def _weights(path: Path, size: int = _SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"w" * size)
    return path


def _resident_pages(path: Path) -> int:
    """Pages of the file that the page cache holds, by mincore(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = path.stat().st_size
    seen = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        failed = libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), size, seen)
        del start
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return sum(page & 1 for page in seen)


def _drop_from_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_every_page_is_in_the_page_cache_afterwards(tmp_path: Path) -> None:
    weights = _weights(tmp_path / "layout" / "model.safetensors")
    pages = -(-_SIZE // mmap.PAGESIZE)
    _drop_from_cache(weights)
    if _resident_pages(weights) == pages:
        pytest.skip("this file system keeps its files in memory")
    report = preload_models_mmap(tmp_path)
    assert _resident_pages(weights) == pages
    assert (report.files, report.bytes, report.skipped) == (1, _SIZE, ())
    assert report.seconds > 0


def test_takes_weights_of_every_format_and_nothing_else(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b/b.bin", "b/c.pt", "b/d.onnx", "b/d.onnx_data", "E.ONNX"):
        _weights(tmp_path / name, 10)
    for name in ("config.json", "b/vocab.txt", "README.md", "tokenizer.model"):
        _weights(tmp_path / name, 10)
    report = preload_models_mmap(str(tmp_path))
    assert (report.files, report.bytes) == (6, 60)


def test_a_file_is_taken_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    # As in a model hub's cache: snapshots link to blobs, whose names have no ending.
    blob = _weights(tmp_path / "blobs" / "0a1b", 100)
    for snapshot in ("one", "two"):
        (tmp_path / "snapshots" / snapshot).mkdir(parents=True)
        (tmp_path / "snapshots" / snapshot / "model.safetensors").symlink_to(blob)
    (tmp_path / "snapshots" / "back").symlink_to(tmp_path)
    report = preload_models_mmap(tmp_path)
    assert (report.files, report.bytes) == (1, 100)


def test_skips_what_does_not_fit_and_says_so(tmp_path: Path) -> None:
    _weights(tmp_path / "a.bin", 100)
    _weights(tmp_path / "b.bin", 300)
    _weights(tmp_path / "c.bin", 50)
    report = preload_models_mmap(tmp_path, keep_free=1000, available=lambda: 1200)
    assert (report.files, report.bytes) == (2, 150)
    (skipped,) = report.skipped
    assert skipped.path == "b.bin"
    assert "do not fit" in skipped.reason


def test_takes_nothing_when_memory_is_short(tmp_path: Path) -> None:
    _weights(tmp_path / "a.bin", 100)
    report = preload_models_mmap(tmp_path, keep_free=1000, available=lambda: 500)
    assert (report.files, [file.path for file in report.skipped]) == (0, ["a.bin"])


def test_files_larger_than_what_is_mapped_at_a_time_are_touched_to_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_weights, "_WINDOW", 2**20)
    weights = _weights(tmp_path / "a.bin")
    _drop_from_cache(weights)

    assert preload_models_mmap(tmp_path).bytes == _SIZE
    assert _resident_pages(weights) == -(-_SIZE // mmap.PAGESIZE)


def test_comes_to_an_early_end_when_told(tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        _weights(tmp_path / name, 100)
    answers = iter([False, False, True])

    report = preload_models_mmap(tmp_path, stopped=lambda: next(answers))

    assert report.files == 1


def test_an_empty_file_is_no_trouble(tmp_path: Path) -> None:
    _weights(tmp_path / "a.bin", 0)
    assert preload_models_mmap(tmp_path).skipped == ()


def test_says_that_there_is_no_such_folder(tmp_path: Path) -> None:
    (skipped,) = preload_models_mmap(tmp_path / "nothing").skipped
    assert skipped.reason == "not a folder"


def test_knows_the_memory_of_this_machine() -> None:
    available = available_memory()
    assert 0 < available <= os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE
