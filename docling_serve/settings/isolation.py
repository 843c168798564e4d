"""Settings of subprocess mode: worker processes, whose memory is freed when they exit."""

from typing import Literal

from pydantic import BaseModel, ByteSize, Field

from .types import NameList, SwitchOrAuto, called


class IsolationSettings(BaseModel):
    """Run conversions in worker processes that can be stopped, so that GPU memory is freed."""

    use_subprocess_for_ocr: SwitchOrAuto = Field(
        default=False,
        json_schema_extra=called("use_subprocess", "use_subprocess_for_ocr"),
        description="Convert in worker processes: true, false, or auto (on when the GPU has at"
        " most 12 GiB in total).",
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
    subprocess_light_timeout: float = Field(
        default=60.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds for each document of a task that needs no models (Markdown, HTML,"
        " office files), within subprocess_timeout. 0: no separate limit.",
    )
    subprocess_light_workers: int = Field(
        default=1,
        ge=0,
        description="Additional worker processes for documents that need no models (Markdown, HTML,"
        " office files), so that they never wait behind a long scan. Such documents also use the"
        " other workers while these are idle. 0: they wait in the same queue as all others.",
    )
    subprocess_page_fanout: int = Field(
        default=0,
        ge=0,
        description="Pages per slice of a long PDF, whose slices several workers convert in"
        " parallel; the result is the same as in one piece. Needs subprocess_max_workers above 1."
        " 0: a document stays in one worker.",
    )
    subprocess_devices: NameList = Field(
        default=None,
        description="GPUs that workers may use, for example cuda:0,cuda:1; each worker gets one."
        " Unset: the one in DOCLING_DEVICE, or cuda:0.",
    )
    subprocess_retries: int = Field(
        default=1,
        ge=0,
        description="How often a task is retried in a fresh worker after its worker was lost.",
    )
    subprocess_start_method: Literal["spawn", "forkserver"] = Field(
        default="spawn",
        description="How workers start: spawn (a new interpreter, about 2 s), or forkserver (a copy"
        " of a template process with all imports done, about 0.1 s; the template takes about"
        " 220 MB).",
    )
    subprocess_prewarm: int | None = Field(
        default=None,
        ge=0,
        description="Standby processes, ready to convert, about 220 MB of memory each and no GPU"
        " memory. Unset: 1, or 0 with subprocess_start_method=forkserver, whose template serves the"
        " same purpose. 0: with spawn no process is kept, and a single request waits for one to"
        " start.",
    )
    subprocess_preload_torch: bool = Field(
        default=False,
        description="Import torch in standby processes and in the template, about 700 MB more each,"
        " so that docling's own layout and table models start about 2.5 s sooner. false: torch is"
        " imported in the first job that needs it.",
    )
    subprocess_idle_timeout: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds a worker may stay idle with its models loaded; then it exits and is"
        " replaced. Applies only with free_vram_on_idle=false, and is 0 otherwise. A worker that"
        " has neither imported torch nor opened a GPU does not exit: it drops its models, after"
        " 3 s at the earliest, and stays ready.",
    )
    subprocess_max_tasks: int = Field(
        default=0,
        ge=0,
        description="Tasks after which a worker is replaced by a fresh one. 0: no limit.",
    )
    subprocess_max_rss: ByteSize = Field(
        default=ByteSize(0),
        description="Memory of a worker above which it is replaced after its task, for example"
        " 4GB. Workers then return freed memory at once, which makes scans a twentieth slower. 0:"
        " no limit.",
    )
    subprocess_max_vram: ByteSize = Field(
        default=ByteSize(0),
        description="GPU memory of a worker above which it is replaced after its task. 0: no"
        " limit.",
    )
    subprocess_max_growth: ByteSize = Field(
        default=ByteSize(0),
        description="Memory growth since a worker's first task above which it is replaced. Freed"
        " memory is returned at once, as with subprocess_max_rss. 0: no limit.",
    )
    subprocess_memory_limit: ByteSize = Field(
        default=ByteSize(0),
        description="Memory of a worker and its children at which it is killed and its task fails,"
        " for example 8GB; a scanned page takes about 0.9 GB. Works with CUDA, unlike an address"
        " space limit. Freed memory is returned at once, as with subprocess_max_rss. 0: no"
        " limit.",
    )
    subprocess_stall_timeout: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds a running task may show no progress (no page finished) before its"
        " worker is killed. 0: no limit.",
    )
    subprocess_start_timeout: float = Field(
        default=120.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds a worker process may take to start, imports included.",
    )
    subprocess_vram_reserve: ByteSize = Field(
        default=ByteSize(3 * 1024**3),
        description="GPU memory that must be free before a worker loads a kind of models for the"
        " first time; afterwards the measured need of that kind applies.",
    )
    subprocess_vram_patience: float = Field(
        default=60.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds a task waits for GPU memory that other programs hold. It then starts"
        " with a warning in the log, because the figure it waits for may be too large. If memory"
        " does run out, the task fails as retryable, with the category capacity (507). For memory"
        " of this server's own workers a task waits longer: after this time one of them exits with"
        " its task. 0: no wait.",
    )
    subprocess_nice: int = Field(
        default=0,
        ge=0,
        le=19,
        description="Niceness of workers, so that they yield the CPU to other programs.",
    )
    subprocess_sandbox: Literal["off", "auto", "require"] = Field(
        default="auto",
        description="Have the kernel deny workers what no conversion needs: auto applies what the"
        " kernel supports, require starts no worker that lacks a layer, off applies nothing. See"
        " docs/security.md.",
    )
    subprocess_sandbox_allow: NameList = Field(
        default=None,
        description="What the sandbox allows in addition: folders to read, for example the models"
        " of a plugin, and the word network, for plugins that call another machine.",
    )
    subprocess_pass_env: NameList = Field(
        default=None,
        description="Environment variables passed to workers in addition to the usual ones (paths,"
        " locale, model hub, CUDA, proxies), for example for a plugin.",
    )
    subprocess_stop_grace: float = Field(
        default=5.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds an idle worker has to exit when asked to; then it gets SIGTERM,"
        " and SIGKILL half a second later.",
    )
    free_vram_on_idle: bool | None = Field(
        default=None,
        description="Free GPU memory whenever no task waits. Unset: on in subprocess mode."
        " When on outside that mode, models load for a task and are cleared after it.",
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
    unload_llama_cpp_base_url: str = Field(
        default="",
        description="Base URL of a llama.cpp server in router mode on the same GPU, for example"
        " http://localhost:8080. It is asked to unload before models load here.",
    )
    unload_vllm_base_url: str = Field(
        default="",
        description="Base URL of a vLLM server on the same GPU, for example http://localhost:8000."
        " It is put to sleep before models load here; it needs VLLM_SERVER_DEV_MODE=1 and"
        " --enable-sleep-mode, and it is not woken up again.",
    )
    unload_lm_studio_base_url: str = Field(
        default="",
        description="Base URL of an LM Studio server on the same GPU, for example"
        " http://localhost:1234. It is asked to unload before models load here.",
    )
    unload_external_model_timeout: float = Field(
        default=10.0,
        gt=0,
        allow_inf_nan=False,
        description="Seconds to wait for each of these servers to unload.",
    )

    def frees_vram_on_idle(self, subprocess_mode: bool) -> bool:
        """Whether GPU memory is freed when idle; where unset, subprocess mode decides."""
        return subprocess_mode if self.free_vram_on_idle is None else self.free_vram_on_idle

    def standby_processes(self) -> int:
        """How many processes of subprocess mode are kept ready."""
        if self.subprocess_prewarm is None:
            return 1 if self.subprocess_start_method == "spawn" else 0
        return self.subprocess_prewarm

    def worker_idle_timeout_s(self) -> float:
        """Seconds a warm worker of subprocess mode may stay idle; 0 ends it at once."""
        return 0.0 if self.frees_vram_on_idle(True) else self.subprocess_idle_timeout
