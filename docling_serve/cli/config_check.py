"""``docling-serve config check``: the settings, where each comes from, and what is wrong with them.

Starts nothing and connects to nothing. Kinds and presets are checked with the server's own rules,
which import docling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from docling_serve.orchestrator_factory import EngineUnavailable, require_one_process
from docling_serve.process.installation import is_lite
from docling_serve.settings import (
    GROUPS,
    DoclingServeSettings,
    UvicornSettings,
    describe_settings_error,
    env_names,
    find_unknown_settings,
)
from docling_serve.settings.no_effect import settings_without_effect
from docling_serve.settings.origins import EffectiveSetting, effective_settings

_DEFAULT = "default"


def check_config(out: Console, err: Console, *, show_all: bool = False) -> int:
    """Print the effective settings and remarks on them; returns 1 if a server would refuse to start
    with them, else 0. Without ``show_all`` defaults are left out."""
    made: dict[type[BaseSettings], BaseSettings] = {}
    errors: list[str] = []
    for settings_cls in (UvicornSettings, DoclingServeSettings):
        try:
            made[settings_cls] = settings_cls()
        except ValidationError as exc:
            errors += describe_settings_error(exc).splitlines()
    settings: Any = made.get(DoclingServeSettings)
    if settings is not None:
        errors += _refused_by_policy(settings)
        errors += _refused_for_its_processes(settings, made.get(UvicornSettings))
    effective = {cls: effective_settings(settings) for cls, settings in made.items()}
    _print_settings(out, effective, show_all)
    if is_lite():
        out.print("Lite install: without torch, and with the embedded profile as its defaults.")
    else:
        out.print("Full install.")
    warnings = list(_warnings(made, effective))
    for warning in warnings:
        err.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    for error in errors:
        err.print(f"[red]error:[/red] {escape(error)}")
    err.print(f"{len(errors)} error(s), {len(warnings)} warning(s)")
    return 1 if errors else 0


def _refused_by_policy(settings: DoclingServeSettings) -> Iterator[str]:
    """The error with which a server would exit when it builds its policy."""
    from docling_serve.policy import ServicePolicy  # noqa: PLC0415 - imports docling

    try:
        ServicePolicy.from_settings(settings)
    except ValueError as exc:
        name, colon, rest = str(exc).partition(":")
        known = colon and name in DoclingServeSettings.model_fields
        yield f"{env_names(name)[0]} (config file: {name}):{rest}" if known else str(exc)


def _refused_for_its_processes(settings: DoclingServeSettings, uvicorn: Any) -> Iterator[str]:
    try:
        require_one_process(settings, uvicorn.workers if uvicorn is not None else None)
    except EngineUnavailable as exc:
        yield str(exc)


def _print_settings(
    out: Console, effective: dict[type[BaseSettings], list[EffectiveSetting]], show_all: bool
) -> None:
    table = Table("Setting", "Value", "From", box=None, pad_edge=False)
    for group in GROUPS:
        known = {setting.name: setting for setting in effective.get(group.owner, ())}
        fields = [known[name] for name in group.model.model_fields if name in known]
        rows = [setting for setting in fields if show_all or setting.is_set]
        if rows:
            table.add_row(f"[bold]{group.title}[/bold]")
        for setting in rows:
            name = env_names(setting.name, group.owner)[0]
            table.add_row(
                name if group.owner is UvicornSettings else setting.name,
                escape(setting.shown),
                escape(setting.origin or _DEFAULT),
            )
    if table.row_count:
        out.print(table)
    elif len(effective) == len({group.owner for group in GROUPS}):
        out.print("Every setting has its default; --all shows them.")


def _warnings(
    made: dict[type[BaseSettings], Any],
    effective: Mapping[type[BaseSettings], Sequence[EffectiveSetting]],
) -> Iterator[str]:
    settings = made.get(DoclingServeSettings)
    if settings is not None:
        yield from map(str, find_unknown_settings(settings))
        is_set = {item.name for item in effective[DoclingServeSettings] if item.is_set}
        yield from map(str, settings_without_effect(settings, is_set))
    uvicorn = made.get(UvicornSettings)
    if uvicorn is not None and bool(uvicorn.ssl_certfile) != bool(uvicorn.ssl_keyfile):
        yield "TLS needs both UVICORN_SSL_CERTFILE and UVICORN_SSL_KEYFILE; it is off"
    if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu"):
        yield (
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files:"
            " uninstall both, then install docling-serve[cuda]"
        )
    yield from _cuda_versions()


def _cuda_versions() -> Iterator[str]:
    """ONNX Runtime and torch load CUDA's libraries into one process: one major version."""
    from docling_serve.internals.docling_devices import (  # noqa: PLC0415 - imports docling
        onnx_cuda,
        torch_build,
    )

    onnx, torch = onnx_cuda(), torch_build().get("cuda")
    if onnx and torch and onnx.split(".")[0] != torch.split(".")[0]:
        yield (
            f"ONNX Runtime is built for CUDA {onnx}, torch for CUDA {torch}: they cannot share"
            " libraries, and OCR may run on the CPU; docling-serve doctor says what to install"
        )


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
