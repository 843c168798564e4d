"""How RapidOCR prepares a page for its detection model.

It computes ``(pixel / 255 - mean) / deviation`` in double precision, over the whole page and in a
new array for each step: some 250 MB for an A4 page. A pixel has only 256 values, so a table of
results per channel gives exactly the same numbers from one array.

Read from rapidocr 3.10 (``ch_ppocr_det.utils.DetPreProcess``).
Guarded by tests/unit/internals/test_rapidocr_images.py.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np

_PIXELS = np.arange(256, dtype=np.uint8)


def normalise_by_table() -> None:
    """Make RapidOCR's detection look its pixels up; results stay the same.

    Raises:
        ImportError: RapidOCR is not installed.
    """
    from rapidocr.ch_ppocr_det import utils  # noqa: PLC0415 - may be left out

    preparation: Any = utils.DetPreProcess
    usual = preparation.__call__
    if getattr(usual, "looks_up", False):
        return

    @wraps(usual)
    def prepared(self: Any, image: Any) -> Any:
        if image.dtype != np.uint8 or image.ndim != 3:
            return usual(self, image)
        resized = self.resize(image)
        if resized is None:
            return None
        height, width, channels = resized.shape
        levels = np.repeat(_PIXELS[:, None], channels, axis=1)
        tables = self.normalize(levels).astype(np.float32)
        planes = np.empty((1, channels, height, width), np.float32)
        for channel in range(channels):
            # Without a mode, np.take checks every index in a copy of the result.
            table = np.ascontiguousarray(tables[:, channel])
            np.take(table, resized[:, :, channel], out=planes[0, channel], mode="clip")
        return planes

    vars_of_prepared: Any = prepared
    vars_of_prepared.looks_up = True
    preparation.__call__ = prepared
