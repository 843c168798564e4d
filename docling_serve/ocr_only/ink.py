"""What the image of a line tells that OCR does not: how heavy its print is, and a bullet before it.

OCR drops most bullets and knows no fonts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .page_objects import TextLine

_DARKER = 60.0  # grey levels below the paper, from which a pixel is ink
# Multiples of the height of the line.
_LOOK_LEFT, _SPACE = 2.4, 0.15
_SMALLEST, _LARGEST = 0.1, 0.5
_OFF_MIDDLE = 0.3
_NOT_SQUARE = 1.7
BULLET = "\u2022"

Grey = npt.NDArray[np.uint8]


def with_ink(lines: Sequence[TextLine], image: Grey, scale: float) -> list[TextLine]:
    """The lines with their weight, and with a bullet where one is drawn.

    ``image`` is that of the page, with ``scale`` pixels a point.
    """
    if not image.size or not lines:
        return list(lines)
    limit = float(np.percentile(image, 90)) - _DARKER
    return [
        _with_bullet(_weighed(line, image, scale), lines, image < limit, scale) for line in lines
    ]


def _weighed(line: TextLine, image: Grey, scale: float) -> TextLine:
    crop = _crop(image, scale, line.left, line.top, line.right, line.bottom).astype(np.float32)
    if not crop.size:
        return line
    paper = float(np.percentile(crop, 95))
    darkest = float(crop.min())
    if paper - darkest < _DARKER:
        return line
    ink = np.clip((paper - crop) / (paper - darkest), 0, 1)
    # Every stroke that a row of pixels crosses rises and falls once.
    strokes = np.abs(np.diff(ink, axis=1)).sum() / 2
    return replace(line, weight=float(ink.sum() / strokes / scale)) if strokes else line


def _with_bullet(
    line: TextLine, lines: Sequence[TextLine], ink: npt.NDArray[np.bool_], scale: float
) -> TextLine:
    left = line.left - _LOOK_LEFT * line.height
    if any(other is not line and _reaches_into(other, line, left) for other in lines):
        return line
    crop = _crop(ink, scale, left, line.top, line.left - _SPACE * line.height, line.bottom)
    blob = _only_blob(crop, line.height * scale)
    if blob is None:
        return line
    return replace(line, left=max(left, 0.0) + blob / scale, text=f"{BULLET} {line.text.strip()}")


def _reaches_into(other: TextLine, line: TextLine, left: float) -> bool:
    return (
        other.left < line.left
        and other.right > left
        and min(other.bottom, line.bottom) > max(other.top, line.top)
    )


def _only_blob(ink: npt.NDArray[np.bool_], height: float) -> float | None:
    """Where a bullet begins, in pixels from the left, if there is one and nothing else."""
    if not ink.size or not ink.any():
        return None
    stats: Any
    _, _, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    blobs = [blob for blob in stats[1:] if blob[4] > 2]
    if len(blobs) != 1:
        return None
    x, y, wide, high, filled = (float(value) for value in blobs[0])
    if not _SMALLEST * height < high < _LARGEST * height:
        return None
    if max(wide, high) > _NOT_SQUARE * min(wide, high) or filled < 0.6 * wide * high:
        return None
    return x if abs(y + high / 2 - ink.shape[0] / 2) < _OFF_MIDDLE * height else None


def _crop(
    image: npt.NDArray[Any], scale: float, left: float, top: float, right: float, bottom: float
) -> npt.NDArray[Any]:
    rows = slice(max(round(top * scale), 0), max(round(bottom * scale), 0))
    columns = slice(max(round(left * scale), 0), max(round(right * scale), 0))
    return image[rows, columns]
