from __future__ import annotations

import pytest

from docling_serve.engines.local.service_times import ServiceTimes


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def measured(seconds: float, workers: int, clock: Clock | None = None) -> ServiceTimes:
    times = ServiceTimes(workers, clock or Clock())
    times.ended(seconds)
    return times


def test_the_wait_is_shared_by_the_workers() -> None:
    assert measured(6.0, workers=2).wait_s(10) == 30.0


def test_newer_tasks_count_more() -> None:
    times = measured(100.0, workers=1)
    for _ in range(20):
        times.ended(1.0)

    assert times.average_s == pytest.approx(1.0, abs=2.0)


def test_before_a_first_measure_it_guesses() -> None:
    times = ServiceTimes(1)

    assert times.average_s is None
    assert times.wait_s(2) > 0


def test_each_one_who_is_refused_is_told_a_place_of_his_own() -> None:
    times = measured(10.0, workers=1)

    assert [times.retry_after_s(1, queued=5) for _ in range(3)] == [10, 20, 30]


def test_a_promise_that_has_passed_is_forgotten() -> None:
    clock = Clock()
    times = measured(10.0, 1, clock)
    times.retry_after_s(1, queued=5)
    clock.now += 1000

    assert times.retry_after_s(1, queued=5) == 10


def test_nobody_is_sent_beyond_the_end_of_the_queue() -> None:
    times = measured(10.0, workers=1)

    assert max(times.retry_after_s(1, queued=3) for _ in range(50)) == 30


@pytest.mark.parametrize(("seconds", "told"), [(0.001, 1), (1e6, 3600)])
def test_what_is_told_is_within_reason(seconds: float, told: int) -> None:
    assert measured(seconds, workers=1).retry_after_s(1, queued=1) == told
