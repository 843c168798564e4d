from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest

from docling_serve.vram.neighbour_programs import NeighbourHttp
from docling_serve.vram.neighbours import UnloadOutcome, UnloadReport, unload_external_models
from tests.helpers.stand_in_neighbours import (
    StandInNeighbour,
    stand_in_llama_cpp,
    stand_in_llama_swap,
    stand_in_lm_studio,
    stand_in_ollama,
    stand_in_vllm,
)
from tests.unit.vram.neighbour_settings import Settings


class Time:
    """A clock that only sleeping moves, ``pace`` times as far as asked."""

    def __init__(self, pace: float = 1.0) -> None:
        self.now = 0.0
        self._pace = pace

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds * self._pace


@pytest.fixture
def ollama() -> Iterator[StandInNeighbour]:
    with stand_in_ollama(StandInNeighbour(["llama3:latest", "qwen3:8b"])) as played:
        yield played


@pytest.fixture
def llama_swap() -> Iterator[StandInNeighbour]:
    with stand_in_llama_swap(StandInNeighbour(["coder", "chat"])) as played:
        yield played


@pytest.fixture
def refused_url() -> Iterator[str]:
    """An address nobody listens on: bound, so nobody else can, but not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


async def unload(settings: Settings, time: Time | None = None) -> list[UnloadReport]:
    time = time or Time()
    return await unload_external_models(settings, sleep=time.sleep, clock=time)


async def test_nothing_configured_asks_nobody() -> None:
    assert await unload(Settings()) == []
    assert await unload(Settings(unload_ollama_base_url="", unload_ollama_model="llama3")) == []


async def test_ollama_unloads_all_that_it_lists(ollama: StandInNeighbour) -> None:
    [report] = await unload(Settings(ollama.url))

    assert report.neighbour == "Ollama"
    assert report.url == ollama.url
    assert report.outcome is UnloadOutcome.UNLOADED
    assert report.detail == "llama3:latest, qwen3:8b"
    assert ollama.models == []
    assert ollama.calls == [
        "GET /api/ps",
        "POST /api/generate llama3:latest",
        "POST /api/generate qwen3:8b",
        "GET /api/ps",
    ]


@pytest.mark.parametrize("named", ["llama3", "llama3:latest"])
async def test_ollama_unloads_only_the_model_named(ollama: StandInNeighbour, named: str) -> None:
    [report] = await unload(Settings(ollama.url, named))

    assert report.outcome is UnloadOutcome.UNLOADED
    assert ollama.models == ["qwen3:8b"]


@pytest.mark.parametrize("named", ["qwen3", "mistral"])
async def test_ollama_is_left_alone_when_the_model_is_not_loaded(
    ollama: StandInNeighbour, named: str
) -> None:
    [report] = await unload(Settings(ollama.url, named))

    assert report.outcome is UnloadOutcome.NOTHING_LOADED
    assert ollama.calls == ["GET /api/ps"]


async def test_a_model_of_another_registry_keeps_its_port(ollama: StandInNeighbour) -> None:
    ollama.models = ["registry:5000/team/model:latest"]

    [report] = await unload(Settings(ollama.url, "registry:5000/team/model"))

    assert report.outcome is UnloadOutcome.UNLOADED


async def test_one_model_ollama_no_longer_knows_does_not_keep_the_others(
    ollama: StandInNeighbour,
) -> None:
    ollama.unknown = ("llama3:latest",)

    [report] = await unload(Settings(ollama.url))

    assert report.outcome is UnloadOutcome.FAILED
    assert "404" in report.detail
    assert ollama.models == ["llama3:latest"]


async def test_llama_swap_unloads_all(llama_swap: StandInNeighbour) -> None:
    [report] = await unload(Settings(unload_llama_swap_base_url=llama_swap.url + "/"))

    assert report.neighbour == "llama-swap"
    assert report.outcome is UnloadOutcome.UNLOADED
    assert report.detail == "coder, chat"
    assert llama_swap.calls == ["GET /running", "GET /unload", "GET /running"]


async def test_llama_swap_without_models_is_left_alone(llama_swap: StandInNeighbour) -> None:
    llama_swap.models = []

    [report] = await unload(Settings(unload_llama_swap_base_url=llama_swap.url))

    assert report.outcome is UnloadOutcome.NOTHING_LOADED
    assert llama_swap.calls == ["GET /running"]


async def test_a_llama_cpp_router_unloads_all_that_is_loaded() -> None:
    with stand_in_llama_cpp(StandInNeighbour(["coder", "chat"])) as played:
        [report] = await unload(Settings(unload_llama_cpp_base_url=played.url))

    assert report.neighbour == "llama.cpp"
    assert report.outcome is UnloadOutcome.UNLOADED
    assert played.calls == [
        "GET /models",
        "POST /models/unload coder",
        "POST /models/unload chat",
        "GET /models",
    ]


async def test_vllm_is_put_to_sleep_once() -> None:
    with stand_in_vllm(StandInNeighbour(["llm"])) as played:
        outcomes = [
            (await unload(Settings(unload_vllm_base_url=played.url)))[0].outcome for _ in range(2)
        ]

    assert outcomes == [UnloadOutcome.UNLOADED, UnloadOutcome.NOTHING_LOADED]
    assert played.calls == [
        "GET /is_sleeping",
        "POST /sleep?level=1",
        "GET /is_sleeping",
        "GET /is_sleeping",
    ]


async def test_vllm_without_its_sleep_mode_is_a_failure() -> None:
    with stand_in_vllm(StandInNeighbour(errors=99, error_status=404)) as played:
        [report] = await unload(Settings(unload_vllm_base_url=played.url))

    assert report.outcome is UnloadOutcome.FAILED
    assert "404" in report.detail


async def test_lm_studio_unloads_every_instance_with_its_token() -> None:
    with stand_in_lm_studio(StandInNeighbour(["a", "b"])) as played:
        with_token = played.url.replace("http://", "http://bearer:lm-token@")
        [report] = await unload(Settings(unload_lm_studio_base_url=with_token))

    assert report.outcome is UnloadOutcome.UNLOADED
    assert report.url == played.url
    assert played.authorization == "Bearer lm-token"
    assert played.calls[1:3] == [
        "POST /api/v1/models/unload a",
        "POST /api/v1/models/unload b",
    ]


@pytest.mark.parametrize("instances", [[{}], ["a"], 7])
async def test_an_instance_without_a_name_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, instances: object
) -> None:
    async def items(*_: object) -> list[dict[str, object]]:
        return [{"loaded_instances": instances}]

    monkeypatch.setattr(NeighbourHttp, "items", items)
    [report] = await unload(Settings(unload_lm_studio_base_url="http://127.0.0.1:9"))
    assert report.outcome is UnloadOutcome.FAILED


async def test_a_promise_is_confirmed_through_the_list(ollama: StandInNeighbour) -> None:
    ollama.lists_late = 3
    time = Time()

    [report] = await unload(Settings(ollama.url), time)

    assert report.outcome is UnloadOutcome.UNLOADED
    assert report.seconds == time.now == 0.75


async def test_a_promise_that_is_not_kept_is_reported(
    ollama: StandInNeighbour, llama_swap: StandInNeighbour
) -> None:
    ollama.keeps = True

    reports = await unload(Settings(ollama.url, "llama3", llama_swap.url), Time(pace=50))

    assert [(report.outcome, report.detail) for report in reports] == [
        (UnloadOutcome.STILL_LOADED, "llama3:latest"),
        (UnloadOutcome.UNLOADED, "coder, chat"),
    ]


async def test_neighbours_are_asked_at_the_same_time(
    ollama: StandInNeighbour, llama_swap: StandInNeighbour
) -> None:
    # Each answers only after the other was asked: one after the other would never end.
    ollama.waits_for, llama_swap.waits_for = llama_swap.was_asked, ollama.was_asked

    reports = await unload(Settings(ollama.url, None, llama_swap.url))

    assert [report.outcome for report in reports] == [UnloadOutcome.UNLOADED] * 2


async def test_a_slow_neighbour_ends_with_its_time(ollama: StandInNeighbour) -> None:
    ollama.waits_for = threading.Event()
    never = Settings(ollama.url, unload_external_model_timeout=0.2)

    [report] = await unload(never)

    assert report.outcome is UnloadOutcome.TIMED_OUT
    assert report.detail == "no answer within 0.2 s"


async def test_one_error_of_the_server_is_tried_again(llama_swap: StandInNeighbour) -> None:
    llama_swap.errors = 1

    [report] = await unload(Settings(unload_llama_swap_base_url=llama_swap.url))

    assert report.outcome is UnloadOutcome.UNLOADED
    assert llama_swap.calls[:3] == ["GET /running", "GET /running", "GET /unload"]


async def test_a_neighbour_that_fails_is_logged_and_skipped(
    ollama: StandInNeighbour, llama_swap: StandInNeighbour, caplog: pytest.LogCaptureFixture
) -> None:
    ollama.errors = 99

    with caplog.at_level(logging.WARNING):
        reports = await unload(Settings(ollama.url, None, llama_swap.url))

    assert [report.outcome for report in reports] == [UnloadOutcome.FAILED, UnloadOutcome.UNLOADED]
    assert ollama.calls == ["GET /api/ps", "GET /api/ps"], "one retry, no more"
    [record] = [record for record in caplog.records if record.name.startswith("docling_serve")]
    assert "Ollama" in record.getMessage()
    assert "500" in record.getMessage()


@pytest.mark.parametrize("status", [302, 401, 404])
async def test_a_refusal_is_not_tried_again(ollama: StandInNeighbour, status: int) -> None:
    ollama.errors, ollama.error_status = 99, status

    [report] = await unload(Settings(ollama.url))

    assert report.outcome is UnloadOutcome.FAILED
    assert str(status) in report.detail
    assert ollama.calls == ["GET /api/ps"]


async def test_a_refused_connection_is_unreachable(
    refused_url: str, llama_swap: StandInNeighbour
) -> None:
    reports = await unload(Settings(refused_url, None, llama_swap.url))

    assert [report.outcome for report in reports] == [
        UnloadOutcome.UNREACHABLE,
        UnloadOutcome.UNLOADED,
    ]


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"other": []}', b'{"models": 3}', b'{"models": ["a"]}']
)
async def test_something_else_on_that_port_is_a_failure(
    ollama: StandInNeighbour, body: bytes
) -> None:
    ollama.raw_list = body

    [report] = await unload(Settings(ollama.url))

    assert report.outcome is UnloadOutcome.FAILED
    assert "list of models" in report.detail


async def test_an_empty_list_may_be_null(ollama: StandInNeighbour) -> None:
    ollama.raw_list = b'{"models": null}'

    [report] = await unload(Settings(ollama.url))

    assert report.outcome is UnloadOutcome.NOTHING_LOADED


@pytest.mark.parametrize(
    ("url", "outcome"),
    [
        ("localhost-without-scheme", UnloadOutcome.UNREACHABLE),
        ("http://me:secret@host:port", UnloadOutcome.FAILED),
    ],
)
async def test_an_address_that_is_none_is_reported(url: str, outcome: UnloadOutcome) -> None:
    [report] = await unload(Settings(url))

    assert report.outcome is outcome
    assert "secret" not in report.url + report.detail


async def test_a_key_in_the_address_is_sent_and_not_told(
    llama_swap: StandInNeighbour, caplog: pytest.LogCaptureFixture
) -> None:
    with_key = llama_swap.url.replace("http://", "http://any:secret-key@")

    with caplog.at_level(logging.INFO, logger="docling_serve"):
        [report] = await unload(Settings(unload_llama_swap_base_url=with_key))

    assert report.outcome is UnloadOutcome.UNLOADED
    assert llama_swap.authorization is not None
    assert report.url == llama_swap.url
    assert "secret-key" not in caplog.text


async def test_a_proxy_in_the_environment_is_not_used(
    ollama: StandInNeighbour, refused_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, refused_url)

    [report] = await unload(Settings(ollama.url))

    assert report.outcome is UnloadOutcome.UNLOADED


async def test_a_given_client_is_used_and_left_open(ollama: StandInNeighbour) -> None:
    async with httpx.AsyncClient(headers={"Authorization": "Bearer of-ours"}) as client:
        await unload_external_models(Settings(ollama.url), client)
        assert not client.is_closed

    assert ollama.authorization == "Bearer of-ours"
