"""A queue with several workers, simulated: how many of them a load needs. Pure, and seeded.

Arrivals are a Poisson process. Service times are log-normal: most documents are short, a few are
long. Tasks are served in the order of their arrival.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

_TASKS = 20_000
_SEED = 7


@dataclass(frozen=True)
class Work:
    """``mean_s`` is the time of a task in a worker, ``variation`` its standard deviation divided by
    that: 0 for documents that are all alike, 1 to 2 for a usual mix."""

    mean_s: float
    variation: float = 1.0


def waits(arrivals: Sequence[float], services: Sequence[float], workers: int) -> list[float]:
    """Seconds that each task waits for a worker. ``arrivals`` are moments, in order.

    Raises:
        ValueError: there is no worker.
    """
    if workers < 1:
        raise ValueError("there must be a worker")
    free = [0.0] * workers
    found = []
    for arrival, service in zip(arrivals, services, strict=True):
        start = max(arrival, heapq.heappop(free))
        heapq.heappush(free, start + service)
        found.append(start - arrival)
    return found


def poisson(per_s: float, count: int, seed: int = _SEED) -> list[float]:
    """``count`` moments of arrivals, ``per_s`` of them in a second on average."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    now, found = 0.0, []
    for _ in range(count):
        now += chance.expovariate(per_s)
        found.append(now)
    return found


def service_times(work: Work, count: int, seed: int = _SEED + 1) -> list[float]:
    """``count`` times with the mean and the variation of ``work``."""
    if not work.variation:
        return [work.mean_s] * count
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    squared = math.log(1 + work.variation**2)
    middle = math.log(work.mean_s) - squared / 2
    return [chance.lognormvariate(middle, math.sqrt(squared)) for _ in range(count)]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed."""
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def workers_needed(
    per_s: float, work: Work, within_s: float, share: float = 0.95, count: int = _TASKS
) -> int:
    """The smallest number with which ``share`` of the tasks wait ``within_s`` seconds at most."""
    arrivals, services = poisson(per_s, count), service_times(work, count)
    workers = max(1, math.ceil(per_s * work.mean_s))
    while quantile(waits(arrivals, services, workers), share) > within_s:
        workers += 1
    return workers


@dataclass(frozen=True)
class Costs:
    """Processor seconds of a task in a gateway and in Redis, and Redis' bytes for a waiting task:
    ``redis_bytes`` and ``redis_bytes_per_byte`` of its documents."""

    gateway_s: float
    redis_s: float
    redis_bytes: float
    redis_bytes_per_byte: float

    def gateways_needed(self, per_s: float, busy: float = 0.7) -> int:
        """Gateways, of which each uses one processor, for ``busy`` of its time at most."""
        return max(1, math.ceil(per_s * self.gateway_s / busy))

    def redis_limit_per_s(self, busy: float = 0.7) -> float:
        """Tasks a second at which Redis, which uses one processor, is the limit."""
        return busy / self.redis_s

    def waiting_limit(self, redis_memory: float, document_bytes: float) -> int:
        """Tasks that may wait before they fill the memory of Redis."""
        return int(redis_memory / (self.redis_bytes + self.redis_bytes_per_byte * document_bytes))
