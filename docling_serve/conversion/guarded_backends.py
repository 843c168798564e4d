"""docling's document readers, each of which first checks whether the document is too large.

Every document, from any source, passes through them before it is opened. A document that is
refused here fails alone; the others of its request are converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from docling.backend.abstract_backend import AbstractDocumentBackend
from docling.datamodel.base_models import InputFormat
from docling.document_converter import FormatOption
from docling.exceptions import DocumentLoadError

from docling_serve.conversion.document_limits import OverLimit
from docling_serve.conversion.input_limits import InputLimits, check_document


class DocumentRefused(DocumentLoadError):
    """A document exceeds the limits of the server."""


def guarded(
    options: Mapping[InputFormat, FormatOption], limits: InputLimits
) -> dict[InputFormat, FormatOption]:
    """``options`` with readers that enforce ``limits``."""
    return {
        format_: option.model_copy(update={"backend": _guarded(option.backend, limits)})
        for format_, option in options.items()
    }


@cache
def _guarded(
    backend: type[AbstractDocumentBackend], limits: InputLimits
) -> type[AbstractDocumentBackend]:
    def check_and_open(
        self: Any, in_doc: Any, path_or_stream: BytesIO | Path, *args: Any, **kwargs: Any
    ) -> None:
        try:
            if isinstance(path_or_stream, Path):
                with path_or_stream.open("rb") as file:
                    check_document(file, limits, in_doc.format)
            else:
                check_document(path_or_stream, limits, in_doc.format)
        except OverLimit as exc:
            raise DocumentRefused(str(exc)) from exc
        backend.__init__(self, in_doc, path_or_stream, *args, **kwargs)

    return type(f"Guarded{backend.__name__}", (backend,), {"__init__": check_and_open})
