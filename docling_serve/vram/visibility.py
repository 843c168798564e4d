"""Which GPUs ``CUDA_VISIBLE_DEVICES`` leaves to this process.

NVML ignores the variable, so we apply CUDA's rules to NVML's list (CUDA C++ Programming Guide,
"CUDA Environment Variables"): entries are indices, UUIDs or unambiguous prefixes of UUIDs, the list
ends at the first entry that names no device, and an empty value hides all.

An index counts in PCI bus order, NVML's own. CUDA does so only under
``CUDA_DEVICE_ORDER=PCI_BUS_ID``; its default puts the fastest GPU first. With GPUs of different
models, name them by UUID.
"""

from __future__ import annotations

from collections.abc import Sequence


def select_visible(spec: str | None, uuids: Sequence[str | None]) -> list[int | str]:
    """Apply ``spec``, the value of ``CUDA_VISIBLE_DEVICES`` (None: not set), to NVML's ``uuids``.

    Returns:
        Positions in ``uuids``, in the order of ``spec`` and without repeats. A MIG device that
        isn't among them is returned as its text: NVML may know it by UUID without listing it, when
        the container sees only part of a GPU (NVIDIA/nvidia-container-toolkit 842).
    """
    if spec is None:
        return list(range(len(uuids)))
    chosen: list[int | str] = []
    for entry in (part.strip() for part in spec.split(",")):
        found = _find(entry, uuids)
        if found is None:
            break
        if found not in chosen:
            chosen.append(found)
    return chosen


def _find(entry: str, uuids: Sequence[str | None]) -> int | str | None:
    if entry.isascii() and entry.isdigit():
        index = int(entry)
        return index if index < len(uuids) else None
    if not entry.upper().startswith(("GPU-", "MIG-")):
        return None
    wanted = entry.lower()
    matches = [i for i, uuid in enumerate(uuids) if uuid and uuid.lower().startswith(wanted)]
    if len(matches) == 1:
        return matches[0]
    if not matches and wanted.startswith("mig-"):
        return entry
    return None
