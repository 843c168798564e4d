"""Whether a job needs models, and which: determined before it runs."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filetype

from docling_serve.jobs.spec import JobSpec, StagedFile, TaskFolder

#: File name endings that docling converts without a PDF pipeline, and so without models.
_MODEL_FREE = (
    ".md .markdown .txt .text .html .htm .xhtml .docx .dotx .docm .dotm .pptx .potx .ppsx .pptm "
    ".potm .ppsm .xlsx .xlsm .csv .adoc .asciidoc .asc .json .vtt .tex .latex .eml .odt .ods .odp "
    ".epub .nxml .xml .dclg .dclx"
)
MODEL_FREE_SUFFIXES = frozenset(_MODEL_FREE.split())
#: Options that load a model for a document of any format.
ENRICHING_OPTIONS = ("do_picture_description", "do_picture_classification", "do_chart_extraction")
#: So many bytes of a document are enough to recognise it.
HEAD_BYTES = 1024
#: Targets whose results go into the reply.
_LOCAL_TARGETS = ("inbody", "zip")


#: Options that decide which models a conversion loads, by name prefix.
_MODEL_OPTIONS = (
    *("pipeline", "pdf_backend", "do_", "ocr_", "force_ocr", "table_", "layout_", "vlm_"),
    *("picture_", "code_formula_", "chart_"),
)


def model_kind(spec: JobSpec) -> str:
    """A text that is equal for jobs that load the same models; for learning what they need."""
    chosen = {k: v for k, v in spec.options.items() if k.startswith(_MODEL_OPTIONS)}
    text = json.dumps([chosen, spec.converter_config], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def may_need_models(spec: JobSpec, folder: TaskFolder) -> bool:
    """Whether this job may load a model, judged by names and first bytes. Blocks.

    Errs on the side of yes: an unknown ending, a remote source, or an option that analyses pictures
    counts as needing models. So does a PDF or an image under any name, because docling goes by a
    file's contents (upstream E47).
    """
    return options_need_models(spec.options) or not all(
        isinstance(source, StagedFile)
        and is_model_free(source.filename, _head(folder.source(source)))
        for source in spec.sources
    )


def options_need_models(options: Mapping[str, Any]) -> bool:
    """Whether these options load a model for any document."""
    return any(options.get(name) for name in ENRICHING_OPTIONS)


def is_model_free(filename: str, head: bytes) -> bool:
    """Whether a document of this name that begins with ``head`` (see ``HEAD_BYTES``) is converted
    without models."""
    return (
        Path(filename).suffix.lower() in MODEL_FREE_SUFFIXES
        and b"%PDF-" not in head
        and not filetype.is_image(head)
    )


def needs_network(spec: JobSpec, *, light: bool) -> bool:
    """Whether the job has to reach another machine: for a source, for a target, or for a service
    that has the models, if the server allows that and the job is not ``light``."""
    return (
        any(not isinstance(source, StagedFile) for source in spec.sources)
        or stores_results(spec)
        or (bool(spec.converter_config.get("enable_remote_services")) and not light)
    )


def stores_results(spec: JobSpec) -> bool:
    """Whether a result goes anywhere but into the reply."""
    return any(target.get("kind") not in _LOCAL_TARGETS for target in spec.targets)


def _head(path: Path) -> bytes:
    """The first bytes of a file; none if there is nothing to convert."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)
