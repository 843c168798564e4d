"""The queue of the load test as a simulation, and what its counts mean."""

from __future__ import annotations

import itertools
import statistics

import pytest

from benchmarks.fleet.load import Sent
from benchmarks.fleet.plan import Load, costs_of, need
from benchmarks.fleet.simulation import (
    Costs,
    Work,
    poisson,
    quantile,
    service_times,
    waits,
    workers_needed,
)
from benchmarks.fleet.verdict import judge, median_places, successes

IDS = [f"00000000-0000-0000-0000-{number:012d}" for number in range(4)]


def test_tasks_wait_for_the_first_free_worker() -> None:
    assert waits([0, 0, 1, 10], [4, 2, 3, 1], 1) == [0, 4, 5, 0]
    assert waits([0, 0, 1, 10], [4, 2, 3, 1], 2) == [0, 0, 1, 0]
    with pytest.raises(ValueError, match="a worker"):
        waits([], [], 0)


def test_one_worker_waits_as_theory_says() -> None:
    """M/D/1 with utilisation r: the mean wait is r / (2 (1 - r)) service times."""
    arrivals = poisson(0.5, 100_000)

    mean = statistics.fmean(waits(arrivals, service_times(Work(1.0, 0), 100_000), 1))

    assert mean == pytest.approx(0.5, rel=0.05)


def test_times_have_the_mean_and_the_variation_that_were_asked_for() -> None:
    times = service_times(Work(3.0, 1.5), 50_000)

    assert statistics.fmean(times) == pytest.approx(3.0, rel=0.03)
    assert statistics.pstdev(times) / 3.0 == pytest.approx(1.5, rel=0.1)
    gaps = [after - before for before, after in itertools.pairwise(poisson(4.0, 50_000))]
    assert statistics.fmean(gaps) == pytest.approx(0.25, rel=0.03)


def test_enough_workers_are_found_and_no_more() -> None:
    work, per_s, within_s = Work(5.0), 2.0, 10.0
    arrivals, services = poisson(per_s, 20_000), service_times(work, 20_000)

    found = workers_needed(per_s, work, within_s)

    assert quantile(waits(arrivals, services, found), 0.95) <= within_s
    assert quantile(waits(arrivals, services, found - 1), 0.95) > within_s
    assert found >= per_s * work.mean_s


def test_the_limits_of_the_other_parts() -> None:
    costs = Costs(gateway_s=0.02, redis_s=0.002, redis_bytes=5_000, redis_bytes_per_byte=2)

    assert costs.gateways_needed(10) == 1
    assert costs.gateways_needed(100) == 3
    assert costs.redis_limit_per_s() == pytest.approx(350)
    assert costs.waiting_limit(1e9, 10_000) == 40_000


def test_a_run_is_counted_by_what_clients_know_and_hosts_say() -> None:
    done, repeated, lost = Sent(0, "a"), Sent(1, "a"), Sent(2, "b")
    for sent, task in ((done, 0), (repeated, 1), (lost, 2)):
        sent.task_id = IDS[task]
        sent.ids.append(IDS[task])
    done.done = repeated.done = True
    done.callback = "http://x"
    repeated.failures.append("its host was lost")

    found = judge([done, repeated, lost], [IDS[0], IDS[0], IDS[1], IDS[3]], {IDS[0]: 2})

    assert (found.tasks, found.done, found.lost, found.wrong) == (3, 2, 1, 0)
    assert (found.repeated_by_client, found.converted_twice, found.accepted_twice) == (1, 1, 1)
    assert (found.callbacks, found.ends_told, found.ends_told_twice) == (1, 1, 1)


def test_ends_are_read_from_logs_in_their_order() -> None:
    def line(second: int, task: str, end: str = "success") -> str:
        return f"2026-01-01 10:00:0{second},000 INFO    a.b: task {task}: {end} after 1.000 s\n"

    logs = [
        line(1, IDS[0]) + line(3, IDS[1]),
        line(2, IDS[2]) + line(4, IDS[3], "failure"),
    ]

    assert successes(logs) == [IDS[0], IDS[2], IDS[1]]


def test_a_tenant_in_front_has_a_low_place() -> None:
    tasks = [Sent(number, tenant) for number, tenant in enumerate("aaab")]
    for sent, task in zip(tasks, IDS, strict=True):
        sent.task_id = task

    places = median_places(tasks, [IDS[3], *IDS[:3]])

    assert places == {"a": pytest.approx(2 / 3), "b": 0.0}


def test_a_plan_follows_from_what_was_measured() -> None:
    measured = {
        "throughput": [
            {"engine": "local", "cpu_s": {"server": 1.0}},
            {"engine": "rq", "cpu_s": {"gateways": 0.02, "hosts": 0.03, "redis": 0.002}},
        ],
        "redis_bytes_of_a_waiting_task": {"1000": 7_000, "101000": 207_000},
    }

    costs = costs_of(measured)
    found = need(Load(86_400, Work(1.0, 0), peak=100, within_s=0.5), costs, 4, redis_gb=2.005)

    assert costs == Costs(0.02, 0.002, 5_000, 2.0)
    assert 100 <= found.workers <= 130
    assert found.hosts == -(-found.workers // 4)
    assert found.gateways == 3
    assert found.redis_busy == pytest.approx(0.2)
    assert found.backlog_h == pytest.approx(1_000 / 100 / 3600)
