"""Which GPUs workers may use: names as people write them, mapped to UUIDs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from docling_serve.vram.readings import GpuReading

_ORDINAL = re.compile(r"(?:cuda:)?(\d+)", re.IGNORECASE)


def parse_devices(text: str) -> tuple[int | str, ...]:
    """Parse a list such as ``cuda:0,cuda:1``, or of UUIDs (``GPU-…``, ``MIG-…``, also abbreviated).

    ``cuda`` alone is ``cuda:0``. Returns positions among the visible GPUs, and UUIDs as written;
    empty for an empty text.

    Raises:
        ValueError: an entry is neither; the text names it.
    """
    names: list[int | str] = []
    for entry in (part.strip() for part in text.split(",") if part.strip()):
        ordinal = _ORDINAL.fullmatch(entry)
        name: int | str
        if entry.lower() == "cuda":
            name = 0
        elif ordinal is not None:
            name = int(ordinal[1])
        elif entry.upper().startswith(("GPU-", "MIG-")):
            name = entry
        else:
            raise ValueError(f"{entry!r} is not a device: use cuda:0, cuda:1 ... or a GPU's UUID")
        if name not in names:
            names.append(name)
    return tuple(names)


def resolve_devices(
    names: Sequence[int | str], reading: GpuReading
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The UUIDs that ``names`` mean in ``reading``, and in words the names that match none.

    Without names it is the first visible GPU, docling's own default. Positions count as
    ``CUDA_VISIBLE_DEVICES`` orders the GPUs, unreadable ones included; a UUID may be abbreviated
    as long as it is unambiguous.
    """
    found: list[str] = []
    unknown: list[str] = []
    for name in names or (0,):
        uuid = _resolve(name, reading.order)
        if uuid is None:
            unknown.append(f"cuda:{name}" if isinstance(name, int) else name)
        elif uuid not in found:
            found.append(uuid)
    return tuple(found), tuple(unknown)


def _resolve(name: int | str, order: Sequence[str | None]) -> str | None:
    if isinstance(name, int):
        return order[name] if name < len(order) else None
    matches = [uuid for uuid in order if uuid and uuid.lower().startswith(name.lower())]
    return matches[0] if len(matches) == 1 else None
