"""docling-jobkit's parsing of a request's options, without its bugs.

Read from docling-jobkit 3.9.1 (``docling_jobkit.convert.manager``).
Guarded by tests/unit/conversion/test_converters.py.
"""

from __future__ import annotations

from typing import Any

from docling.datamodel.picture_classification_options import DocumentPictureClassifierOptions
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling_jobkit.convert.manager import DoclingConverterManager

_STAGES_WITH_A_FLAWED_DEFAULT = ("layout", "ocr", "picture_classification", "chunking")


class ConverterManager(DoclingConverterManager):
    """docling-jobkit's parsing of a request's options, with custom presets as defaults.

    jobkit looks for a default preset of layout, OCR, picture classification and chunking only among
    docling's own, so a custom one works by its name, but not as the default (upstream M101).
    """

    def _build_preset_registries(self) -> None:
        super()._build_preset_registries()  # type: ignore[no-untyped-call]
        for stage in _STAGES_WITH_A_FLAWED_DEFAULT:
            default = getattr(self.config, f"default_{stage}_preset")
            custom = getattr(self.config, f"custom_{stage}_presets")
            if default in custom:
                registry = getattr(self, f"{stage}_preset_registry")
                registry["default"] = {"source": "custom", "options": custom[default]}

    def parse_chunking_options(self, request: ConvertDocumentsOptions) -> Any:
        """Like jobkit's, but validated: jobkit passes on a custom preset as plain data."""
        super().parse_chunking_options(request)
        return request.chunking_options

    def _parse_picture_classification_options(self, request: ConvertDocumentsOptions) -> Any:
        """Like jobkit's, but validated: jobkit passes on a request's own config as plain data."""
        options = super()._parse_picture_classification_options(request)
        if isinstance(options, dict):
            return DocumentPictureClassifierOptions.model_validate(options)
        return options
