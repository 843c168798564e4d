"""Convert PDFs with a profile in a process of its own, which reports time and memory.

    python -m benchmarks.quality.conversions FOLDER     (a process of the benchmark)

The process converts the first PDF twice, so that loading the models does not count.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docling_core.types.doc.document import DoclingDocument

_EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
_TIMEOUT_S = 3600
_THREADS = "2"

PROFILES: dict[str, Path | None] = {
    "embedded": _EXAMPLES / "embedded.yaml",
    "text only": _EXAMPLES / "ocr-only.yaml",
    "docling": None,
}
"""The configuration file of each profile; docling's own models are the default without one."""


class NotConverted(Exception):
    """The profile cannot convert here; says why."""


@dataclass(frozen=True)
class Conversion:
    """One document: ``cpu_s`` is processor time."""

    document: DoclingDocument
    cpu_s: float
    pages: int


@dataclass(frozen=True)
class ProfileRun:
    """The outcome of all documents, and the peak memory of the process in bytes."""

    documents: list[Conversion]
    peak_bytes: int
    imported_torch: bool


def convert(profile: str, pdfs: Sequence[bytes]) -> ProfileRun:
    """Convert all with the profile's models.

    Raises:
        NotConverted: a document failed.
    """
    # Not at the top: the converting process must not import torch through it.
    from docling_core.types.doc.document import DoclingDocument  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, pdf in enumerate(pdfs):
            (folder / f"{number:04}.pdf").write_bytes(pdf)
        config = PROFILES[profile]
        environment = os.environ | {"OMP_NUM_THREADS": _THREADS}
        environment["DOCLING_SERVE_CONFIG_FILE"] = str(config) if config else ""
        done = subprocess.run(
            [sys.executable, "-m", __name__, name],
            env={key: value for key, value in environment.items() if value},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise NotConverted(done.stderr.strip().splitlines()[-1] if done.stderr else "no reason")
        told = json.loads((folder / "run.json").read_text())
        return ProfileRun(
            [
                Conversion(
                    DoclingDocument.model_validate(one["document"]), one["cpu_s"], one["pages"]
                )
                for one in told["documents"]
            ],
            told["peak_bytes"],
            told["imported_torch"],
        )


def _main(folder: Path) -> int:
    from docling_serve.settings import DoclingServeSettings  # noqa: PLC0415
    from docling_serve.settings.converter_config import converter_config  # noqa: PLC0415
    from docling_serve.subprocess_worker.child.importing import import_for_conversions  # noqa: PLC0415

    settings = DoclingServeSettings()
    # First, since it defers torch, as in a worker.
    import_for_conversions(allow_external_plugins=settings.allow_external_plugins)
    from docling_serve.conversion.conversion import Conversion as Converting  # noqa: PLC0415
    from docling_serve.errors import TaskFailed  # noqa: PLC0415
    from docling_serve.process.deferred_imports import is_loaded  # noqa: PLC0415

    converting = Converting(converter_config(settings))
    documents: list[dict[str, Any]] = []
    for number, pdf in enumerate(sorted(folder.glob("*.pdf"))):
        try:
            for _ in range(2 if number == 0 else 1):
                started = time.process_time()
                body = _convert_one(converting, pdf, folder)
                took_s = time.process_time() - started
        except TaskFailed as exc:
            print(exc.failure.message, file=sys.stderr)
            return 1
        if body["status"] != "success":
            print(body["errors"][0]["error_message"], file=sys.stderr)
            return 1
        content = body["document"]["json_content"]
        documents.append({"document": content, "cpu_s": took_s, "pages": len(content["pages"])})
    told = {
        "documents": documents,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "imported_torch": is_loaded("torch"),
    }
    (folder / "run.json").write_text(json.dumps(told))
    return 0


def _convert_one(converting: Any, pdf: Path, folder: Path) -> dict[str, Any]:
    from docling_serve.jobs.spec import JobSpec, StagedFile, TaskFolder  # noqa: PLC0415

    with tempfile.TemporaryDirectory(dir=folder) as name:
        task = TaskFolder.create(Path(name), "task")
        spec = JobSpec(
            task_id="task",
            sources=[StagedFile(path=str(pdf), filename=pdf.name)],
            options={"to_formats": ["json"], "ocr_preset": "auto"},
        )
        result = converting.run(spec, task)
        body: dict[str, Any] = json.loads((task.root / result.body).read_bytes())
        return body


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1])))
