"""What a request may ask of this server, decided in one place, before a task is accepted."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from docling.datamodel.service.chunking import BaseChunkerOptions
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling_core.types.doc.base import ImageRefMode

from docling_serve.policy.build_stages import build_stages
from docling_serve.policy.connectors import EXTRAS, SOURCE_CONNECTORS, MoreConnectors
from docling_serve.policy.options import OptionRules
from docling_serve.policy.registry import Registry
from docling_serve.policy.stages import Stage
from docling_serve.policy.violations import PolicyViolation

_log = logging.getLogger(__name__)

PRESIGNED_URL = "presigned_url"
_DIRECT_SOURCES = ("file", "http")
_OWN_TARGETS = ("inbody", "zip", "put", PRESIGNED_URL)

NO_ARTIFACT_STORAGE = (
    "Presigned URL target requires artifact storage to be configured and enabled on the server."
)
NO_PRESIGNED_CHUNKS = "presigned_url target is not supported for chunk endpoints."


@dataclass(frozen=True)
class ServicePolicy:
    """The rules of one server; immutable, made once from its settings, used by every route.

    ``source_kinds`` are open on the batch endpoint, ``target_kinds`` everywhere, in the order in
    which the settings or this server list them; ``more`` has the models of those that are not part
    of docling's own requests, and ``missing`` the kinds whose library is not installed here. All
    checks raise :class:`PolicyViolation`.
    """

    stages: Mapping[str, Stage]
    options: OptionRules
    source_kinds: tuple[str, ...]
    target_kinds: tuple[str, ...]
    max_sources: int
    max_callbacks: int
    artifact_storage: bool
    more: MoreConnectors = field(default_factory=MoreConnectors)
    missing: frozenset[str] = frozenset()

    @classmethod
    def from_settings(cls, settings: Any, registry: Registry | None = None) -> ServicePolicy:
        """Build the policy from an object with the attributes of the server's settings.

        ``registry`` says what docling offers; by default it is read from the installation.

        Raises:
            ValueError: a source or target kind of the settings does not exist here, or the
                library of the artifact storage or of a default stage is not installed.
        """
        if registry is None:
            registry = Registry.discover(allow_external_plugins=settings.allow_external_plugins)
        stages = build_stages(settings, registry)
        sources = (*_DIRECT_SOURCES, *SOURCE_CONNECTORS)
        targets = (*_OWN_TARGETS, *SOURCE_CONNECTORS)
        asked_sources, asked_targets = settings.allowed_source_types, settings.allowed_target_types
        more = MoreConnectors()
        if {*(asked_sources or ()), *(asked_targets or ())} - {*sources, *targets}:
            more = MoreConnectors.of_jobkit(
                {*sources, *targets}, allow_external_plugins=settings.allow_external_plugins
            )
        missing = frozenset[str]()
        if settings.eng_kind == "local":  # else the workers are other installations
            missing = frozenset(SOURCE_CONNECTORS).difference(registry.storage_kinds)
        if settings.artifact_storage_enabled and "azure_blob" in missing:
            _require_backend(settings.artifact_storage_backend)
        for kind in sorted(missing.intersection((*(asked_sources or ()), *(asked_targets or ())))):
            _log.warning("requests for %s are refused: %s", kind, _how_to_get(kind))
        return cls(
            stages=stages,
            options=OptionRules.from_settings(settings, stages, registry),
            source_kinds=_open_kinds("allowed_source_types", asked_sources, sources, more.sources),
            target_kinds=_open_kinds("allowed_target_types", asked_targets, targets, more.targets),
            max_sources=settings.max_sources_per_request,
            max_callbacks=settings.max_callbacks_per_request,
            artifact_storage=settings.artifact_storage_enabled,
            more=more,
            missing=missing,
        )

    def check_options(self, options: ConvertDocumentsOptions) -> ConvertDocumentsOptions:
        """Check conversion options; returns them completed with this server's own defaults.

        The argument is not changed.
        """
        return self.options.check(options)

    def check_chunker(self, options: BaseChunkerOptions) -> None:
        """Refuse a chunker that needs what is not installed here."""
        self.stages["chunking"].check_installed(options.chunker.value, "with chunker")

    def check_source_count(self, count: int, what: Literal["files", "sources"] = "sources") -> None:
        """Refuse more documents than one request may have."""
        if count > self.max_sources:
            raise PolicyViolation(
                f"Too many {what}: {count} exceeds the maximum of {self.max_sources}."
            )

    def check_callback_count(self, count: int) -> None:
        """Refuse more callbacks than one request may have."""
        if count > self.max_callbacks:
            raise PolicyViolation(
                f"Too many callbacks: {count} exceeds the maximum of {self.max_callbacks}"
                " (max_callbacks_per_request)."
            )

    def check_sources(self, kinds: Iterable[str], *, batch: bool = False) -> None:
        """Check the kinds of the sources.

        The settings narrow the batch endpoint, which takes no ``file``; the others always take
        ``file`` and ``http``, and nothing else (upstream E40, G77).
        """
        allowed: tuple[str, ...] = _DIRECT_SOURCES
        if batch:
            allowed = tuple(kind for kind in self.source_kinds if kind != "file")
        for kind in kinds:
            if kind not in allowed:
                raise PolicyViolation(
                    f"Source kind '{kind}' is not allowed. Allowed kinds: {', '.join(allowed)}."
                )
            self._check_installed("Source", kind)

    def check_targets(self, kinds: Sequence[str], *, chunk: bool = False) -> None:
        """Check the kinds of the targets, of a chunk request if ``chunk``."""
        if PRESIGNED_URL in kinds:
            if chunk:
                raise PolicyViolation(NO_PRESIGNED_CHUNKS)
            if not self.artifact_storage:
                raise PolicyViolation(NO_ARTIFACT_STORAGE)
        for kind in kinds:
            if kind not in self.target_kinds:
                raise PolicyViolation(
                    f"Target kind '{kind}' is not allowed. "
                    f"Allowed kinds: {', '.join(self._usable_targets(chunk=chunk))}."
                )
            self._check_installed("Target", kind)

    def check_pairing(self, source_kinds: Iterable[str], target_kinds: Sequence[str]) -> None:
        """Refuse a source that stands for many documents without a storage to put them in.

        A request without a target counts as one without a storage.
        """
        storages = (*SOURCE_CONNECTORS, PRESIGNED_URL, *self.more.targets)
        if all(kind in storages for kind in target_kinds) and target_kinds:
            return
        for kind in source_kinds:
            if kind not in _DIRECT_SOURCES:
                raise PolicyViolation(
                    f"Source kind '{kind}' needs a storage target: {', '.join(storages)}."
                )

    def default_target_kind(self, *, chunk: bool = False) -> str:
        """The target of a request that names none: the first open one that needs no details.

        With artifact storage that is ``presigned_url``, else ``inbody`` before ``zip``.
        """
        usable = self._usable_targets(chunk=chunk)
        for kind in (PRESIGNED_URL, "inbody", "zip"):
            if kind in usable:
                return kind
        raise PolicyViolation(f"The request must name a target: {', '.join(usable)}.")

    def image_export_modes(self) -> tuple[ImageRefMode, ...]:
        """The image export modes that a request may ask for."""
        return self.options.image_export_modes

    def _check_installed(self, role: str, kind: str) -> None:
        if kind in self.missing:
            raise PolicyViolation(f"{role} kind '{kind}' cannot be used: {_how_to_get(kind)}")

    def _usable_targets(self, *, chunk: bool) -> list[str]:
        presigned = self.artifact_storage and not chunk
        return [kind for kind in self.target_kinds if kind != PRESIGNED_URL or presigned]


def _how_to_get(kind: str) -> str:
    extra = EXTRAS.get(kind)
    if extra is None:
        return f"the library {SOURCE_CONNECTORS[kind]} is not installed on this server."
    return (
        f"the extra '{extra}' is not installed on this server "
        f"(pip install 'docling-serve[{extra}]')."
    )


def _require_backend(backend: str) -> None:
    if backend == "azure":
        raise ValueError(f"artifact_storage_backend: {_how_to_get('azure_blob')}")


def _open_kinds(
    setting: str, allowed: list[str] | None, own: tuple[str, ...], more: Iterable[str]
) -> tuple[str, ...]:
    """Those that ``allowed`` opens, by default its ``own``."""
    if allowed is None:
        return own
    available = (*own, *more)
    unknown = [kind for kind in allowed if kind not in available]
    if unknown:
        raise ValueError(
            f"{setting}: {', '.join(unknown)} is not available on this server. "
            f"Available: {', '.join(available)}. Others come with an extra of docling-jobkit, or "
            "with a plugin and allow_external_plugins."
        )
    return tuple(allowed)
