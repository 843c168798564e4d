"""Workers without torch: what they convert, and that what they leave out changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import StartServer
from tests.helpers import server_processes as processes
from tests.helpers.api import upload
from tests.helpers.server import EMBEDDED, NOTHING_KEPT, REPOSITORY, SUBPROCESS_MODE, RunningServer

DOCUMENTS = ("notes.md", "letter.docx", "page.html", "scan.png", "scan.pdf")

#: What a worker offers after its imports, and after it has imported torch late, or first.
WHAT_IS_OFFERED = """
import json, sys
late = sys.argv[1] == "late"
from docling_serve.process.deferred_imports import TORCH, is_loaded, load
if not late:
    for library in TORCH:
        __import__(library)
from docling_serve.subprocess_worker.child.importing import import_for_conversions
import_for_conversions(allow_external_plugins=True)
assert is_loaded("torch") is not late, "torch is imported when it is used"
if late:
    for library in TORCH:
        load(library)
from docling.datamodel import pipeline_options, vlm_model_specs
from docling.datamodel.asr_model_specs import WHISPER_TINY
from docling.datamodel.pipeline_options_vlm_model import InlineVlmOptions
from docling.datamodel.service.options import ConvertDocumentsOptions
from docling.models import factories
from docling_core.transforms.chunker.tokenizer import huggingface
from transformers import StopStringCriteria, StoppingCriteria
offered = {
    name: sorted(
        (options.kind, f"{model.__module__}.{model.__qualname__}")
        for options, model in getattr(factories, f"get_{name}_factory")(
            allow_external_plugins=True
        ).classes.items()
    )
    for name in ("ocr", "layout", "table_structure", "picture_description")
}
def accepts(value):
    try:
        vlm_model_specs.GRANITEDOCLING_TRANSFORMERS.model_copy().__class__.model_validate(
            {**vlm_model_specs.GRANITEDOCLING_TRANSFORMERS.model_dump(),
             "custom_stopping_criteria": [value]}
        )
    except Exception as exc:
        return type(exc).__name__
    return True
class Own(StoppingCriteria):
    def __call__(self, *args, **kwargs):
        return False
print(json.dumps({
    "offered": offered,
    "tokenizers": huggingface._TRANSFORMERS_AVAILABLE,
    "options": ConvertDocumentsOptions().model_dump(mode="json"),
    "schema": ConvertDocumentsOptions.model_json_schema(),
    "whisper": WHISPER_TINY.model_dump(mode="json"),
    "criteria": [accepts(Own()), accepts(1)],
}, default=str, sort_keys=True))
"""


#: What a worker makes of documents, without torch as far as they go, or with torch imported first.
WHAT_IS_CONVERTED = """
import json, sys, tempfile
from pathlib import Path
from docling_serve.process.deferred_imports import is_loaded
from docling_serve.subprocess_worker.child.importing import import_for_conversions
import_for_conversions(allow_external_plugins=True, preload_torch=sys.argv[1] == "first")
from docling_serve.conversion.conversion import Conversion
from docling_serve.settings.converter_config import converter_config
from docling_serve.errors import TaskFailed
from docling_serve.jobs.spec import JobSpec, StagedFile, TaskFolder
from docling_serve.settings import DoclingServeSettings
conversion = Conversion(converter_config(DoclingServeSettings()))
made = {}
def convert(what, document, **options):
    folder = TaskFolder.create(Path(tempfile.mkdtemp()), "task")
    path = Path("examples/documents", document).resolve()
    spec = JobSpec(
        task_id="task",
        sources=[StagedFile(path=str(path), filename=document)],
        options={"ocr_preset": "auto", "to_formats": ["md", "json", "html"], **options},
    )
    try:
        result = conversion.run(spec, folder)
    except TaskFailed as exc:
        made[what] = vars(exc.failure)
        return
    body = json.loads((folder.root / result.body).read_bytes())
    body.pop("processing_time"), body.pop("timings", None)
    made[what] = body
for document in ("notes.md", "letter.docx", "page.html", "scan.png"):
    convert(document, document)
assert is_loaded("torch") == (sys.argv[1] == "first")
convert("no such language", "scan.png", ocr_custom_config={"kind": "rapidocr", "lang": ["klingon"]})
convert("no such engine", "scan.png", ocr_custom_config={"kind": "easyocr"})
convert("no weights", "scan.png", layout_custom_config={"kind": "docling_layout_default"})
convert("no weights of a VLM", "scan.png", pipeline="vlm")
print(json.dumps(made, default=str, sort_keys=True))
"""


def output_of(script: str, when: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temp:
        done = subprocess.run(
            [sys.executable, "-c", script, when],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            cwd=REPOSITORY,
            env=os.environ
            | {
                "DOCLING_SERVE_CONFIG_FILE": "examples/ocr-only.yaml",
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "2",
                "TMPDIR": temp,
                "TORCHINDUCTOR_CACHE_DIR": temp,
            },
        )
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_torch_imported_late_changes_nothing_that_is_offered() -> None:
    late, first = (output_of(WHAT_IS_OFFERED, when) for when in ("late", "first"))

    assert first["criteria"][0] is True
    assert late == first


def test_what_is_converted_and_what_fails_is_the_same_without_torch() -> None:
    lean, full = (output_of(WHAT_IS_CONVERTED, when) for when in ("late", "first"))

    assert full["notes.md"]["status"] == full["scan.png"]["status"] == "success"
    assert lean.keys() == full.keys()
    for what in full:
        assert lean[what] == full[what], what


@pytest.fixture(scope="module")
def default(serve: StartServer) -> Iterator[RunningServer]:
    """The mode on, and nothing else set but what the OCR profile sets."""
    with serve(SUBPROCESS_MODE) as server:
        yield server


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_document_of_the_profile_needs_torch(default: RunningServer, document: str) -> None:
    before = default.standby()

    default.api.succeed(default.api.submit(upload(document)))

    assert default.standby() == before, "the process lives on"
    mapped = processes.maps(before)
    assert "libtorch" not in mapped
    assert ("onnxruntime" in mapped) or document not in ("scan.png", "scan.pdf")


@pytest.fixture(scope="module")
def embedded(serve: StartServer) -> Iterator[RunningServer]:
    """The profile with layout and tables."""
    with serve(SUBPROCESS_MODE, config=EMBEDDED) as server:
        yield server


@pytest.mark.parametrize("document", ["scan.pdf", "scan.png"])
def test_layout_and_tables_of_a_scan_need_no_torch(embedded: RunningServer, document: str) -> None:
    before = embedded.standby()

    result = embedded.api.succeed(embedded.api.submit(upload(document)))

    expected = json.loads((REPOSITORY / "examples/documents/expected.json").read_text())
    markdown = " ".join(result["document"]["md_content"].split())
    assert [part for part in expected[document]["structure"] if part not in markdown] == []
    assert embedded.standby() == before, "the process lives on"
    assert "libtorch" not in processes.maps(before)
    assert "onnxruntime" in processes.maps(before)


def test_a_rested_worker_gives_its_memory_back(default: RunningServer) -> None:
    pid = default.standby()
    default.api.succeed(default.api.submit(upload("scan.png")))
    default.standby()
    before = _rss(pid)

    for _ in range(3):
        default.api.succeed(default.api.submit(upload("scan.png")))
        default.standby()

    assert _rss(pid) - before < 32 * 2**20
    assert _peak(pid) > 2 * _rss(pid), "it did take more"


def _rss(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (kib,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(kib) * 1024


def test_one_setting_turns_all_of_it_off(start_server: StartServer) -> None:
    server = start_server(SUBPROCESS_MODE | NOTHING_KEPT)

    server.api.succeed(server.api.submit(upload("notes.md")))

    server.wait_for_no_workers()


def test_models_on_torch_are_imported_when_a_job_needs_them(start_server: StartServer) -> None:
    """Only torch can say that there is no second GPU, so the job imports torch, and fails."""
    server = start_server(SUBPROCESS_MODE | {"DOCLING_DEVICE": "cuda:1"})
    pid = server.standby()

    assert server.api.finish(server.api.submit(upload("scan.pdf")))["task_status"] == "failure"

    assert server.standby() != pid, "a worker that has imported torch ends, and another is ready"


REHEARSAL = """
import sys
from docling_serve.process.deferred_imports import is_loaded
from docling_serve.subprocess_worker.child.importing import import_for_conversions
import_for_conversions(allow_external_plugins=False)
from docling_serve.conversion.conversion import Conversion
conversion = Conversion({})
conversion.rehearse()
assert not conversion.holds_models
assert not is_loaded("boto3"), "storage is imported when it is used"
assert not is_loaded("torch")
from docling_jobkit.connectors.s3 import helper
real = helper.Session(region_name="eu-west-1")
assert is_loaded("boto3")
assert type(real) is sys.modules["boto3.session"].Session
"""


def test_a_rehearsal_loads_nothing_that_a_small_document_does_not_need() -> None:
    subprocess.run([sys.executable, "-c", REHEARSAL], check=True, cwd=REPOSITORY, timeout=120)
