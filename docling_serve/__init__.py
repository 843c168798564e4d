"""docling-serve with conversion in worker processes that can be stopped."""

import os

# onnxruntime's Linux wheels send telemetry unless this is set before their first import, in every
# process. The package itself is the only module that always loads before it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
