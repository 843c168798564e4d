"""What a lite install sets where no other source does: the embedded profile.

docling's own defaults need torch, which a lite install does not have. A test compares this with
``examples/embedded.yaml``, which explains the values.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from docling_serve.process.installation import is_lite

ORIGIN = "lite install"

_EMBEDDED: Mapping[str, Any] = MappingProxyType(
    {
        "allow_external_plugins": True,
        "default_layout_kind": "embedded",
        "default_layout_preset": "embedded",
        "custom_layout_presets": {
            "embedded": {"kind": "embedded"},
            "full_page": {"kind": "full_page"},
        },
        "default_table_structure_kind": "embedded",
        "default_table_structure_preset": "embedded",
        "allowed_table_structure_presets": ["embedded", "none"],
        "custom_table_structure_presets": {
            "embedded": {"kind": "embedded"},
            "none": {"kind": "none"},
        },
        "default_ocr_kind": "rapidocr",
        "default_ocr_preset": "rapidocr",
        "allowed_ocr_presets": ["auto", "rapidocr"],
        "custom_ocr_presets": {"auto": {"kind": "rapidocr", "backend": "onnxruntime"}},
    }
)


def defaults_of_this_install() -> dict[str, Any]:
    """Settings by name that replace the defaults of the classes; none in a full install."""
    return dict(_EMBEDDED) if is_lite() else {}
