"""Whether a process has opened a GPU, by the links that the kernel shows of its open files."""

from __future__ import annotations

from pathlib import Path

import pytest

from docling_serve.subprocess_worker.child.gpu_use import (
    has_opened_gpu,
    show_one_gpu,
    take_device_number,
)


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


@pytest.mark.parametrize(
    ("device", "shown", "granted", "device_after", "shown_after"),
    [
        (None, None, None, None, None),
        (None, None, "GPU-b", None, "GPU-b"),
        ("cuda:1", None, "GPU-b", "cuda", "GPU-b"),
        ("cuda:1", None, None, "cuda", "1"),
        ("CUDA:1", "GPU-b, GPU-a", None, "cuda", "GPU-a"),
        ("cuda:0", "3", None, "cuda", "3"),
        ("cuda:2", "0,1", None, "cuda", "-1"),
        ("cuda", "0,1", None, "cuda", "0,1"),
        ("cpu", None, "GPU-b", "cpu", "GPU-b"),
    ],
)
def test_a_worker_is_shown_one_gpu_and_calls_it_the_first(
    device: str | None,
    shown: str | None,
    granted: str | None,
    device_after: str | None,
    shown_after: str | None,
) -> None:
    given = {"DOCLING_DEVICE": device, "CUDA_VISIBLE_DEVICES": shown}
    environ = {name: value for name, value in given.items() if value is not None}

    show_one_gpu(environ, granted, take_device_number(environ))

    assert environ.get("DOCLING_DEVICE") == device_after
    assert environ.get("CUDA_VISIBLE_DEVICES") == shown_after
