"""Medians, quantiles, ratios and slopes of the benchmarks."""

from __future__ import annotations

import math
import random

import pytest

from benchmarks.statistics import quantile, ratios, slope, spread


def test_a_spread_is_the_median_and_the_range() -> None:
    found = spread([4.0, 1.0, 3.0])

    assert (found.median, found.low, found.high, found.count) == (3.0, 1.0, 4.0, 3)


def test_nothing_has_no_spread() -> None:
    with pytest.raises(ValueError, match="no values"):
        spread([])


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.25, 2.0), (0.5, 3.0), (0.9, 4.6), (1.0, 5.0)]
)
def test_a_quantile_lies_between_its_neighbours(share: float, expected: float) -> None:
    assert quantile([5.0, 1.0, 4.0, 2.0, 3.0], share) == pytest.approx(expected)


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5)])
def test_a_quantile_needs_values_and_a_share(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        quantile(values, share)


def test_ratios_are_of_pairs_and_skip_a_zero() -> None:
    assert ratios([1.0, 2.0, 9.0], [2.0, 0.0, 3.0]) == [0.5, 3.0]


def test_a_straight_line_has_its_slope_and_no_margin() -> None:
    found = slope([(x, 3.0 * x + 7) for x in range(10)])

    assert found.per_step == pytest.approx(3.0)
    assert found.margin == pytest.approx(0.0, abs=1e-9)
    assert not found.is_zero_within_noise


def test_noise_is_no_growth_but_growth_under_noise_is() -> None:
    noise = random.Random(3)  # not a secret
    level = [(float(x), noise.gauss(100, 5)) for x in range(200)]
    growing = [(x, y + 0.5 * x) for x, y in level]

    assert slope(level).is_zero_within_noise
    assert not slope(growing).is_zero_within_noise
    assert slope(growing).per_step == pytest.approx(0.5, abs=0.05)


def test_neighbours_that_move_together_widen_the_margin() -> None:
    values = [1.0, -1.0] * 20
    alternating = slope([(float(x), y) for x, y in enumerate(values)])
    in_blocks = slope([(float(x), y) for x, y in enumerate(sorted(values[:8]) * 5)])

    assert in_blocks.margin > alternating.margin


@pytest.mark.parametrize("points", [[], [(1.0, 2.0)], [(1.0, 2.0), (2.0, 9.0)]])
def test_two_points_prove_nothing(points: list[tuple[float, float]]) -> None:
    assert slope(points).margin == math.inf
