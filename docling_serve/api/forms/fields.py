"""The forms of the file endpoints, ready to be used as annotations of a route's parameters.

With ``files: FilesForm`` and the aliases below, the body schema of a route has the properties,
types and defaults of docling-serve 1.38.2 (its OpenAPI document: ``Body_process_file_*`` and
``Body_Chunk_files_*``).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeAlias

from docling.datamodel.service.callbacks import CallbackSpec
from docling.datamodel.service.chunking import HierarchicalChunkerOptions, HybridChunkerOptions
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.requests import TargetName
from fastapi import Depends, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from docling_serve.api.forms.model_form import form_model

_chunk_convert_options = form_model(ConvertDocumentsOptions, "convert_", exclude={"to_formats"})


async def read_chunk_convert_options(
    options: Annotated[ConvertDocumentsOptions, Depends(_chunk_convert_options)],
) -> ConvertDocumentsOptions:
    """The ``convert_*`` fields; the chunker comes from the path and ``chunking_*`` fields only.

    JSON chunk requests drop these two options in docling's request model.
    """
    return options.model_copy(update={"chunking_options": None, "chunking_preset": None})


async def read_callbacks(
    callbacks: Annotated[
        list[str],
        Form(description="Where to report progress: a URL, or a JSON object as in JSON requests."),
    ] = [],  # noqa: B006  # FastAPI copies it, and the form schema shows this default
) -> list[CallbackSpec]:
    """Each value is a URL or the JSON text of a ``CallbackSpec``; empty values are skipped.

    Raises:
        RequestValidationError: at ``("body", "callbacks")`` (upstream I81).
    """
    return [_callback(value) for value in callbacks if value.strip()]


def _callback(value: str) -> CallbackSpec:
    try:
        spec = json.loads(value)
    except (ValueError, RecursionError):
        spec = None
    try:
        # What is no JSON object is refused as the URL it then must be.
        return CallbackSpec.model_validate(
            spec if isinstance(spec, dict) else {"url": value.strip()}
        )
    except ValidationError as exc:
        errors: list[dict[str, Any]] = [
            {**error, "loc": ("body", "callbacks")} for error in exc.errors(include_url=False)
        ]
        raise RequestValidationError(errors) from exc


async def read_target_type(
    request: Request,
    target_type: Annotated[
        TargetName, Form(description="Where the result goes: into the reply, or a zip file.")
    ] = TargetName.INBODY,
) -> TargetName | None:
    """The target kind the form names; ``None`` where it names none, so policy chooses."""
    sent = (await request.form()).get("target_type")
    return target_type if sent else None


FilesForm: TypeAlias = list[UploadFile]
ConvertOptionsForm: TypeAlias = Annotated[
    ConvertDocumentsOptions, Depends(form_model(ConvertDocumentsOptions))
]
ChunkConvertOptionsForm: TypeAlias = Annotated[
    ConvertDocumentsOptions, Depends(read_chunk_convert_options)
]
HybridChunkingForm: TypeAlias = Annotated[
    HybridChunkerOptions,
    Depends(form_model(HybridChunkerOptions, "chunking_", exclude={"chunker"})),
]
HierarchicalChunkingForm: TypeAlias = Annotated[
    HierarchicalChunkerOptions,
    Depends(form_model(HierarchicalChunkerOptions, "chunking_", exclude={"chunker"})),
]
CallbacksForm: TypeAlias = Annotated[list[CallbackSpec], Depends(read_callbacks)]
TargetTypeForm: TypeAlias = Annotated[TargetName | None, Depends(read_target_type)]
IncludeConvertedDocForm: TypeAlias = Annotated[
    bool, Form(description="Whether the reply also holds the converted document.")
]
