"""The order of waiting jobs, on a real Redis."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import redis
from rq import Queue

from docling_serve.engines.local.fair_queue import FairQueue
from docling_serve.engines.redis.lines import LineQueue, Lines, Place, Takes, line_key
from tests.helpers.rq_engines import JobkitWorker, rq_settings


class Case:
    """A queue with jobs that do nothing."""

    def __init__(self, url: str) -> None:
        self.redis: redis.Redis = redis.Redis.from_url(url)
        self.queue = Queue("convert", connection=self.redis)
        self.lines = Lines(self.redis, [self.queue])
        self.jobkit = JobkitWorker(url, rq_settings(url))

    def put(self, job_id: str, tenant: str = "t", cost: int = 1, light: bool = False) -> None:
        place = Place(tenant, cost, light)
        LineQueue("convert", self.redis, place).enqueue("any.name", job_id=job_id)

    def put_by_others(self, job_id: str) -> None:
        self.queue.enqueue("any.name", job_id=job_id)

    def take(self, takes: Takes = Takes.ANY) -> str | None:
        taken = self.lines.take(takes)
        return taken[0] if taken else None

    def take_all(self, takes: Takes = Takes.ANY) -> list[str]:
        return list(iter(lambda: self.take(takes), None))

    def order(self) -> list[str]:
        """As RQ's list has it, and so any worker of RQ."""
        return list(self.queue.job_ids)


@pytest.fixture
def case(redis_url: str) -> Iterator[Case]:
    case = Case(redis_url)
    yield case
    case.redis.close()
    case.jobkit.redis.close()


def test_tenants_take_turns_whatever_one_of_them_sends(case: Case) -> None:
    for number in range(4):
        case.put(f"a{number}", "a")
    case.put("b0", "b")
    case.put("b1", "b")
    expected = ["a0", "b0", "a1", "b1", "a2", "a3"]
    assert case.order() == expected, "so a worker of another make keeps to it as well"
    assert case.take_all() == expected


def test_a_turn_is_measured_in_documents(case: Case) -> None:
    case.put("a0", "a", cost=3)
    case.put("a1", "a")
    for number in range(4):
        case.put(f"b{number}", "b")
    assert case.take_all() == ["a0", "b0", "b1", "b2", "a1", "b3"]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_is_that_of_the_local_engine(case: Case, seed: int) -> None:
    chance, model = random.Random(seed), FairQueue[str]()
    for number in range(120):
        if model and chance.random() < 0.45:
            assert case.take() == model.take()
        else:
            tenant, cost = chance.choice("abcd"), chance.randint(1, 5)
            case.put(str(number), tenant, cost, chance.random() < 0.5)
            model.put(str(number), tenant, cost)
        assert case.order() == list(model)


def test_light_jobs_have_slots_of_their_own(case: Case) -> None:
    case.put("scan0", "a")
    case.put("scan1", "b")
    case.put("note", "c", light=True)
    assert case.take(Takes.LIGHT) == "note"
    assert case.take(Takes.LIGHT) is None
    case.put("note1", "d", light=True)
    assert case.take_all(Takes.HEAVY) == ["scan0", "scan1", "note1"], "or any slot"


def test_jobs_of_other_programs_are_taken_when_they_come_to_the_head(case: Case) -> None:
    case.put("ours")
    case.put_by_others("theirs")
    case.put("last")
    assert case.take(Takes.HEAVY) == "ours"
    assert case.take(Takes.LIGHT) is None, "nobody knows what it needs"
    assert case.take_all(Takes.HEAVY) == ["theirs", "last"]


def test_workers_of_another_make_drain_the_same_list(case: Case) -> None:
    for number in range(3):
        case.put(f"a{number}", "a")
    assert case.jobkit.take() == "a0"
    case.put("b0", "b")
    assert case.take_all() == ["b0", "a1", "a2"]
    assert list(case.redis.scan_iter(f"{line_key('convert')}*")) == [], "nothing remains of it"


def test_a_job_that_is_withdrawn_is_not_taken(case: Case) -> None:
    for number in range(5):
        case.put(f"a{number}", "a")
    case.put("b0", "b")
    assert case.lines.discard("a0", "convert")
    assert not case.lines.discard("a0", "convert"), "it is gone already"
    assert not case.lines.discard("a1", "another queue")
    assert case.take_all() == ["b0", "a1", "a2", "a3", "a4"]


def test_a_tenant_that_withdraws_all_does_not_pay_for_it(case: Case) -> None:
    for number in range(4):
        case.put(f"a{number}", "a")
    for number in range(2):
        case.put(f"b{number}", "b")
    for number in range(4):
        case.lines.discard(f"a{number}", "convert")
    case.put("a9", "a")
    assert case.take_all() == ["b0", "a9", "b1"]


def test_the_turns_of_tenants_that_have_left_are_forgotten(case: Case) -> None:
    case.put("first", "z", cost=100)
    case.put("second", "z")
    case.put("last", "z")
    for number in range(150):
        case.put(str(number), f"tenant {number}")
    while case.take() != "second":
        pass
    assert case.redis.hlen(f"{line_key('convert')}:ends") <= 66


def test_a_job_that_a_slow_worker_is_registering_stays_with_it(case: Case) -> None:
    case.put("slow")
    taken = case.lines.take(Takes.ANY)
    assert taken is not None
    case.redis.zadd(case.queue.started_job_registry.key, {"slow:execution": 2**40})
    assert not case.lines.restore(*taken)
    assert case.lines.registered(*taken), "the worker may run it"
    assert case.order() == []


def test_a_job_that_was_taken_and_not_registered_waits_again(case: Case) -> None:
    case.put("lost")
    case.put("next")
    taken = case.lines.take(Takes.ANY)
    assert taken is not None
    assert case.lines.restore(*taken)
    assert not case.lines.restore(*taken), "it is in one list only"
    assert not case.lines.registered(*taken), "its worker must not run it"
    assert case.order() == ["lost", "next"]
