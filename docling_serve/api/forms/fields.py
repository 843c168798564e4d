"""The fields of the file endpoints' forms.

The schema of a form has the properties, types and defaults of docling-serve 1.38.2 (upstream,
OpenAPI: ``Body_process_file_*`` and ``Body_Chunk_files_*``).
"""

from __future__ import annotations

from typing import Any

from docling.datamodel.service.callbacks import CallbackSpec
from docling.datamodel.service.chunking import HierarchicalChunkerOptions, HybridChunkerOptions
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.datamodel.service.requests import TargetName
from fastapi import UploadFile
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from docling_serve.api.forms.model_form import form_model
from docling_serve.api.forms.multipart import FormField, Part
from docling_serve.api.forms.spelling import read_array, read_object


def _without_chunker(options: ConvertDocumentsOptions) -> ConvertDocumentsOptions:
    """The chunker comes from the path and the ``chunking_*`` fields only: JSON chunk requests drop
    these two options in docling's request model."""
    return options.model_copy(update={"chunking_options": None, "chunking_preset": None})


def _callbacks(sent: dict[str, Any]) -> list[CallbackSpec]:
    """Each value is a URL, the JSON text of a ``CallbackSpec``, or a JSON array of such; empty
    values are skipped.

    Raises:
        RequestValidationError: at ``("body", "callbacks")`` (upstream I81).
    """
    values = [value for value in sent.get("callbacks", ()) if value.strip()]
    arrays = [read_array(value) for value in values]
    return [
        _callback(item)
        for value, array in zip(values, arrays, strict=True)
        for item in ([value] if array is None else array)
    ]


def _callback(value: Any) -> CallbackSpec:
    spec: Any = value
    if isinstance(value, str):
        try:
            spec = read_object(value)
        except PydanticCustomError:  # then it is refused unless it is a URL
            spec = {"url": value.strip()}
    try:
        return CallbackSpec.model_validate(spec)
    except ValidationError as exc:
        errors: list[dict[str, Any]] = [
            {**error, "loc": ("body", "callbacks")} for error in exc.errors(include_url=False)
        ]
        raise RequestValidationError(errors) from exc


def _files(sent: dict[str, Any]) -> list[UploadFile]:
    files: list[UploadFile] = sent["files"]
    return files


def _target_type(sent: dict[str, Any]) -> TargetName | None:
    """The target kind the form names; ``None`` where it names none, so policy chooses."""
    target: TargetName | None = sent.get("target_type")
    return target


def _include_converted_doc(sent: dict[str, Any]) -> bool:
    return bool(sent.get("include_converted_doc", False))


FILES = Part({"files": FormField(list[UploadFile], items_are_whole=True)}, _files)
CONVERT_OPTIONS = form_model(ConvertDocumentsOptions, whole=["options"])
CHUNK_CONVERT_OPTIONS = form_model(
    ConvertDocumentsOptions,
    "convert_",
    exclude={"to_formats"},
    then=_without_chunker,
    whole=["options", "convert_options"],
)
HYBRID_CHUNKING = form_model(
    HybridChunkerOptions, "chunking_", exclude={"chunker"}, whole=["chunking_options"]
)
HIERARCHICAL_CHUNKING = form_model(
    HierarchicalChunkerOptions, "chunking_", exclude={"chunker"}, whole=["chunking_options"]
)
CALLBACKS = Part(
    {
        "callbacks": FormField(
            list[str],
            [],
            "Where to report progress: a URL, or a JSON object as in JSON requests.",
            items_are_whole=True,
        )
    },
    _callbacks,
)
TARGET_TYPE = Part(
    {
        "target_type": FormField(
            TargetName,
            TargetName.INBODY,
            "Where the result goes: into the reply, or a zip file.",
        )
    },
    _target_type,
)
INCLUDE_CONVERTED_DOC = Part(
    {
        "include_converted_doc": FormField(
            bool, False, "Whether the reply also includes the converted document."
        )
    },
    _include_converted_doc,
)
