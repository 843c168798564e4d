"""The ray engine inside a test, on a real Redis, with or without a cluster."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import pytest

from docling_serve.settings import AsyncEngine, DoclingServeSettings
from tests.helpers.rest_server import settings_of


def require_ray() -> None:
    """Without Ray tests are skipped here, and fail where CI is set."""
    if importlib.util.find_spec("ray") is None:
        reason = "ray is not installed (pip install 'docling-serve[ray]')"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason, allow_module_level=True)


def ray_settings(url: str, **values: Any) -> DoclingServeSettings:
    """Settings of a gateway with its Redis at ``url``."""
    return settings_of(
        eng_kind=AsyncEngine.RAY, eng_ray_redis_url=url, eng_ray_address="local", **values
    )
