"""The stages of a task, in the words that every status uses."""

from __future__ import annotations

from enum import Enum


class Stage(str, Enum):
    """Where a task is between its acceptance and its end."""

    QUEUED = "queued"
    STARTING_WORKER = "starting_worker"
    WAITING_FOR_GPU = "waiting_for_gpu"
    LOADING_MODELS = "loading_models"
    CONVERTING = "converting"
    DONE = "done"
    FAILED = "failed"
