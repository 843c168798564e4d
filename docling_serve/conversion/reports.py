"""What a job reports while it runs: its progress, and the events that callbacks are due."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from docling.datamodel.progress import (
    ConversionProgressEvent,
    PageCompletedProgress,
    PhaseStartedProgress,
)

from docling_serve.errors import Failure
from docling_serve.jobs.spec import JobProgress

if TYPE_CHECKING:
    from docling.datamodel.document import ConversionResult

OnProgress = Callable[[JobProgress], None]
OnCallbackDue = Callable[[dict[str, Any]], None]


class ProgressTracker:
    """Converts docling's events to :class:`JobProgress` and remembers the phase for errors."""

    def __init__(self, on_progress: OnProgress, num_docs: int) -> None:
        self._on_progress = on_progress
        self._num_docs = num_docs
        self.phase = "preparing"
        self.document = 1
        self.converted = 0
        self.pages = 0
        #: Whether text was recognised in a document.
        self.ocr_ran = False
        #: The problems of documents.
        self.complaints: list[Failure] = []

    def begin(self, document: int) -> None:
        """Work on ``document`` starts, counted from 1."""
        self.document = document
        self.phase = "preparing"

    def look_at(self, result: ConversionResult) -> None:
        """A document was converted: docling scores each page that has recognised text."""
        self.pages += len(result.pages)
        scores = (page.ocr_score for page in result.confidence.pages.values())
        self.ocr_ran = self.ocr_ran or not all(map(math.isnan, scores))

    def __call__(self, event: ConversionProgressEvent) -> None:
        pages, total = 0, 0
        if isinstance(event, PhaseStartedProgress):
            self.phase = event.phase.value
        elif isinstance(event, PageCompletedProgress):
            pages, total = event.completed_pages, event.total_pages
        else:
            return
        self._on_progress(
            JobProgress(
                phase=self.phase,
                document=self.document,
                num_docs=max(self._num_docs, self.document),
                completed_pages=pages,
                total_pages=total,
            )
        )


class CallbackRelay:
    """Takes the place of jobkit's callback invoker; passes each event on instead of sending it.

    The server delivers, in order and with retries, so a worker needs no network for callbacks
    and may end as soon as its job is done.
    """

    def __init__(self, on_callback: OnCallbackDue) -> None:
        self._on_callback = on_callback

    def invoke_callbacks_async(
        self, callbacks: list[Any], task_id: str, progress: Any
    ) -> None:  # the name and arguments jobkit calls with
        del callbacks, task_id
        self._on_callback(progress.model_dump(mode="json"))
