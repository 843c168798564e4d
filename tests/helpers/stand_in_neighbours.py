"""Stand-ins for programs on the same GPU: real HTTP servers on a free loopback port.

They speak as much of their protocols as unloading needs. Each test sets what it wants to go
wrong: a number of errors first, a promise that isn't kept, or an answer that waits for an event.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class StandInNeighbour:
    """What a stand-in does. ``calls`` is what it was asked, as method and path (and model).

    ``errors`` many requests are answered with ``error_status`` first. ``keeps`` True: says yes to
    unloading and does nothing. ``lists_late`` many listings after an unload still show the model.
    ``waits_for`` holds back every answer to an unload; ``raw_list`` replaces the list's body.
    ``on_unload`` is called, in the server's thread, when models were unloaded.
    """

    models: list[str] = field(default_factory=list)
    errors: int = 0
    error_status: int = 500
    unknown: tuple[str, ...] = ()
    keeps: bool = False
    lists_late: int = 0
    waits_for: threading.Event | None = None
    was_asked: threading.Event = field(default_factory=threading.Event)
    raw_list: bytes | None = None
    authorization: str | None = None
    calls: list[str] = field(default_factory=list)
    url: str = ""
    leaving: list[str] = field(default_factory=list)
    on_unload: Callable[[], None] | None = None

    def listing(self) -> list[str]:
        if self.leaving and self.lists_late == 0:
            self.leaving.clear()
        self.lists_late -= bool(self.leaving)
        return [*self.models, *self.leaving]

    def unload(self, names: list[str]) -> None:
        self.was_asked.set()
        if self.waits_for is not None:
            assert self.waits_for.wait(timeout=60)
        if self.keeps:
            return
        self.leaving.extend(name for name in self.models if name in names)
        self.models = [name for name in self.models if name not in names]
        if self.on_unload is not None:
            self.on_unload()


class _Handler(BaseHTTPRequestHandler):
    played: StandInNeighbour

    def log_message(self, *_args: object) -> None:
        return

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except BrokenPipeError:
            return  # the asker gave up, as some tests want

    def _fails(self, call: str) -> bool:
        self.played.calls.append(call)
        self.played.authorization = self.headers.get("Authorization")
        if self.played.errors == 0:
            return False
        self.played.errors -= 1
        self._answer(self.played.error_status, b"{}")
        return True

    def _answer_list(self, document: object) -> None:
        raw = self.played.raw_list
        self._answer(200, json.dumps(document).encode() if raw is None else raw)


class _OllamaHandler(_Handler):
    def do_GET(self) -> None:
        if self._fails(f"GET {self.path}"):
            return
        if self.path == "/api/ps":
            listed = self.played.listing()
            self._answer_list({"models": [{"name": name, "size_vram": 1} for name in listed]})
        else:
            self._answer(404, b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._fails(f"POST {self.path} {body['model']}"):
            return
        if self.path != "/api/generate" or body != {"model": body["model"], "keep_alive": 0}:
            self._answer(400, b"{}")
        elif body["model"] in self.played.unknown:
            self._answer(404, b'{"error": "model not found"}')
        else:
            self.played.unload([body["model"]])
            self._answer(200, b'{"done": true, "done_reason": "unload"}')


class _LlamaSwapHandler(_Handler):
    def do_GET(self) -> None:
        if self._fails(f"GET {self.path}"):
            return
        if self.path == "/running":
            listed = self.played.listing()
            self._answer_list({"running": [{"model": name, "state": "ready"} for name in listed]})
        elif self.path == "/unload":
            self.played.unload(list(self.played.models))
            self._answer(200, b"OK")
        else:
            self._answer(404, b"404 page not found")


class _LlamaCppHandler(_Handler):
    def do_GET(self) -> None:
        if self._fails(f"GET {self.path}"):
            return
        listed = self.played.listing()
        states = {name: "loaded" if name in listed else "unloaded" for name in (*listed, "other")}
        self._answer_list(
            {"data": [{"id": name, "status": {"value": state}} for name, state in states.items()]}
        )

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self._fails(f"POST {self.path} {body['model']}"):
            return
        self.played.unload([body["model"]])
        self._answer(200, b'{"success": true}')


class _VllmHandler(_Handler):
    def do_GET(self) -> None:
        if not self._fails(f"GET {self.path}"):
            self._answer_list({"is_sleeping": not self.played.listing()})

    def do_POST(self) -> None:
        if not self._fails(f"POST {self.path}"):
            self.played.unload(list(self.played.models))
            self._answer(200, b"")


class _LmStudioHandler(_Handler):
    def do_GET(self) -> None:
        if self._fails(f"GET {self.path}"):
            return
        listed = [
            {"key": name, "loaded_instances": [{"id": name}]} for name in self.played.listing()
        ]
        self._answer_list({"models": [*listed, {"key": "other", "loaded_instances": []}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._fails(f"POST {self.path} {body['instance_id']}"):
            self.played.unload([body["instance_id"]])
            self._answer(200, b"{}")


@contextmanager
def _serving(handler: type[_Handler], played: StandInNeighbour) -> Iterator[StandInNeighbour]:
    bound = type("Bound", (handler,), {"played": played})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    played.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield played
    finally:
        if played.waits_for is not None:
            played.waits_for.set()
        server.shutdown()
        server.server_close()
        thread.join()


def stand_in_ollama(played: StandInNeighbour) -> AbstractContextManager[StandInNeighbour]:
    return _serving(_OllamaHandler, played)


def stand_in_llama_swap(played: StandInNeighbour) -> AbstractContextManager[StandInNeighbour]:
    return _serving(_LlamaSwapHandler, played)


def stand_in_llama_cpp(played: StandInNeighbour) -> AbstractContextManager[StandInNeighbour]:
    return _serving(_LlamaCppHandler, played)


def stand_in_vllm(played: StandInNeighbour) -> AbstractContextManager[StandInNeighbour]:
    return _serving(_VllmHandler, played)


def stand_in_lm_studio(played: StandInNeighbour) -> AbstractContextManager[StandInNeighbour]:
    return _serving(_LmStudioHandler, played)
