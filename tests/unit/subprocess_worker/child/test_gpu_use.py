"""Whether a process has opened a GPU, by the links that the kernel shows of its open files."""

from __future__ import annotations

from pathlib import Path

import pytest

from docling_serve.subprocess_worker.child.gpu_use import has_opened_gpu


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        ([], False),
        (["/dev/null", "pipe:[4711]", "/home/nvidia/scan.pdf"], False),
        (["/dev/null", "/dev/nvidiactl"], True),
        (["/dev/nvidia0"], True),
        (["/dev/nvidia-uvm"], True),
        (["/dev/dxg"], True),
        (["/dev/kfd"], True),
    ],
)
def test_devices_of_gpus_are_told_from_other_files(
    tmp_path: Path, opened: list[str], expected: bool
) -> None:
    for number, target in enumerate(opened):
        (tmp_path / str(number)).symlink_to(target)

    assert has_opened_gpu(str(tmp_path)) is expected


def test_this_process_has_opened_none() -> None:
    assert has_opened_gpu() is False


def test_a_file_that_was_closed_meanwhile_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "3").write_text("no link: readlink() fails as for a closed file")

    assert has_opened_gpu(str(tmp_path)) is False
