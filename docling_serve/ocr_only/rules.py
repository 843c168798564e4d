"""Find the ruling lines in the image of a table."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .boxes import Box
from .ruled_grid import Rules

_DARKER = 45  # grey levels below the paper, from which a pixel counts as ink
_SHORTEST = 14.0  # points
_THICKEST = 4.0
_SLOPE = 0.012  # of a scan that is turned by two thirds of a degree

Grey = npt.NDArray[np.uint8]


def rules_in(image: Grey, scale: float, left: float, top: float) -> Rules:
    """The rules in a grey image of ``scale`` pixels a point, whose corner is at ``left``, ``top``.

    Returned in points of the page.
    """
    if not image.size:
        return Rules()
    ink = (image < float(np.percentile(image, 90)) - _DARKER).astype(np.uint8)
    return Rules(
        tuple(_moved(box, scale, left, top) for box in _long(ink, scale)),
        tuple(_moved(_turned(box), scale, left, top) for box in _long(ink.T, scale)),
    )


def _long(ink: Grey, scale: float) -> list[Box]:
    """Horizontal lines, in pixels."""
    length = max(int(_SHORTEST * scale), 3)
    ink = np.ascontiguousarray(ink)
    bridged: Any = cv2.morphologyEx(ink, cv2.MORPH_CLOSE, np.ones((1, 5), np.uint8))
    # A turned line leaves its row of pixels; two rows hold what one does not.
    thick: Any = cv2.dilate(bridged, np.ones((2, 1), np.uint8))
    opened: Any = cv2.morphologyEx(thick, cv2.MORPH_OPEN, np.ones((1, length), np.uint8))
    _, _, boxes, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    found = []
    for x, y, width, height, _ in boxes[1:]:
        if width >= length and height <= _THICKEST * scale + _SLOPE * width:
            found.append(Box(float(x), float(y), float(x + width), float(y + height)))
    return found


def _turned(box: Box) -> Box:
    return Box(box.top, box.left, box.bottom, box.right)


def _moved(box: Box, scale: float, left: float, top: float) -> Box:
    return Box(
        box.left / scale + left,
        box.top / scale + top,
        box.right / scale + left,
        box.bottom / scale + top,
    )
