"""Give made-up requests what schemathesis cannot make up: documents, and ids that exist.

Made-up bytes are no document, and most made-up options name presets that the server does not offer.
So every other valid request gets real documents and keeps only plain options; the others stay as
they are made, and so do all invalid ones.
"""

from __future__ import annotations

import base64
import itertools
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.generation.meta import TestPhase

_FOLDER = Path(__file__).parents[3] / "examples" / "documents"
_NAMES = ("letter.docx", "notes.md", "page.html", "scan.png")
#: In forms: schemathesis takes a request with bytes in it for one that breaks the schema.
_TEXTS = ("notes.md", "page.html")
#: Options that need models, presets or services that the server of this test does not have.
_UNAVAILABLE = ("preset", "config", "vlm", "picture_description", "pipeline", "chunking", "engine")
_ALSO_UNAVAILABLE = ("ocr_lang", "do_code", "do_formula", "do_picture", "do_chart", "target")

_documents = itertools.cycle(_FOLDER / name for name in _NAMES)
_texts = itertools.cycle((_FOLDER / name).read_text() for name in _TEXTS)
_turns = itertools.cycle([True, False])
_ids: dict[str, deque[str]] = {"task_id": deque(maxlen=20), "file_id": deque(maxlen=20)}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Complete every other valid request; let requests that build on each other be of one tenant,
    since another one finds nothing of theirs."""
    del context, kwargs
    meta = case.meta
    if meta is None:
        return
    if meta.phase.name is TestPhase.STATEFUL:
        (case.headers or {}).pop("X-Tenant-Id", None)
        return
    if not meta.generation.mode.is_positive or not next(_turns):
        return
    for name, ids in _ids.items():
        if name in (case.path_parameters or {}) and ids:
            case.path_parameters[name] = ids[-1]
    if isinstance(case.body, dict):
        _complete(case.body)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Remember the ids of tasks and uploaded files."""
    del context
    if response.status_code != 200 or case.method != "POST":
        return
    if case.path.endswith("/async"):
        _ids["task_id"].append(response.json()["task_id"])
    elif case.path == "/v1/files":
        _ids["file_id"].append(response.json()["id"])


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """A form cannot break the type of a file: whatever is put into such a field arrives as one."""
    del context, response
    of_form = case.media_type == "multipart/form-data"
    about_file = "/properties/file" in failure.message
    return not (of_form and about_file and isinstance(failure, AcceptedNegativeData))


def _complete(body: dict[str, Any]) -> None:
    """Put real documents into ``body``, and leave out what cannot be converted here."""
    for options in (body, body.get("options"), body.get("convert_options")):
        if isinstance(options, dict):
            _drop(options)
    body.pop("callbacks", None)
    if "files" in body:
        body["files"] = [next(_texts)]
    if "file" in body:
        body["file"] = next(_texts)
    if "sources" in body:
        document = next(_documents)
        content = base64.b64encode(document.read_bytes()).decode()
        body["sources"] = [{"kind": "file", "base64_string": content, "filename": document.name}]
    if isinstance(body.get("document"), dict):
        content = base64.b64encode(next(_documents).read_bytes()).decode()
        body["document"] = {"document_url": f"data:application/octet-stream;base64,{content}"}


def _drop(options: dict[str, Any]) -> None:
    names: Iterable[str] = list(options)
    for name in names:
        parts = name.removeprefix("convert_")
        if parts.startswith(_ALSO_UNAVAILABLE) or any(word in parts for word in _UNAVAILABLE):
            del options[name]
