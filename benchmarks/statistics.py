"""Medians, quantiles, spread, ratios of pairs and slopes; independent of what is measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_TWO_SIDED_95 = 1.96


@dataclass(frozen=True)
class Spread:
    """A median with the range of its values."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Slope:
    """Growth per step of a straight line through all points, and its margin of error.

    ``margin`` is half of the interval that holds the slope with 95 % confidence.
    """

    per_step: float
    margin: float

    @property
    def is_zero_within_noise(self) -> bool:
        """Whether the points are also consistent with no growth."""
        return abs(self.per_step) <= self.margin


def spread(values: Sequence[float]) -> Spread:
    """Median and range.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    return Spread(statistics.median(values), min(values), max(values), len(values))


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` (0 to 1) of the values do not exceed, by linear interpolation.

    Raises:
        ValueError: there are no values, or ``share`` is out of range.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError("no values, or a share beyond 0 to 1")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below, above = math.floor(place), math.ceil(place)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """One ratio per pair; a pair with a zero denominator is left out."""
    return [a / b for a, b in zip(ours, theirs, strict=False) if b]


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """Least squares through ``points``; the margin is infinite with fewer than three.

    Neighbouring points of a memory curve are not independent of each other, so the margin is
    widened by the correlation of neighbouring residuals, as for a first-order autoregression.
    """
    count = len(points)
    if count < 3:
        return Slope(0.0, math.inf)
    xs, ys = [x for x, _ in points], [y for _, y in points]
    line = statistics.linear_regression(xs, ys)
    rest = [y - (line.slope * x + line.intercept) for x, y in points]
    around = statistics.fmean(xs)
    width = sum((x - around) ** 2 for x in xs)
    squares = sum(r * r for r in rest)
    if not squares:
        return Slope(line.slope, 0.0)
    follows = sum(a * b for a, b in pairwise(rest)) / squares
    follows = min(max(follows, 0.0), 0.99)
    independent = math.sqrt(squares / (count - 2) / width)
    widened = independent * math.sqrt((1 + follows) / (1 - follows))
    return Slope(line.slope, _TWO_SIDED_95 * widened)
