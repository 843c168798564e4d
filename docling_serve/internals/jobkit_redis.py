"""What docling-jobkit's two Redis orchestrators share, but do not export.

Read from docling-jobkit 3.9.1 (``docling_jobkit.orchestrators._redis_gate``).
Guarded by tests/unit/engines/rq/test_engine_failures.py.
"""

from docling_jobkit.orchestrators._redis_gate import RedisCallerGate

__all__ = ["RedisCallerGate"]
