"""What the demonstration must show, and whether it did."""

from __future__ import annotations

from .runs import Run

MB = 1_000_000
GATEWAY_GROWTH_LIMIT = 20 * MB
# What a standby process may keep of a small document; models take more.
WORKER_GROWTH_LIMIT = 50 * MB
# Other programs may use the card meanwhile; a leaked CUDA context is larger than this.
GPU_GROWTH_LIMIT = 100 * MB


def wrong_texts(run: Run) -> list[str]:
    """One line for each task with a wrong answer."""
    return [
        f"mode {run.mode}, {task.step.document} ({task.step.way}): {task.problem}"
        for task in run.tasks
        if task.problem
    ]


def memory_kept(run: Run) -> list[str]:
    """The memory that was not freed after the last task of a run with the mode on.

    The baseline is the server at rest before the first task, including its standby process.
    """
    first, last = run.idle, run.final
    found = []
    if not all(task.peak.workers for task in run.tasks):
        found.append("a task did not run in a worker process")
    if run.gateway_engines:
        found.append(f"the gateway has loaded {', '.join(run.gateway_engines)}")
    if last.workers > first.workers:
        found.append(
            f"{last.workers - first.workers} more worker process(es) than before are there"
        )
    held = last.worker_rss - first.worker_rss
    if held >= WORKER_GROWTH_LIMIT:
        found.append(f"{held / MB:.0f} MB of the workers did not come back")
    grown = last.gateway_rss - first.gateway_rss
    if grown >= GATEWAY_GROWTH_LIMIT:
        found.append(f"the gateway grew by {grown / MB:.0f} MB")
    if first.gpu_used is not None and last.gpu_used is not None:
        held = last.gpu_used - first.gpu_used
        if held >= GPU_GROWTH_LIMIT:
            found.append(f"{held / MB:.0f} MB of GPU memory did not come back")
    return found
