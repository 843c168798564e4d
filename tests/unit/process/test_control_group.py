from __future__ import annotations

from pathlib import Path

import pytest

from docling_serve.process.control_group import read_number, read_table

STAT = "anon 1024\nfile 2048\n"


def _own_group() -> str:
    return Path("/proc/self/cgroup").read_text(encoding="ascii").partition("0::")[2].strip("/\n")


@pytest.mark.parametrize("own", [True, False], ids=["own group", "mounted at the top"])
def test_figures_come_from_the_group_of_this_process(tmp_path: Path, own: bool) -> None:
    group = tmp_path / _own_group() if own else tmp_path
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.stat").write_text(STAT)
    (group / "memory.current").write_text("4096\n")

    assert read_table("memory.stat", tmp_path) == {"anon": 1024, "file": 2048}
    assert read_number("memory.current", tmp_path) == 4096


def test_no_limit_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")

    assert read_number("memory.max", tmp_path) is None


def test_without_version_2_there_is_nothing(tmp_path: Path) -> None:
    assert read_number("memory.current", tmp_path) is None
    assert read_table("memory.stat", tmp_path) == {}
