"""Multipart forms as validated models."""

from docling_serve.api.forms.fields import (
    CallbacksForm,
    ChunkConvertOptionsForm,
    ConvertOptionsForm,
    FilesForm,
    HierarchicalChunkingForm,
    HybridChunkingForm,
    IncludeConvertedDocForm,
    TargetTypeForm,
)
from docling_serve.api.forms.model_form import form_model

__all__ = [
    "CallbacksForm",
    "ChunkConvertOptionsForm",
    "ConvertOptionsForm",
    "FilesForm",
    "HierarchicalChunkingForm",
    "HybridChunkingForm",
    "IncludeConvertedDocForm",
    "TargetTypeForm",
    "form_model",
]
