"""What the settings mean on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from docling_serve.doctor.facts import ModeFacts
from docling_serve.settings import DoclingServeSettings
from docling_serve.vram.mode import decide_mode
from docling_serve.vram.nvml import GpuProbe


def answer(tell: Callable[[Any], None]) -> None:
    """Report :class:`ModeFacts`; reads the driver only for ``auto``, as a server does."""
    settings = DoclingServeSettings()
    decision = decide_mode(settings.use_subprocess_for_ocr, GpuProbe())
    tell(
        asdict(
            ModeFacts(
                setting=str(settings.use_subprocess_for_ocr).lower(),
                enabled=decision.enabled,
                reason=decision.reason,
                max_workers=settings.subprocess_max_workers,
                light_workers=settings.subprocess_light_workers,
                start_method=settings.subprocess_start_method,
                frees_vram_on_idle=settings.frees_vram_on_idle(decision.enabled),
                vram_reserve_bytes=settings.subprocess_vram_reserve,
                memory_limit_bytes=settings.subprocess_memory_limit,
                timeout_s=settings.subprocess_timeout,
                devices=list(settings.subprocess_devices or ()),
            )
        )
    )
