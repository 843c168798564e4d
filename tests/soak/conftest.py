"""What tests of the long form alone cost the others."""

from __future__ import annotations

from pathlib import Path

import pytest


class _LongFormOnly(pytest.Module):
    """A module that is not even imported without ``--soak``: to make up its requests takes each
    process of pytest 9 s."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        pytest.skip("with --soak; the short form is in tests/integration", allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Ours for ``test_many_made_up_requests.py`` in the short form."""
    long_form = bool(parent.config.getoption("soak"))
    if module_path.name != "test_many_made_up_requests.py" or long_form:
        return None
    module: pytest.Module = _LongFormOnly.from_parent(parent, path=module_path)
    return module
