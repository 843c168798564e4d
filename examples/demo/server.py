"""The server of the demonstration: one of this installation, in one of the modes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docling_serve.doctor.trial.server import TrialError as DemoError
from docling_serve.doctor.trial.server import TrialServer, without_own_settings

from .plan import CONFIG_FILE, Mode

TASK_WITHIN_S = 240

__all__ = ["TASK_WITHIN_S", "DemoError", "demo_server"]


@contextmanager
def demo_server(mode: Mode, log_file: Path, **settings: str) -> Iterator[TrialServer]:
    """It starts in an empty folder and without the caller's DOCLING_SERVE_* variables, so that the
    demonstration is the same everywhere. ``settings`` are further ones, by name."""
    with (
        tempfile.TemporaryDirectory(prefix="docling-serve-demo-") as folder,
        TrialServer(_environment(mode, settings), log_file, Path(folder)) as server,
    ):
        yield server


def _environment(mode: Mode, settings: dict[str, str]) -> dict[str, str]:
    return {
        **without_own_settings(),
        "DOCLING_SERVE_CONFIG_FILE": str(CONFIG_FILE),
        "DOCLING_SERVE_USE_SUBPROCESS": "true" if mode == "on" else "false",
        "DOCLING_SERVE_MAX_SYNC_WAIT": str(TASK_WITHIN_S),  # a busy machine is slow, not wrong
        "HF_HUB_OFFLINE": "1",  # nothing here needs a model hub, and this proves it
        "PYTHONUNBUFFERED": "1",
        **{f"DOCLING_SERVE_{name.upper()}": value for name, value in settings.items()},
    }
