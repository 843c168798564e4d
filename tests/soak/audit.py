"""Did each accepted task end exactly once, and as it should? From the log and the account."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from tests.helpers.server import RunningServer
from tests.soak.mixed_run import Account
from tests.soak.plans import BAD, Fault, Plan, missing

_ACCEPTED = re.compile(r"task (\S+): accepted,")
_ENDED = re.compile(
    r"conductor: task (\S+): (success|failure) after \S+ s \(.*?\)(?:: (\w+): (.*))?$", re.M
)


class Audit:
    """Every task of a run. :meth:`faults` says what is wrong; :meth:`report` what there was."""

    def __init__(self, server: RunningServer, account: Account) -> None:
        log = server.log()
        self._account = account
        self._accepted = Counter(_ACCEPTED.findall(log))
        self._ends: dict[str, list[tuple[str, str, str]]] = {}
        for task, state, category, message in _ENDED.findall(log):
            self._ends.setdefault(task, []).append((state, category, message))
        self._workers: dict[str, list[int]] = {}
        for handed in server.all_handed_over():
            self._workers.setdefault(handed.task_id, []).append(handed.pid)

    def faults(self) -> list[str]:
        """One sentence for each task that did not end as it should."""
        found = [f"{task}: accepted {n} times" for task, n in self._accepted.items() if n != 1]
        found += [f"{task}: never accepted" for task in self._ends if task not in self._accepted]
        for task in self._accepted:
            ends = self._ends.get(task, [])
            if len(ends) != 1:
                found.append(f"{task}: ended {len(ends)} times: {ends}")
            elif (wrong := self._wrong(task, *ends[0])) is not None:
                found.append(f"{task} ({self._account.plans.get(task)}): {wrong}")
        return found

    def report(self) -> str:
        """Counts, one line each."""
        ends = Counter(
            state if state == "success" else f"{category}: {_in_short(message)}"
            for (state, category, message), *_ in self._ends.values()
        )
        tried = sum(len(workers) > 1 for workers in self._workers.values())
        rows = [
            f"tasks accepted                     {len(self._accepted)}",
            f"tried again on a fresh worker      {tried}",
            *(f"done: {what:<29}{n}" for what, n in sorted(self._account.done.items())),
            *(f"ended: {what:<60} {n}" for what, n in ends.most_common()),
        ]
        return "\n".join(rows)

    def _wrong(self, task: str, state: str, category: str, message: str) -> str | None:
        plan = self._account.plans.get(task)
        if plan is None:  # a synchronous request whose client went
            left = category == "policy" and "ended before the task did" in message
            return None if left or state == "success" else f"left, but {category}: {message}"
        if self._account.ends[task] is None:
            told = category == "policy" and "cancelled" in message
            return None if told or state == "success" else f"deleted, but {category}: {message}"
        if state == "success":
            return self._wrong_body(plan, self._account.bodies[task])
        return self._wrong_cause(task, plan, category, message)

    def _wrong_body(self, plan: Plan, body: dict[str, Any]) -> str | None:
        if plan.fault is Fault.HANG:
            return "hung, and succeeded"
        if plan.name in BAD:
            errors = " ".join(error["error_message"] for error in body["errors"])
            return None if BAD[plan.name][1] in errors else f"not its cause: {errors}"
        lacks = missing(plan.name, body["document"]["md_content"] or "")
        return f"without {lacks}" if lacks else None

    def _wrong_cause(self, task: str, plan: Plan, category: str, message: str) -> str | None:
        """A failure must be explained by what we did to the workers that had the task."""
        got = [self._account.signals.get(pid, set()) for pid in self._workers.get(task, [])]
        status = self._account.ends[task]
        if status is None or status["failure"]["category"] != category:
            return f"the API tells another category than the log: {status}"
        if category == "timeout":
            hung = plan.fault is Fault.HANG or (got and "SIGSTOP" in got[-1])
            return None if hung else f"nobody made it hang: {message}"
        if "SIGKILL" in message or "SIGSEGV" in message:
            lost = len(got) == 2 and all(signals & {"SIGKILL", "SIGSEGV"} for signals in got)
            return None if lost else f"{message} Its workers got {got}"
        return f"{category}: {message}"


def _in_short(message: str) -> str:
    return re.sub(r"\d+ of \w+ pages", "n pages", message)[:60]
