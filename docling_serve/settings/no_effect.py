"""Settings that are set and have no effect, each with the reason."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from .engine_local import LocalEngineSettings
from .engine_ray import RayEngineSettings
from .engine_ray_actors import RayActorSettings
from .engine_rq import RqEngineSettings
from .isolation import IsolationSettings
from .model import DoclingServeSettings, env_names
from .storage import ArtifactStorageSettings
from .types import ArtifactStorageBackend, AsyncEngine


@dataclass(frozen=True)
class NoEffect:
    """A setting without effect."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{env_names(self.name)[0]} has no effect: {self.reason}"


@dataclass(frozen=True)
class _Rule:
    """These settings have no effect where ``applies`` says so."""

    names: Collection[str]
    applies: Callable[[DoclingServeSettings], bool]
    reason: str


_HAS_NONE = "Has no effect: "
_SWITCH = "use_subprocess_for_ocr"
_NEIGHBOURS = {name for name in IsolationSettings.model_fields if name.startswith("unload_")}
_WORKERS = set(IsolationSettings.model_fields) - {_SWITCH, "free_vram_on_idle"} - _NEIGHBOURS
_CACHE = {name for name in LocalEngineSettings.model_fields if name.startswith("result_cache")}
_STORAGE = set(ArtifactStorageSettings.model_fields)
_AZURE = {name for name in _STORAGE if "_azure_" in name}
_ANY_STORAGE = {
    "artifact_storage_enabled",
    "artifact_storage_backend",
    "artifact_storage_presign_ttl_seconds",
}


def _is_not(kind: AsyncEngine) -> Callable[[DoclingServeSettings], bool]:
    return lambda settings: settings.eng_kind is not kind


_STATED = tuple(
    _Rule({name}, lambda _: True, field.description.removeprefix(_HAS_NONE))
    for group in (RayEngineSettings, RayActorSettings)
    for name, field in group.model_fields.items()
    if field.description is not None and field.description.startswith(_HAS_NONE)
)

_RULES = (
    _Rule({"api_host"}, lambda _: True, "UVICORN_HOST sets the address."),
    _Rule({"sync_poll_interval"}, lambda _: True, "an answer comes when its task ends."),
    _Rule(
        {"eng_rq_zombie_reaper_interval", "eng_rq_zombie_reaper_max_age"},
        lambda _: True,
        "a gateway remembers no tasks; those in Redis expire by eng_rq_results_ttl.",
    ),
    _Rule(set(RqEngineSettings.model_fields), _is_not(AsyncEngine.RQ), "it is for eng_kind=rq."),
    _Rule(
        {*RayEngineSettings.model_fields, *RayActorSettings.model_fields},
        _is_not(AsyncEngine.RAY),
        "it is for eng_kind=ray.",
    ),
    _Rule(
        {"eng_loc_num_workers", "eng_loc_share_models", *_CACHE},
        _is_not(AsyncEngine.LOCAL),
        "it is for eng_kind=local.",
    ),
    _Rule(_CACHE - {"result_cache"}, lambda s: not s.result_cache, "result_cache is off."),
    _Rule(
        {"eng_loc_num_workers", "eng_loc_share_models", "load_models_at_boot"},
        lambda s: s.eng_kind is AsyncEngine.LOCAL and s.use_subprocess_for_ocr is True,
        "in subprocess mode models are loaded by workers; see the settings subprocess_*.",
    ),
    _Rule(_WORKERS, lambda s: s.use_subprocess_for_ocr is False, f"{_SWITCH} is off."),
    _Rule(
        {"subprocess_max_workers"},
        lambda s: s.eng_kind is AsyncEngine.RAY,
        "eng_ray_max_ongoing_requests_per_replica says how many tasks an actor runs at once.",
    ),
    *_STATED,
    _Rule(
        {"subprocess_max_workers"},
        lambda s: s.eng_kind is AsyncEngine.RQ,
        "eng_rq_workers, or rq-worker --workers, says how many tasks an rq-worker runs at once.",
    ),
    _Rule(
        {"unload_ollama_model"},
        lambda s: not s.unload_ollama_base_url,
        "unload_ollama_base_url is not set.",
    ),
    _Rule(
        _STORAGE - {"artifact_storage_enabled"},
        lambda s: not s.artifact_storage_enabled,
        "artifact_storage_enabled is off.",
    ),
    _Rule(
        _AZURE,
        lambda s: s.artifact_storage_backend is not ArtifactStorageBackend.AZURE,
        "it is for artifact_storage_backend=azure.",
    ),
    _Rule(
        _STORAGE - _AZURE - _ANY_STORAGE,
        lambda s: s.artifact_storage_backend is ArtifactStorageBackend.AZURE,
        "it is for artifact_storage_backend=s3.",
    ),
    _Rule(
        {"result_removal_delay"},
        lambda s: not s.single_use_results and s.eng_kind is AsyncEngine.LOCAL,
        "single_use_results is off, so results stay.",
    ),
    _Rule(
        {"metrics_port"},
        lambda s: not s.otel_enable_metrics,
        "otel_enable_metrics is off.",
    ),
)


def settings_without_effect(
    settings: DoclingServeSettings, is_set: Collection[str]
) -> Iterator[NoEffect]:
    """The fields in ``is_set`` that have no effect, each once, with the first reason."""
    reported: set[str] = set()
    for rule in _RULES:
        for name in sorted(set(rule.names) & set(is_set) - reported):
            if rule.applies(settings):
                reported.add(name)
                yield NoEffect(name, rule.reason)
