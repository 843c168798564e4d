"""Settings of subprocess mode: worker processes, and memory that comes back when they end."""

from typing import Literal

from pydantic import BaseModel, Field

from .types import SwitchOrAuto, called


class IsolationSettings(BaseModel):
    """Run conversions in worker processes that can be stopped, so that GPU memory comes back."""

    use_subprocess_for_ocr: SwitchOrAuto = Field(
        default=False,
        json_schema_extra=called("use_subprocess", "use_subprocess_for_ocr"),
        description="Convert in worker processes: true, false, or auto (on when the GPU has less"
        " than 12 GB in total).",
    )
    subprocess_max_workers: int = Field(
        default=1, ge=1, description="Worker processes that may convert at the same time."
    )
    subprocess_timeout: float = Field(
        default=600.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds a task may take in its worker; then the worker is killed and the task"
        " fails.",
    )
    subprocess_start_method: Literal["spawn", "forkserver"] = Field(
        default="spawn",
        description="How workers start: spawn (a clean interpreter), or forkserver (a copy of one"
        " that has done its imports; faster, takes memory while idle).",
    )
    subprocess_prewarm: int = Field(
        default=0,
        ge=0,
        description="Standby processes that have done their imports and hold no GPU memory.",
    )
    subprocess_idle_timeout: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds a worker with loaded models may stay idle before it ends. Counts only"
        " with free_vram_on_idle=false, otherwise an idle worker ends at once.",
    )
    subprocess_max_tasks: int = Field(
        default=0,
        ge=0,
        description="Tasks after which a worker is replaced by a fresh one. 0: no limit.",
    )
    subprocess_stop_grace: float = Field(
        default=5.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds between the steps of stopping a worker: asked, SIGTERM, SIGKILL.",
    )
    free_vram_on_idle: bool | None = Field(
        default=None,
        description="Give GPU memory back whenever no task waits. Unset: on in subprocess mode."
        " On without that mode, models load for a task and are cleared after it.",
    )
    unload_ollama_base_url: str = Field(
        default="",
        description="Base URL of an Ollama server on the same GPU, for example"
        " http://localhost:11434. It is asked to unload before models load here.",
    )
    unload_ollama_model: str = Field(
        default="",
        description="Name of the Ollama model to unload.",
    )
    unload_llama_swap_base_url: str = Field(
        default="",
        description="Base URL of a llama-swap server on the same GPU, for example"
        " http://localhost:8080. It is asked to unload before models load here.",
    )
    unload_external_model_timeout: float = Field(
        default=10.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds to wait for each of these servers to unload.",
    )

    def frees_vram_on_idle(self, subprocess_mode: bool) -> bool:
        """Whether GPU memory is given back when idle; where unset, subprocess mode decides."""
        return subprocess_mode if self.free_vram_on_idle is None else self.free_vram_on_idle

    def worker_idle_timeout_s(self) -> float:
        """Seconds a warm worker of subprocess mode may stay idle; 0 ends it at once."""
        return 0.0 if self.frees_vram_on_idle(True) else self.subprocess_idle_timeout
