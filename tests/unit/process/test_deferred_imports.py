"""Libraries that are imported when they are first used.

Each case runs in an interpreter of its own, with made-up packages in the place of the libraries:
the real ones take seconds. ``tests/integration/test_lean_workers.py`` has these.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

REPOSITORY = Path(__file__).parents[2]

MADE_UP = {
    "torch/__init__.py": """
        print("torch is imported")
        from . import jit, nn
        __version__ = "9.9"
        def zeros():
            return "zeros"
    """,
    "torch/nn.py": """
        class Module:
            kind = "real"
            def __init__(self, size=0):
                self.size = size
    """,
    "torch/jit.py": """
        import sys
        sys.loads = loads = getattr(sys, "loads", 0) + 1
    """,
    "torch/special.py": "answer = 42",
    "transformers/__init__.py": """
        print("transformers is imported")
        import sys, types
        class StoppingCriteria:
            @classmethod
            def from_pretrained(cls):
                return cls()
        real = types.ModuleType(__name__)  # as transformers does it
        real.StoppingCriteria = StoppingCriteria
        real.Other = 1
        sys.modules[__name__] = real
    """,
}


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    for name, text in MADE_UP.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(dedent(text))
    return tmp_path


def run(libraries: Path, script: str) -> list[str]:
    """What ``script`` prints once torch and transformers are deferred."""
    prelude = """
        from docling_serve.process.deferred_imports import TORCH, defer, is_loaded, load
        defer(TORCH)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(prelude) + dedent(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={"PYTHONPATH": f"{libraries}:{REPOSITORY}"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_import_alone_imports_nothing(libraries: Path) -> None:
    script = """
        import torch
        import torch.nn
        from transformers import StoppingCriteria
        def annotated(module: torch.nn.Module) -> None: ...
        print(is_loaded("torch"), is_loaded("transformers"))
    """
    assert run(libraries, script) == ["False False"]


def test_the_first_use_imports_the_library(libraries: Path) -> None:
    script = """
        import torch
        print(torch.zeros())
        print(torch.zeros(), is_loaded("torch"))
    """
    assert run(libraries, script) == ["torch is imported", "zeros", "zeros True"]


@pytest.mark.parametrize(
    ("use", "printed"),
    [
        ("print(torch.__version__)", "9.9"),
        ("from torch import zeros; print(zeros())", "zeros"),
        ("import torch.special; print(torch.special.answer)", "42"),
        ("import torch.jit; print(torch.jit.loads, torch.jit.__spec__.origin is None)", "1 False"),
        ("print(torch.nn.Module.kind)", "real"),
        ("print(torch.nn.Module(size=3).size)", "3"),
        (
            "class Own(torch.nn.Module): ...\nprint(Own(4).size, Own.__mro__[1].__module__)",
            "4 torch.nn",
        ),
    ],
)
def test_any_use_counts(libraries: Path, use: str, printed: str) -> None:
    assert run(libraries, f"import torch\n{use}") == ["torch is imported", printed]


def test_what_was_bound_before_is_the_real_thing_after(libraries: Path) -> None:
    script = """
        import torch
        from torch.nn import Module
        from transformers import StoppingCriteria
        print(isinstance(1, Module), issubclass(int, Module))
        load("torch")
        import torch.nn as real
        print(isinstance(real.Module(), Module), isinstance(1, Module))
        print(issubclass(real.Module, Module))
        print(isinstance(StoppingCriteria.from_pretrained(), StoppingCriteria))
    """
    assert run(libraries, script) == [
        "False False",
        "torch is imported",
        "True False",
        "True",
        "transformers is imported",
        "True",
    ]


def test_a_module_that_replaces_itself_is_found(libraries: Path) -> None:
    script = """
        import transformers
        print(transformers.Other)
        from transformers import Other
        print(Other)
    """
    assert run(libraries, script) == ["transformers is imported", "1", "1"]


def test_a_class_may_be_a_field_of_a_model(libraries: Path) -> None:
    """pydantic asks for special attributes of every type; they are none of the library's."""
    script = """
        from pydantic import BaseModel, ConfigDict, ValidationError
        from transformers import StoppingCriteria
        class Options(BaseModel):
            model_config = ConfigDict(arbitrary_types_allowed=True)
            stop: list[StoppingCriteria] = []
        print(Options().stop, is_loaded("transformers"))
        try:
            Options(stop=[1])
        except ValidationError as exc:
            print(exc.errors()[0]["type"])
        print(len(Options(stop=[StoppingCriteria.from_pretrained()]).stop))
    """
    assert run(libraries, script) == [
        "[] False",
        "is_instance_of",
        "transformers is imported",
        "1",
    ]


def test_what_is_not_installed_is_missing_where_it_is_imported(libraries: Path) -> None:
    script = """
        defer(["no_such_library"])
        try:
            import no_such_library.module
        except ImportError as exc:
            print(exc)
    """
    assert run(libraries, script) == ["No module named 'no_such_library'"]


def test_what_is_not_in_the_library_is_an_attribute_error(libraries: Path) -> None:
    script = """
        import torch
        try:
            torch.moon
        except AttributeError as exc:
            print(exc)
        print(hasattr(torch, "__wrapped__"))
    """
    assert run(libraries, script) == [
        "torch is imported",
        "module 'torch' has no attribute 'moon'",
        "False",
    ]


def test_what_is_imported_already_is_not_deferred(libraries: Path) -> None:
    script = """
        import sys
        load("torch")
        before = sys.modules["torch"]
        defer(TORCH)
        import torch
        print(torch is before, torch.zeros())
    """
    assert run(libraries, script) == ["torch is imported", "True zeros"]


def test_the_version_of_metal_needs_no_torch(libraries: Path) -> None:
    script = """
        import torch
        print(torch.backends.mps.is_built(), is_loaded("torch"))
    """
    assert run(libraries, script) == ["False False"]
