from __future__ import annotations

import pytest

from docling_serve.vram.visibility import select_visible

UUIDS = ["GPU-aa11", "GPU-aa22", "GPU-bb33"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("NoDevFiles", []),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("1,1", [1]),
        ("0,-1,1", [0]),
        ("0,7,1", [0]),
        ("0,,1", [0]),
        ("GPU-bb33", [2]),
        ("gpu-BB", [2]),
        ("GPU-aa", []),
        ("GPU-aa2,0", [1, 0]),
        ("GPU-cc", []),
        ("1,GPU-cc,0", [1]),
        ("MIG-cc,0", ["MIG-cc", 0]),
    ],
)
def test_cuda_visible_devices(spec: str | None, expected: list[int | str]) -> None:
    assert select_visible(spec, UUIDS) == expected


def test_a_gpu_without_uuid_keeps_its_index() -> None:
    assert select_visible("1,GPU-bb", ["GPU-aa", None, "GPU-bb"]) == [1, 2]
