"""Fixtures of the fake driver, which tests/conftest.py offers to all tests."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from tests.helpers.fake_gpu.build import build, compiler
from tests.helpers.fake_gpu.driver import FakeGpu

NewFakeGpu = Callable[[Collection[str]], FakeGpu]
BuiltLibraries = Callable[[Collection[str]], Path]


@pytest.fixture(scope="session")
def fake_libraries(tmp_path_factory: pytest.TempPathFactory) -> BuiltLibraries:
    """The folder with the libraries, built once for each set of functions that they lack."""
    if compiler() is None:
        pytest.skip("no C compiler (gcc or cc) to build the fake NVIDIA driver with")
    built: dict[frozenset[str], Path] = {}

    def get(lacking: Collection[str]) -> Path:
        key = frozenset(lacking)
        if key not in built:
            folder = tmp_path_factory.mktemp("fake-driver")
            build(folder, key)
            built[key] = folder
        return built[key]

    return get


@pytest.fixture
def new_fake_gpu(
    fake_libraries: BuiltLibraries, tmp_path_factory: pytest.TempPathFactory
) -> NewFakeGpu:
    """Makes a fake driver whose libraries lack the functions named, as old ones do."""
    return lambda lacking: FakeGpu(tmp_path_factory.mktemp("fake-gpu"), fake_libraries(lacking))


@pytest.fixture
def fake_gpu(new_fake_gpu: NewFakeGpu) -> FakeGpu:
    """A fake driver without cards, for a start."""
    return new_fake_gpu(())
