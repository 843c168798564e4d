"""Logging of the server and its workers: one set-up, called by each process, never on import."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import Any

_TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

_KEY_IN_QUERY = re.compile(r"(api_key=)[^&\s]*", re.IGNORECASE)
_PLUGIN_LOADER = "docling.models.factories.base_factory"
_OWN_PLUGIN = "plugin docling_serve_ocr_only will not be loaded"

#: Libraries whose lines below WARNING describe their internals: noise at any level.
_QUIET = (
    "PIL",
    "httpx",
    "httpcore",
    "botocore",
    "urllib3",
    "RapidOCR",
    "docling_jobkit.connectors",
)

#: Libraries that log the steps of each conversion: shown at DEBUG, as our own steps are.
_STEPS = ("docling", "docling_core", "docling_jobkit")

#: What the client of the current request wants to find in its log lines, by field name.
request_fields: ContextVar[Mapping[str, str]] = ContextVar("request_fields", default={})  # noqa: B039


#: What all lines of this process have in common, such as the task that a worker runs.
process_fields: dict[str, str] = {}

#: Our messages identify their subject with these words.
_NAMED = {
    "task": re.compile(r"\btask ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b"),
    "worker": re.compile(r"\bworker (\d+)\b"),
}


class JsonFormatter(logging.Formatter):
    """One JSON object per line: timestamp, level, logger, message, the process that wrote it
    (``pid``), the ``task`` and ``worker`` that it names, extra fields and those of the request."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            **request_fields.get(),
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **process_fields,
        }
        if record.name.startswith("docling_serve."):
            found = ((field, named.search(line["message"])) for field, named in _NAMED.items())
            line.update({field: match.group(1) for field, match in found if match})
        line.update({k: v for k, v in vars(record).items() if _is_extra(k)})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _is_extra(name: str) -> bool:
    """Whether our code logged it; libraries (Ray) put attributes of their own on every record."""
    return name not in _STANDARD and not name.startswith("_")


def configure_logging(level: str = "INFO", log_format: str = "text") -> None:
    """Send everything to standard error in ``log_format`` (``text`` or ``json``)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(_TEXT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    shows_steps = root.level <= logging.DEBUG
    for name in (*_QUIET, *(() if shows_steps else _STEPS)):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger(_PLUGIN_LOADER).addFilter(_not_our_own_plugin)
    logging.getLogger("uvicorn.error").addFilter(_without_keys)  # it logs each websocket


def without_key(text: str) -> str:
    """``text`` without the API key in the query of a websocket's address."""
    return _KEY_IN_QUERY.sub(r"\1***", text)


def _without_keys(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(
            without_key(each) if isinstance(each, str) else each for each in record.args
        )
    return True


def _not_our_own_plugin(record: logging.LogRecord) -> bool:
    """docling warns about every plugin it leaves out. Ours is left out on purpose wherever the OCR
    profile is not chosen, so that warning is dropped."""
    return _OWN_PLUGIN not in record.getMessage()
