"""What a request may ask of this server, decided in one place, before a task is accepted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from docling.datamodel.service.options import ConvertDocumentsOptions
from docling_core.types.doc.base import ImageRefMode

from docling_serve.policy.build_stages import build_stages
from docling_serve.policy.options import OptionRules
from docling_serve.policy.registry import SOURCE_CONNECTORS, Registry
from docling_serve.policy.stages import Stage
from docling_serve.policy.violations import PolicyViolation

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
    which the settings or this server list them. All checks raise :class:`PolicyViolation`.
    """

    stages: Mapping[str, Stage]
    options: OptionRules
    source_kinds: tuple[str, ...]
    target_kinds: tuple[str, ...]
    max_sources: int
    artifact_storage: bool

    @classmethod
    def from_settings(cls, settings: Any, registry: Registry | None = None) -> ServicePolicy:
        """Build the policy from an object with the attributes of the server's settings.

        ``registry`` says what docling offers; by default it is read from the installation.

        Raises:
            ValueError: a source or target kind of the settings does not exist here.
        """
        if registry is None:
            registry = Registry.discover(allow_external_plugins=settings.allow_external_plugins)
        stages = build_stages(settings, registry)
        storage = registry.storage_kinds
        return cls(
            stages=stages,
            options=OptionRules.from_settings(settings, stages, registry),
            source_kinds=_open_kinds(
                "allowed_source_types", settings.allowed_source_types, (*_DIRECT_SOURCES, *storage)
            ),
            target_kinds=_open_kinds(
                "allowed_target_types", settings.allowed_target_types, (*_OWN_TARGETS, *storage)
            ),
            max_sources=settings.max_sources_per_request,
            artifact_storage=settings.artifact_storage_enabled,
        )

    def check_options(self, options: ConvertDocumentsOptions) -> ConvertDocumentsOptions:
        """Check conversion options; returns them completed with this server's own defaults.

        The argument is not changed.
        """
        return self.options.check(options)

    def check_source_count(self, count: int, what: Literal["files", "sources"] = "sources") -> None:
        """Refuse more documents than one request may have."""
        if count > self.max_sources:
            raise PolicyViolation(
                f"Too many {what}: {count} exceeds the maximum of {self.max_sources}."
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

    def check_pairing(self, source_kinds: Iterable[str], target_kinds: Sequence[str]) -> None:
        """Refuse a source that stands for many documents without a storage to put them in.

        No target at all counts as none that is a storage.
        """
        storages = (*SOURCE_CONNECTORS, PRESIGNED_URL)
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

    def _usable_targets(self, *, chunk: bool) -> list[str]:
        presigned = self.artifact_storage and not chunk
        return [kind for kind in self.target_kinds if kind != PRESIGNED_URL or presigned]


def _open_kinds(
    setting: str, allowed: list[str] | None, available: tuple[str, ...]
) -> tuple[str, ...]:
    if allowed is None:
        return available
    unknown = [kind for kind in allowed if kind not in available]
    if unknown:
        raise ValueError(
            f"{setting}: {', '.join(unknown)} is not available on this server. "
            f"Available: {', '.join(available)}."
        )
    return tuple(allowed)
