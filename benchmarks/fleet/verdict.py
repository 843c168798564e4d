"""What a run has shown: pure functions of what clients know and of what the logs of hosts say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.fleet.load import Sent

_END = re.compile(r"^([-0-9]{10} [0-9:,]{12}) .*?task ([0-9a-f-]{36}): success after ", re.M)


@dataclass(frozen=True)
class Verdict:
    """Counts of tasks. ``repeated_by_client`` failed as retryable and were sent again;
    ``converted_twice`` had two successful runs, of which one result counts; ``accepted_twice`` ran
    under a second id that no client knows; ``ends_told`` and ``ends_told_twice`` are callbacks."""

    tasks: int
    done: int
    lost: int
    wrong: int
    repeated_by_client: int
    converted_twice: int
    accepted_twice: int
    callbacks: int
    ends_told: int
    ends_told_twice: int

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)


def successes(logs: Iterable[str]) -> list[str]:
    """The ids of tasks that hosts have finished, one for each time, in the order of their ends."""
    return [task for _, task in sorted(end for log in logs for end in _END.findall(log))]


def judge(tasks: Sequence[Sent], ended: Sequence[str], told: Mapping[str, int]) -> Verdict:
    """``ended`` is what :func:`successes` found, ``told`` the last events that came, by task."""
    runs = Counter(ended)
    known = {task_id for sent in tasks for task_id in sent.ids}
    called = [sent for sent in tasks if sent.callback]
    return Verdict(
        tasks=len(tasks),
        done=sum(sent.done for sent in tasks),
        lost=sum(not sent.done and not sent.wrong for sent in tasks),
        wrong=sum(bool(sent.wrong) for sent in tasks),
        repeated_by_client=sum(bool(sent.failures) and sent.done for sent in tasks),
        converted_twice=sum(count > 1 for count in runs.values()),
        accepted_twice=len(set(runs) - known),
        callbacks=len(called),
        ends_told=sum(told.get(sent.task_id, 0) > 0 for sent in called),
        ends_told_twice=sum(told.get(sent.task_id, 0) > 1 for sent in called),
    )


def median_places(tasks: Sequence[Sent], ended: Sequence[str]) -> dict[str, float]:
    """By tenant, where its tasks came in the order of ends: 0 is first, 1 is last, for the median
    task. With turns, a tenant with few tasks is far in front; without, all are near 0.5."""
    place = {task: number for number, task in enumerate(ended)}
    found: dict[str, list[int]] = {}
    for sent in tasks:
        if sent.task_id in place:
            found.setdefault(sent.tenant, []).append(place[sent.task_id])
    last = max(len(ended) - 1, 1)
    return {tenant: sorted(own)[len(own) // 2] / last for tenant, own in sorted(found.items())}
