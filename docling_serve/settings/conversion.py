"""Settings of the conversion: models, plugins, custom configurations, batch sizes."""

from pathlib import Path

from pydantic import BaseModel, Field


class ConversionSettings(BaseModel):
    """Models and plugins, what requests may configure themselves, and batch sizes for PDFs."""

    artifacts_path: Path | None = Field(
        default=None,
        description="Directory with model weights downloaded in advance. Unset: docling's cache. In"
        " subprocess mode they are read into the page cache at startup.",
    )
    load_models_at_boot: bool = Field(
        default=True,
        description="Load the default PDF models at startup; until then /ready answers 503."
        " No effect in subprocess mode, where the server itself loads none.",
    )
    options_cache_size: int = Field(
        default=2,
        description="Sets of loaded models kept per worker; one set serves all requests that need"
        " the same models, regardless of other options. Least recently used sets go first.",
    )
    enable_remote_services: bool = Field(
        default=False,
        description="Let conversions call model services over the network if the request asks.",
    )
    allow_external_plugins: bool = Field(
        default=False, description="Load docling plugins of other installed packages."
    )
    allow_custom_vlm_config: bool = Field(
        default=False, description="Accept vlm_pipeline_custom_config in requests."
    )
    allow_custom_picture_description_config: bool = Field(
        default=False, description="Accept picture_description_custom_config in requests."
    )
    allow_custom_code_formula_config: bool = Field(
        default=False, description="Accept code_formula_custom_config in requests."
    )
    allow_custom_chart_extraction_config: bool = Field(
        default=False, description="Accept chart_extraction_custom_config in requests."
    )
    allow_custom_table_structure_config: bool = Field(
        default=False, description="Accept table_structure_custom_config in requests."
    )
    allow_custom_layout_config: bool = Field(
        default=False, description="Accept layout_custom_config in requests."
    )
    allow_custom_picture_classification_config: bool = Field(
        default=False, description="Accept picture_classification_custom_config in requests."
    )
    allow_custom_ocr_config: bool = Field(
        default=False, description="Accept ocr_custom_config in requests."
    )
    queue_max_size: int | None = Field(
        default=None,
        description="Pages queued between two stages of the PDF pipeline (not a limit on tasks)."
        " Unset: docling's default.",
    )
    ocr_batch_size: int | None = Field(
        default=None, description="Pages per OCR batch. Unset: docling's default."
    )
    layout_batch_size: int | None = Field(
        default=None, description="Pages per layout batch. Unset: docling's default."
    )
    table_batch_size: int | None = Field(
        default=None, description="Pages per table structure batch. Unset: docling's default."
    )
    batch_polling_interval_seconds: float | None = Field(
        default=None,
        description="Seconds a stage of the PDF pipeline waits for its batch to fill. Unset:"
        " docling's default.",
    )
