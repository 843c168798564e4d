"""Import a heavy library when it is first used, not when a module names it.

docling and what it builds on import torch, transformers and pandas at the top of many modules, but
use them only in the functions of a few stages. A worker defers them: ``import torch`` then binds a
stand-in, and the first use of an attribute imports the library. Nothing is ever recorded as absent,
so a process that imported a library late behaves like one that imported it first.

Modules also import classes from these libraries at their top, for annotations or to call later
(``from transformers import AutoTokenizer``). :data:`_CLASSES` lists them. A listed class is a
stand-in, too: calling it, reading an attribute, checking an instance or deriving from it imports
the library. A name that is not listed imports the library at once. That is slower, but never wrong.

Sources: docling-slim 2.143, docling-core 2.104, semchunk 4.1. ``test_lean_workers`` fails when a
newer version uses more of a library at import time.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from docling_serve.process.installation import is_installed

TORCH = ("torch", "torchvision", "transformers")
"""What only docling's own models need: about 2.5 s and 700 MB."""

TABLES = ("pandas",)
"""What only the export of tables needs: 0.2 s and 30 MB."""

STORAGE = ("boto3",)
"""What only S3 storage needs, but every first export would import: 0.1 s and 10 MB."""

PARALLEL = ("mpire",)
"""What semchunk imports for parallel runs, which we never request: a whole web server."""

_CLASSES: dict[str, tuple[str, ...]] = {
    "boto3": (),
    "boto3.session": ("Session",),
    "mpire": (),
    "pandas": ("DataFrame",),
    "torch": (),
    "torch.backends": (),
    "torch.backends.mps": (),
    "torch.nn": ("Module",),
    "torchvision": (),
    "torchvision.transforms": (),
    "transformers": (
        "AutoModelForImageTextToText",
        "AutoProcessor",
        "AutoTokenizer",
        "PreTrainedTokenizerBase",
        "StoppingCriteria",
    ),
}
"""The modules that have stand-ins, and for each the classes that have one."""

_KNOWN: dict[tuple[str, str], Any] = {
    # docling.datamodel.asr_model_specs checks it at import. Metal is macOS only, this server Linux.
    ("torch.backends.mps", "is_built"): lambda: False,
}
"""Attributes whose values are known without the library."""

_loading = threading.RLock()


def defer(libraries: Iterable[str]) -> None:
    """Import ``libraries``, such as :data:`TORCH`, only when they are first used.

    Does nothing for those that are imported already. A library that is not installed still raises
    ``ImportError`` where it is imported. One of :data:`TORCH` raises it where it is used, because
    docling imports torch for its speech models, which the lite install does not have.
    """
    for library in libraries:
        if library not in sys.modules:
            _finder().deferred.add(library)


def defer_absent() -> None:
    """Defer the missing ones of :data:`TORCH`, in a process that imports the rest at once."""
    defer(library for library in TORCH if not is_installed(library))


def is_loaded(library: str) -> bool:
    """Whether the library itself, and not a stand-in, is in this process."""
    module = sys.modules.get(library)
    return module is not None and not isinstance(module, _StandIn)


def load(library: str) -> None:
    """Really import a deferred library; its stand-ins forward to it from now on.

    Raises:
        ImportError: it cannot be imported.
    """
    with _loading:
        if is_loaded(library):
            return
        if library in TORCH and not is_installed(library):
            # The stand-ins stay, for code that imports the library and does not use it.
            raise ModuleNotFoundError(f"No module named {library!r}", name=library)
        _finder().deferred.discard(library)
        for name in [name for name, module in sys.modules.items() if _stands_in(module, library)]:
            del sys.modules[name]
        importlib.import_module(library)


class _StandIn(ModuleType):
    """A module of a deferred library."""

    def __getattr__(self, name: str) -> Any:
        # Only names missing from the module's own dictionary get here. Python itself looks for
        # special ones (__path__, __wrapped__); of these only the version is worth an import.
        if name.startswith("__") and name != "__version__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if not is_loaded(_library(self.__name__)):
            stand_in = self._stand_in_for(name)
            if stand_in is not None:
                return stand_in
            load(_library(self.__name__))
        return getattr(importlib.import_module(self.__name__), name)

    def _stand_in_for(self, name: str) -> Any:
        if name in _CLASSES[self.__name__]:
            return _DeferredClass(name, (), {"__module__": self.__name__})
        if f"{self.__name__}.{name}" in _CLASSES:
            return importlib.import_module(f"{self.__name__}.{name}")
        return _KNOWN.get((self.__name__, name))


class _DeferredClass(type):
    """The type of classes that stand in for a class of a deferred library."""

    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> Any:
        if not bases:
            return super().__new__(cls, name, bases, namespace)
        real = tuple(_real(base) for base in bases)
        return type(real[0])(name, real, namespace)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return _real(cls)(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_real(cls), name)

    def __instancecheck__(cls, instance: Any) -> bool:
        # While the library is not loaded there is no instance of its classes.
        return is_loaded(_library(cls.__module__)) and isinstance(instance, _real(cls))

    def __subclasscheck__(cls, subclass: type) -> bool:
        if subclass is cls:
            return True
        return is_loaded(_library(cls.__module__)) and issubclass(_real(subclass), _real(cls))


class _Finder(MetaPathFinder):
    """Finds stand-ins for deferred libraries."""

    def __init__(self) -> None:
        self.deferred: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        library = _library(fullname)
        if library not in self.deferred:
            return None
        if fullname not in _CLASSES:  # a module that has no stand-in
            load(library)
            return _spec_within(sys.modules[library], fullname)
        if (
            fullname == library not in TORCH
            and PathFinder.find_spec(fullname, path, target) is None
        ):
            return None
        return ModuleSpec(fullname, _STAND_IN_LOADER, is_package=True)


class _StandInLoader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


_STAND_IN_LOADER = _StandInLoader()


class _LoadedLoader(Loader):
    """Returns a module that its library imported while it was loaded itself."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__

    def create_module(self, _: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


def _spec_within(library: ModuleType, fullname: str) -> ModuleSpec | None:
    """How to import a module of a library that was just loaded."""
    loaded = sys.modules.get(fullname)
    if loaded is not None:
        # If the module was imported meanwhile, the import system uses the module's own spec and
        # would run the module a second time.
        loaded.__spec__ = ModuleSpec(fullname, _LoadedLoader(loaded))
        return loaded.__spec__
    return PathFinder.find_spec(fullname, library.__path__)


def _finder() -> _Finder:
    """The finder of this process, placed before all others."""
    for finder in sys.meta_path:
        if isinstance(finder, _Finder):
            return finder
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    return finder


def _library(module: str) -> str:
    return module.partition(".")[0]


def _stands_in(module: Any, library: str) -> bool:
    return isinstance(module, _StandIn) and _library(module.__name__) == library


def _real(cls: type) -> Any:
    """The class that ``cls`` stands in for, or ``cls`` itself; imports its library."""
    if not isinstance(cls, _DeferredClass):
        return cls
    load(_library(cls.__module__))
    return getattr(importlib.import_module(cls.__module__), cls.__name__)
