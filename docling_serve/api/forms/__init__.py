"""Multipart forms as validated models."""

from docling_serve.api.forms.fields import (
    CALLBACKS,
    CHUNK_CONVERT_OPTIONS,
    CONVERT_OPTIONS,
    FILES,
    HIERARCHICAL_CHUNKING,
    HYBRID_CHUNKING,
    INCLUDE_CONVERTED_DOC,
    TARGET_TYPE,
)
from docling_serve.api.forms.model_form import form_model
from docling_serve.api.forms.multipart import REF, MultipartForm, Part, SentForm, form_body

__all__ = [
    "CALLBACKS",
    "CHUNK_CONVERT_OPTIONS",
    "CONVERT_OPTIONS",
    "FILES",
    "HIERARCHICAL_CHUNKING",
    "HYBRID_CHUNKING",
    "INCLUDE_CONVERTED_DOC",
    "REF",
    "TARGET_TYPE",
    "MultipartForm",
    "Part",
    "SentForm",
    "form_body",
    "form_model",
]
