"""Rectangles on a page: left, top, right, bottom; ``top`` < ``bottom``, any unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


class Boxed(Protocol):
    """Anything with the sides of a box."""

    @property
    def left(self) -> float: ...
    @property
    def top(self) -> float: ...
    @property
    def right(self) -> float: ...
    @property
    def bottom(self) -> float: ...


@dataclass(frozen=True)
class Box:
    """A box and nothing else."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top


def area(box: Boxed) -> float:
    """Zero where the box is empty."""
    return max(box.right - box.left, 0.0) * max(box.bottom - box.top, 0.0)


def shared(one: Boxed, other: Boxed) -> float:
    """The area that both cover."""
    return area(
        Box(
            max(one.left, other.left),
            max(one.top, other.top),
            min(one.right, other.right),
            min(one.bottom, other.bottom),
        )
    )


def covered(inner: Boxed, outer: Boxed) -> float:
    """Which share of ``inner`` lies within ``outer``, from 0 to 1."""
    whole = area(inner)
    return shared(inner, outer) / whole if whole else 0.0


def nested(one: Boxed, other: Boxed) -> float:
    """Which share of the smaller of the two lies within the larger one."""
    return max(covered(one, other), covered(other, one))


def enclosing(boxes: Iterable[Boxed]) -> Box:
    """The smallest box around all; there must be one."""
    listed = list(boxes)
    return Box(
        min(box.left for box in listed),
        min(box.top for box in listed),
        max(box.right for box in listed),
        max(box.bottom for box in listed),
    )


def gap_between(one: Boxed, other: Boxed) -> float:
    """The vertical distance of boxes that lie above each other; infinite if they do not."""
    if min(one.right, other.right) <= max(one.left, other.left):
        return float("inf")
    return max(one.top, other.top) - min(one.bottom, other.bottom)


def gap_below(upper: Boxed, lower: Boxed) -> float:
    """How far ``lower`` begins below ``upper``; infinite where they do not share a column."""
    if min(upper.right, lower.right) <= max(upper.left, lower.left):
        return float("inf")
    return lower.top - upper.bottom


def are_in_a_row(one: Boxed, other: Boxed) -> bool:
    """Whether the two are side by side: they share half of the lower one's height."""
    common = min(one.bottom, other.bottom) - max(one.top, other.top)
    return common > 0.5 * min(one.bottom - one.top, other.bottom - other.top)
