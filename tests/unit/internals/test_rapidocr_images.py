"""A page is prepared for RapidOCR's detection model as RapidOCR itself would prepare it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from rapidocr.ch_ppocr_det import utils

from docling_serve.internals.rapidocr_images import normalise_by_table

MEAN = [0.485, 0.456, 0.406]
DEVIATION = [0.229, 0.224, 0.225]
Image = npt.NDArray[np.generic]


def of_rapidocr(limit: str = "min") -> Any:
    return utils.DetPreProcess(736, limit, MEAN, DEVIATION)


def noise(*shape: int) -> Image:
    return np.random.default_rng(7).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(autouse=True)
def _by_table() -> None:
    normalise_by_table()
    normalise_by_table()


def as_rapidocr(preparation: Any, image: Image) -> Any:
    """What RapidOCR's own code gives."""
    usual: Any = utils.DetPreProcess.__call__
    return usual.__wrapped__(preparation, image)


@pytest.mark.parametrize(
    "image",
    [noise(800, 900, 3), noise(90, 70, 3), noise(800, 900, 3).astype(np.float32)],
    ids=["page", "small", "other numbers"],
)
def test_every_number_is_the_one_that_rapidocr_computes(image: Image) -> None:
    looked_up = of_rapidocr()(image)

    assert looked_up.dtype == np.float32
    assert np.array_equal(looked_up, as_rapidocr(of_rapidocr(), image))


def test_a_sliver_that_cannot_be_resized_is_left_out_as_before() -> None:
    sliver = noise(5000, 10, 3)

    assert of_rapidocr("max")(sliver) is None
    assert as_rapidocr(of_rapidocr("max"), sliver) is None
