from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator
from datetime import datetime

import pytest

from docling_serve.observability.logging import JsonFormatter, configure_logging, process_fields


class Output:
    """What was written to standard error so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def text(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text

    def lines(self) -> list[str]:
        return self.text().splitlines()


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Iterator[Output]:
    """Standard error; what logging was before is put back."""
    root = logging.getLogger()
    levels = {
        name: logger.level
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    handlers, level = list(root.handlers), root.level
    rapidocr = logging.getLogger("RapidOCR")  # its package gives it handlers of its own
    attached = rapidocr.propagate, list(rapidocr.handlers)
    rapidocr.propagate, rapidocr.handlers[:] = True, []
    yield Output(capsys)
    rapidocr.propagate, rapidocr.handlers[:] = attached
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))


def test_a_line_of_text_has_level_and_name(output: Output) -> None:
    configure_logging("INFO", "text")
    logging.getLogger("docling_serve.x").warning("task %s waits", "t-1")

    (line,) = output.lines()
    assert line.endswith("WARNING docling_serve.x: task t-1 waits")


def test_a_line_of_json_has_fields(output: Output) -> None:
    configure_logging("INFO", "json")
    logging.getLogger("docling_serve.x").info("ünï %d", 1, extra={"requestid": "r-1"})

    record = json.loads(output.text())
    assert datetime.fromisoformat(record.pop("timestamp")).tzinfo is not None
    assert record == {
        "level": "INFO",
        "logger": "docling_serve.x",
        "message": "ünï 1",
        "pid": os.getpid(),
        "requestid": "r-1",
    }


def test_a_line_of_json_names_its_task_and_worker(
    output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure_logging("INFO", "json")
    task = str(uuid.UUID(int=7))
    logging.getLogger("docling_serve.x").info("task %s: given to worker %d", task, 3)
    logging.getLogger("elsewhere").info("task %s: given to worker %d", task, 3)
    monkeypatch.setitem(process_fields, "task", "t")
    logging.getLogger("elsewhere").info("page 1")

    ours, others, within = map(json.loads, output.lines())
    assert (ours["task"], ours["worker"]) == (task, "3")
    assert not {"task", "worker"} & set(others)
    assert within["task"] == "t"


def test_json_stays_one_line_whatever_is_logged(output: Output) -> None:
    configure_logging("INFO", "json")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("docling_serve.x").exception("failed\nbadly", extra={"odd": object()})

    (line,) = output.lines()
    record = json.loads(line)
    assert record["message"] == "failed\nbadly"
    assert record["exception"].endswith("ValueError: two\nlines")
    assert "object object" in record["odd"]


@pytest.mark.parametrize(("level", "written"), [("DEBUG", 3), ("INFO", 2), ("WARNING", 1)])
def test_the_level_is_that_which_was_asked_for(output: Output, level: str, written: int) -> None:
    configure_logging(level)
    logger = logging.getLogger("docling_serve.x")
    for log in (logger.debug, logger.info, logger.warning):
        log("line")

    assert len(output.lines()) == written


def test_setting_up_twice_writes_every_line_once(output: Output) -> None:
    configure_logging()
    configure_logging()
    logging.getLogger("docling_serve.x").info("line")

    assert len(output.lines()) == 1


@pytest.mark.parametrize("name", ["httpx", "botocore.client", "RapidOCR"])
def test_libraries_are_quiet_about_their_own_workings(output: Output, name: str) -> None:
    configure_logging("INFO")
    logging.getLogger(name).info("HTTP Request: GET https://example.com/?key=s3cret")
    logging.getLogger(name).warning("this one matters")

    assert len(output.lines()) == 1


def test_a_quiet_library_is_no_louder_than_the_server(output: Output) -> None:
    configure_logging("ERROR")
    logging.getLogger("httpx").warning("line")

    assert output.lines() == []


def test_the_key_of_a_websocket_is_not_logged(output: Output) -> None:
    configure_logging("INFO", "text")
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.info('%s - "WebSocket %s" [accepted]', "1.2.3.4:5", "/v1/status/ws/t?api_key=s3&x=1")

    (line,) = output.lines()
    assert line.endswith('"WebSocket /v1/status/ws/t?api_key=***&x=1" [accepted]')


def test_a_record_without_extras_has_none() -> None:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "m"})

    assert set(json.loads(JsonFormatter().format(record))) == {
        "timestamp",
        "level",
        "logger",
        "message",
        "pid",
    }
