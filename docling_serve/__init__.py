"""docling-serve with conversion in worker processes that can be stopped."""

import os

# onnxruntime's Linux wheels send telemetry unless this is set before their first import, in any
# process of ours; the package itself is the one place that always comes before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
