"""Asks CUDA which GPUs it shows to a process, and in which order. A standalone program.

``cuda_order`` runs this file in a process that exits at once: ``cuInit`` keeps the driver open for
as long as a process lives, and the server must not do that. It imports nothing of ours and no
torch, and makes no context, so it takes no GPU memory. It prints a JSON object with two fields.
``error`` is the number and the call of CUDA's error, or why its library was not loaded, or "".
``devices`` has for each device ``uuid`` (32 hexadecimal digits) and ``name``. Calls and numbers are
those of NVIDIA's ``cuda.h``.
"""

from __future__ import annotations

import ctypes
import json

_NAME_BYTES = 256


def query() -> dict[str, object]:
    """The object to print."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as exc:
        return {"error": str(exc), "devices": []}
    count = ctypes.c_int()
    for call, arguments in (("cuInit", (0,)), ("cuDeviceGetCount", (ctypes.byref(count),))):
        if (code := getattr(cuda, call)(*arguments)) != 0:
            return {"error": f"error {code} of {call}", "devices": []}
    # For a MIG device only version 2 gives its own UUID; drivers before CUDA 11.4 lack it.
    uuid_of = getattr(cuda, "cuDeviceGetUuid_v2", None) or cuda.cuDeviceGetUuid
    devices = []
    for ordinal in range(count.value):
        uuid, name = (ctypes.c_ubyte * 16)(), ctypes.create_string_buffer(_NAME_BYTES)
        if (code := uuid_of(uuid, ordinal)) != 0:
            return {"error": f"error {code} of cuDeviceGetUuid", "devices": []}
        cuda.cuDeviceGetName(name, _NAME_BYTES, ordinal)
        devices.append({"uuid": bytes(uuid).hex(), "name": name.value.decode(errors="replace")})
    return {"error": "", "devices": devices}


if __name__ == "__main__":
    print(json.dumps(query()))
