"""Settings that choose models and engines for the stages of a conversion.

A *preset* is a named set of options of one stage, a *kind* an implementation of a stage, an
*engine* what runs a model. "default" in a request means the one named here.
"""

from pydantic import BaseModel, Field

from .types import NameList, Presets


class PresetSettings(BaseModel):
    """Default, allowed and additional presets (named option sets) for each stage."""

    default_vlm_preset: str = Field(
        default="granite_docling",
        description="Preset of the VLM pipeline where a request names none.",
    )
    allowed_vlm_presets: NameList = Field(
        default=None,
        description="Presets of the VLM pipeline open to requests, comma-separated. Unset: all.",
    )
    custom_vlm_presets: Presets = Field(
        default={},
        description="Additional presets of the VLM pipeline, a JSON object from name to options.",
    )
    allowed_vlm_engines: NameList = Field(
        default=None,
        description="Engines of the VLM pipeline open to requests, comma-separated. Unset: all.",
    )
    default_picture_description_preset: str = Field(
        default="smolvlm", description="Preset for picture description where a request names none."
    )
    allowed_picture_description_presets: NameList = Field(
        default=None,
        description="Presets for picture description open to requests, comma-separated. Unset:"
        " all.",
    )
    custom_picture_description_presets: Presets = Field(
        default={},
        description="Additional presets for picture description, a JSON object from name to"
        " options.",
    )
    allowed_picture_description_engines: NameList = Field(
        default=None,
        description="Engines for picture description open to requests, comma-separated. Unset:"
        " all.",
    )
    default_code_formula_preset: str = Field(
        default="granite_docling",
        description="Preset for code and formula where a request names none.",
    )
    allowed_code_formula_presets: NameList = Field(
        default=None,
        description="Presets for code and formula open to requests, comma-separated. Unset: all.",
    )
    custom_code_formula_presets: Presets = Field(
        default={},
        description="Additional presets for code and formula, a JSON object from name to options.",
    )
    allowed_code_formula_engines: NameList = Field(
        default=None,
        description="Engines for code and formula open to requests, comma-separated. Unset: all.",
    )
    default_chart_extraction_preset: str = Field(
        default="granite_vision_v4",
        description="Preset for chart extraction where a request names none.",
    )
    allowed_chart_extraction_presets: NameList = Field(
        default=None,
        description="Presets for chart extraction open to requests, comma-separated. Unset: all.",
    )
    custom_chart_extraction_presets: Presets = Field(
        default={},
        description="Additional presets for chart extraction, a JSON object from name to options.",
    )
    allowed_chart_extraction_engines: NameList = Field(
        default=None,
        description="Engines for chart extraction open to requests, comma-separated. Unset: all.",
    )
    default_picture_classification_preset: str = Field(
        default="document_figure_classifier_v2",
        description="Preset for picture classification where a request names none.",
    )
    allowed_picture_classification_presets: NameList = Field(
        default=None,
        description="Presets for picture classification open to requests, comma-separated. Unset:"
        " all.",
    )
    custom_picture_classification_presets: Presets = Field(
        default={},
        description="Additional presets for picture classification, a JSON object from name to"
        " options.",
    )
    default_table_structure_kind: str = Field(
        default="docling_tableformer",
        description="Kind of table structure model where a request names none.",
    )
    allowed_table_structure_kinds: NameList = Field(
        default=None,
        description="Kinds of table structure model open to requests, comma-separated. Unset: all.",
    )
    default_table_structure_preset: str = Field(
        default="tableformer_v1_accurate",
        description="Preset for table structure where a request names none.",
    )
    allowed_table_structure_presets: NameList = Field(
        default=None,
        description="Presets for table structure open to requests, comma-separated. Unset: all.",
    )
    custom_table_structure_presets: Presets = Field(
        default={},
        description="Additional presets for table structure, a JSON object from name to options.",
    )
    default_layout_kind: str = Field(
        default="docling_layout_default",
        description="Kind of layout model where a request names none.",
    )
    allowed_layout_kinds: NameList = Field(
        default=None,
        description="Kinds of layout model open to requests, comma-separated. Unset: all.",
    )
    default_layout_preset: str = Field(
        default="docling_layout_default",
        description="Preset for layout where a request names none.",
    )
    allowed_layout_presets: NameList = Field(
        default=None,
        description="Presets for layout open to requests, comma-separated. Unset: all.",
    )
    custom_layout_presets: Presets = Field(
        default={}, description="Additional presets for layout, a JSON object from name to options."
    )
    default_ocr_kind: str = Field(
        default="auto", description="Kind of OCR engine where a request names none."
    )
    allowed_ocr_kinds: NameList = Field(
        default=None,
        description="Kinds of OCR engine open to requests, comma-separated. Unset: all.",
    )
    default_ocr_preset: str = Field(
        default="auto", description="Preset for OCR where a request names none."
    )
    allowed_ocr_presets: NameList = Field(
        default=None,
        description="Presets for OCR open to requests, comma-separated. Unset: all. Custom ones"
        " always are.",
    )
    custom_ocr_presets: Presets = Field(
        default={}, description="Additional presets for OCR, a JSON object from name to options."
    )
    default_chunking_preset: str = Field(
        default="granite_embedding_278m",
        description="Preset for chunking where a request names none.",
    )
    allowed_chunking_presets: NameList = Field(
        default=None,
        description="Presets for chunking open to requests, comma-separated. Unset: all.",
    )
    custom_chunking_presets: Presets = Field(
        default={},
        description="Additional presets for chunking, a JSON object from name to options.",
    )
