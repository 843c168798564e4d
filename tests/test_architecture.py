"""The rules of the source tree, read from its syntax: who may import whom, how large things are.

An *area* is a module of ``docling_serve`` or one of its packages. ``MAY_IMPORT`` says for each
which other areas, or which single modules of them, it may import; a name with a dot allows that
module alone. Imports for type checkers count too, but for those in ``FOR_TYPES``; imports inside
functions count, but for those in ``WHEN_NEEDED``, which are there because they are expensive.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "docling_serve"
MODULES = sorted((ROOT / PACKAGE).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "__main__": set(),
    # ---- import nothing of ours
    "errors": set(),
    "process": set(),
    "ocr_only": set(),
    "sandbox": set(),
    "settings": {"conversion.document_limits"},
    "settings.lite": {"process.installation"},
    # ---- a job as data, and its conversion: what runs in a worker, or in a thread
    "jobs": {"errors"},
    "jobs.flat_task": {"settings.converter_config"},
    "conversion": {"errors", "internals", "jobs", "process"},
    "internals": {"errors", "jobs"},
    "internals.docling_devices": {"process"},
    "internals.torch_fork": {"process.deferred_imports"},
    "internals.fork_server": {"process.guardian", "process.safe_path"},
    "internals.jobkit_rq": {"settings"},
    "internals.uvicorn_connections": {"settings"},
    # ---- worker processes, and the GPU memory that they get
    "observability": {"settings", "errors"},
    "subprocess_worker": {
        "errors",
        "internals.clean_starts",
        "internals.fork_server",
        "internals.torch_fork",
        "jobs",
        "observability.logging",
        "process",
        "sandbox",
    },
    "subprocess_worker.child.main": {"internals.onnx_arena"},
    "vram": {"subprocess_worker.pool.admission"},
    # ---- the server
    "storage": {"errors", "process.guardian"},
    "policy": {"errors", "process.installation", "settings"},
    "callbacks": {"settings"},
    "engines": {
        "callbacks",
        "conversion.document_limits",
        "errors",
        "internals",
        "jobs",
        "process.guardian",
        "settings",
        "storage",
    },
    "api": {
        "callbacks.address",
        "engines.base",
        "errors",
        "jobs.rendering",
        "jobs.stages",
        "jobs.writing",
        "observability",
        "policy",
        "process.control_group",
        "settings",
    },
    "orchestrator_factory": {"errors", "settings", "storage"},
    "running": {"errors", "jobs", "process", "sandbox", "settings", "subprocess_worker", "vram"},
    "ray_processes": {"observability.logging", "running", "settings"},
    "app": {
        "engines.redis.reach",
        "errors",
        "jobs",
        "observability",
        "orchestrator_factory",
        "process",
        "ray_processes",
        "running",
        "settings",
        "storage",
        "subprocess_worker",
        "vram",
    },
    "rq_worker": {"app", "observability.logging", "running", "settings"},
    "cli": {"errors", "observability.versions", "orchestrator_factory", "settings", "storage"},
    "cli.config_check": {"process.installation"},
    "doctor": {"process", "settings", "subprocess_worker.child.containment", "vram"},
    "doctor.probes.onnx_runtime": {"internals.onnx_sessions"},
    "tools": {"settings"},
    "tools.lite_requirements": {"process.installation"},
}
"""What an area, or one module of it besides, may import when it is itself imported."""

WHEN_NEEDED: dict[str, set[str]] = {
    "__main__": {"cli"},
    "app": {"api", "callbacks", "engines", "policy"},
    "cli": {
        "app",
        "doctor",
        "rq_worker",
        "engines.local.journal",
        "engines.redis.reach",
        "internals.docling_devices",
        "policy",
        "process.imports",
    },
    "doctor.probes.engines": {"internals.docling_devices", "internals.jobkit_manager", "policy"},
    "doctor.probes.workers": {"internals.fork_server", "running.runtime", "subprocess_worker"},
    "orchestrator_factory": {"engines"},
    "ray_processes": {"engines.ray.host_parts"},
    "rq_worker": {"api.services", "engines"},
    "running.threads": {"conversion"},
    "storage": {"settings"},
    "subprocess_worker.child.importing": {"conversion.imports"},
    "subprocess_worker.child.main": {"conversion"},
}
"""And what it, or one module of it, may import inside functions besides."""

FOR_TYPES: dict[str, set[str]] = {
    "app": {"api.services", "policy"},
    "orchestrator_factory": {"engines", "jobs"},
    "ray_processes": {"engines.ray.host_parts"},
    "running.threads": {"conversion"},
    "subprocess_worker.child.main": {"conversion"},
}
"""And what it may name in annotations besides."""

HEAVY = (
    "torch",
    "transformers",
    "ray",
    "onnxruntime",
    "rapidocr",
    "docling.document_converter",
    "docling.models",
    "docling.pipeline",
    "docling_jobkit.convert",
)
"""Take seconds and hundreds of megabytes; only workers, and threads that convert, need them."""

MAY_BE_HEAVY = (
    "conversion",
    "engines.ray",  # Ray itself; the factory imports it for eng_kind=ray
    "internals.docling_devices",
    "internals.docling_pages",
    "internals.docling_pipelines",
    "internals.jobkit_manager",
    "ocr_only",
    "process.shared_weights",
)
"""A package stands for all that is in it."""

MAY_USE_REDIS = (
    *("engines.rq", "engines.redis", "engines.ray"),
    *("internals.jobkit_rq", "internals.jobkit_redis"),
)
REDIS = ("redis", "rq", "docling_jobkit.orchestrators.rq")

MODULE_LINES = 400
FUNCTION_LINES = 60


@dataclass(frozen=True)
class Import:
    """One imported module, and where it stands: ``top``, ``function`` or ``types``."""

    module: str
    where: str
    line: int


def dotted(path: Path) -> str:
    """``docling_serve/a/b.py`` as ``docling_serve.a.b``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inner(module: str) -> str:
    """A module of ours without the package's name in front; empty for the package itself."""
    return module.removeprefix(PACKAGE).lstrip(".")


def area(module: str) -> str:
    return inner(module).partition(".")[0]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _within(kind: tuple[type[ast.AST], ...], path: Path, *, types: bool = False) -> set[ast.AST]:
    found: set[ast.AST] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, kind) and (
            not types or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ):
            found |= set(ast.walk(node))
    return found


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Every import of a file; ``from a import b`` counts as ``a.b`` where that is a module."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[Import]:
    in_functions = _within((ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda), path)
    for_types = _within((ast.If,), path, types=True)
    for node in ast.walk(tree(path)):
        where = "types" if node in for_types else "function" if node in in_functions else "top"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, where, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(path, node)
            for alias in node.names:
                module = f"{base}.{alias.name}"
                yield Import(module if _is_ours(module) else base, where, node.lineno)


def _absolute(path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = dotted(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


@cache
def _is_ours(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return module.startswith(PACKAGE) and (path.with_suffix(".py").exists() or path.is_dir())


def _allowed(importer: str, imported: str, table: dict[str, set[str]]) -> bool:
    names = table.get(area(importer), set()) | table.get(inner(importer), set())
    return any(inner(imported) == name or inner(imported).startswith(f"{name}.") for name in names)


def _starts(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


def in_short(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ---- who imports whom ----------------------------------------------------------------------------


def test_the_table_names_every_area_and_no_other() -> None:
    assert {area(dotted(path)) for path in MODULES} == {n for n in MAY_IMPORT if "." not in n}


def test_the_table_has_no_circle() -> None:
    """With imports inside functions left out, imports go one way."""
    above = {name: {other.partition(".")[0] for other in may} for name, may in MAY_IMPORT.items()}
    while above:
        lowest = {name for name, may in above.items() if not may & set(above)}
        assert lowest, f"a circle among {sorted(above)}"
        above = {name: may for name, may in above.items() if name not in lowest}


def _may_not(importer: str, found: Import) -> bool:
    return not (
        found.module.partition(".")[0] != PACKAGE
        or area(found.module) in ("", area(importer))
        or _allowed(importer, found.module, MAY_IMPORT)
        or (found.where != "top" and _allowed(importer, found.module, WHEN_NEEDED))
        or (found.where == "types" and _allowed(importer, found.module, FOR_TYPES))
    )


def test_a_module_imports_only_what_its_area_may() -> None:
    wrong = [
        f"{in_short(path)}:{found.line}: {found.module} ({found.where})"
        for path in MODULES
        for found in imports(path)
        if _may_not(dotted(path), found)
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("name", "table"),
    [("MAY_IMPORT", MAY_IMPORT), ("WHEN_NEEDED", WHEN_NEEDED), ("FOR_TYPES", FOR_TYPES)],
)
def test_the_tables_name_what_is_there(name: str, table: dict[str, set[str]]) -> None:
    named = set(table) | set().union(*table.values())

    assert [each for each in sorted(named) if each and not _is_ours(f"{PACKAGE}.{each}")] == []


def test_the_http_side_knows_no_process() -> None:
    """``api`` asks an engine; whether there are workers is not its business."""
    known = {
        found.module for path in MODULES if area(dotted(path)) == "api" for found in imports(path)
    }

    assert not [m for m in known if _starts(m, (f"{PACKAGE}.subprocess_worker", f"{PACKAGE}.vram"))]
    assert not known & {"multiprocessing", "subprocess"}


def test_what_is_heavy_is_imported_where_it_is_used() -> None:
    heavy = [
        f"{in_short(path)}:{found.line}: {found.module}"
        for path in MODULES
        if not _starts(inner(dotted(path)), MAY_BE_HEAVY)
        for found in imports(path)
        if found.where == "top" and _starts(found.module, HEAVY)
    ]

    assert heavy == []


def test_redis_belongs_to_its_engines() -> None:
    strays = [
        f"{in_short(path)}:{found.line}: {found.module}"
        for path in MODULES
        if not _starts(
            inner(dotted(path)),
            ("engines.rq", "engines.redis", "engines.ray", "internals.jobkit_rq"),
        )
        for found in imports(path)
        if _starts(found.module, REDIS)
    ]

    assert strays == []


ENGINES = ("local", "rq", "ray")


def test_no_engine_knows_another() -> None:
    """What two of them share stands beside them."""
    strays = [
        f"{in_short(path)}:{found.line}: {found.module}"
        for engine in ENGINES
        for path in MODULES
        if _starts(inner(dotted(path)), (f"engines.{engine}",))
        for found in imports(path)
        if _starts(found.module, tuple(f"{PACKAGE}.engines.{e}" for e in ENGINES if e != engine))
    ]

    assert strays == []


def test_no_modules_import_each_other() -> None:
    """Imports for types count, those inside functions do not."""
    known = {dotted(path): path for path in MODULES}
    above = {
        name: {i.module for i in imports(path) if i.where != "function" and i.module in known}
        for name, path in known.items()
        if path.name != "__init__.py"
    }
    above = {name: may & set(above) for name, may in above.items()}
    while above:
        lowest = {name for name, may in above.items() if not may & set(above)}
        assert lowest, f"a circle among {sorted(above)}"
        above = {name: may for name, may in above.items() if name not in lowest}


# ---- the page that shows it ----------------------------------------------------------------------

MAP = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROOMS_SHOWN_IN_FULL = re.findall(r"^### In (.+)$", MAP, re.MULTILINE)


def test_the_map_shows_every_area() -> None:
    rooms = MAP.partition("## The rooms")[2].partition("###")[0]
    areas = {area(dotted(path)) for path in MODULES} - {"", "__main__"}
    names = {
        name: f"`{name}{'/' if (ROOT / PACKAGE / name).is_dir() else '.py'}`" for name in areas
    }

    assert sorted(name for name, shown in names.items() if shown not in rooms) == []


@pytest.mark.parametrize("title", ROOMS_SHOWN_IN_FULL)
def test_the_map_shows_every_module_of_a_room(title: str) -> None:
    section = MAP.partition(f"### In {title}\n")[2].partition("\n#")[0]
    first_column = " ".join(line.split("|")[1] for line in section.splitlines() if "|" in line)
    shown = {Path(name).name for name in re.findall(r"`([\w/]+\.py|[\w]+/)`", first_column)}
    there = {
        path.name
        for room in re.findall(r"`([\w/]+)/`", title)
        for path in (ROOT / PACKAGE / room).rglob("*.py")
        if path.name != "__init__.py" and path.parent.name not in shown
    }

    assert {name for name in shown if name.endswith(".py")} == there


# ---- private parts of libraries ------------------------------------------------------------------

MAY_USE_PRIVATE_PARTS = (
    "internals",
    "api.json_body",  # derives from starlette's Request, and drops the body that this keeps
    "engines.rq.engine",  # derives from docling-jobkit's orchestrator, as of 3.9.1
    "ocr_only",  # a plugin of docling's: its stages read a page's backend as docling's own do
)


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def _our_private_names() -> frozenset[str]:
    found: set[str] = set()
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return frozenset(found)


def _private_parts(path: Path) -> Iterator[str]:
    """Private modules, names and attributes of others that a file uses."""
    for found in imports(path):
        if any(map(_is_private, found.module.split("."))) and not found.module.startswith(PACKAGE):
            yield f"{in_short(path)}:{found.line}: {found.module}"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                if _is_private(alias.name) and not (node.module or "").startswith(PACKAGE):
                    yield f"{in_short(path)}:{node.lineno}: {node.module}.{alias.name}"
        elif (
            isinstance(node, ast.Attribute)
            and _is_private(node.attr)
            and node.attr not in _our_private_names()
            and ast.unparse(node.value) != "os"
        ):
            yield f"{in_short(path)}:{node.lineno}: {ast.unparse(node)}"


def test_private_parts_of_libraries_are_used_in_one_room() -> None:
    strays = [
        stray
        for path in MODULES
        if not _starts(inner(dotted(path)), MAY_USE_PRIVATE_PARTS)
        for stray in _private_parts(path)
    ]

    assert strays == []


def test_each_of_them_names_its_version_and_its_guard() -> None:
    unnamed = []
    for path in (ROOT / PACKAGE / "internals").glob("[!_]*.py"):
        says = ast.get_docstring(tree(path)) or ""
        read = re.search(r"Read from [\w ./-]*\d+\.\d+", says.replace("\n", " "))
        guards = re.findall(r"tests/[\w/]+\.py", says)
        if not read or not guards or not all((ROOT / guard).exists() for guard in guards):
            unnamed.append(in_short(path))

    assert unnamed == []


# ---- how large things are ------------------------------------------------------------------------


def test_a_module_can_be_read_in_one_sitting() -> None:
    sizes = {in_short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}

    assert {path: lines for path, lines in sizes.items() if lines > MODULE_LINES} == {}


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield f"{in_short(path)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_a_function_fits_on_a_screen() -> None:
    sizes = dict(size for path in MODULES for size in _functions(path))

    assert {name: lines for name, lines in sizes.items() if lines > FUNCTION_LINES} == {}


# ---- nobody waits for a clock --------------------------------------------------------------------


def _sleeps(path: Path) -> Iterator[int]:
    if "sleep" not in path.read_text(encoding="utf-8"):
        return
    has_time = any(found.module == "time" for found in imports(path))
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            if any(alias.name == "sleep" for alias in node.names):
                yield node.lineno
        elif has_time and isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
            yield node.lineno


SLEEPS = {
    "docling_serve/subprocess_worker/child/priority.py",
}
"""Where the kernel says "again later", and offers no event for later."""


def test_nobody_sleeps() -> None:
    """The server waits on its loop, tests wait for what they wait for."""
    found = {in_short(path) for path in [*MODULES, *TESTS] if [*_sleeps(path)]}

    assert found == SLEEPS
