"""The runs of the load test: one with kills, one for each number of workers, one for memory."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import loads
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.fleet.load import Clients, Sent
from benchmarks.fleet.parts import Gateway, Host, Part, Redis
from benchmarks.fleet.verdict import Verdict, judge, median_places, successes
from benchmarks.servers import Product

TENANTS = ("greedy",) * 8 + ("modest", "rare")
CALLBACK_EVERY = 20
WHILE_QUEUEING = ((0.5, "a gateway"),)
#: At which share of the results which part is killed.
KILLS = (
    (0.10, "a host"),
    (0.25, "a conversion process"),
    (0.40, "a gateway"),
    (0.55, "Redis"),
    (0.70, "a conversion process"),
    (0.80, "a host"),
)


class Fleet:
    """Gateways, hosts and a Redis, all on this machine, none of them started."""

    def __init__(self, product: Product, folder: Path, gateways: int, hosts: int) -> None:
        self.redis = Redis(folder / "redis")
        shared = {"eng_kind": "rq", "eng_rq_redis_url": self.redis.url}
        if product.is_ours:
            shared["use_subprocess"] = "true"
        self.gateways = [
            Gateway(f"gateway {n}", product, folder / f"g{n}", **shared) for n in range(gateways)
        ]
        self.hosts = [Host(f"host {n}", product, folder / f"h{n}", **shared) for n in range(hosts)]
        self.killed: list[str] = []

    def start(self, *, hosts: bool) -> None:
        """Start Redis and the gateways, and the hosts too if that is wanted."""
        self.redis.start()
        _start_all([*self.gateways, *(self.hosts if hosts else [])])

    def start_hosts(self) -> None:
        """Start the hosts."""
        _start_all(self.hosts)

    def stop(self) -> None:
        """Stop everything."""
        for part in (*self.hosts, *self.gateways, self.redis):
            part.stop()

    def kill(self, what: str) -> None:
        """Kill such a part, and start it again. Blocks until it is ready."""
        turn = len(self.killed)
        host = self.hosts[turn % len(self.hosts)]
        if what == "a conversion process":
            if any(one.kill_child() for one in self.hosts):
                self.killed.append(what)
            return
        parts: dict[str, Part] = {
            "a host": host,
            "a gateway": self.gateways[turn % len(self.gateways)],
            "Redis": self.redis,
        }
        parts[what].kill()
        self.killed.append(what)
        parts[what].start()

    @property
    def urls(self) -> list[str]:
        """The addresses of the gateways."""
        return [gateway.url for gateway in self.gateways]

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds until now, by kind of part."""
        return {
            "gateways": sum(part.cpu_s for part in self.gateways),
            "hosts": sum(part.cpu_s for part in self.hosts),
            "redis": self.redis.cpu_s,
        }


@contextmanager
def fleet(product: Product, gateways: int, hosts: int) -> Iterator[Fleet]:
    """A fleet in a temporary folder; stopped at the end of the block."""
    with TemporaryDirectory(prefix="fleet-") as folder:
        made = Fleet(product, Path(folder), gateways, hosts)
        try:
            yield made
        finally:
            made.stop()


@dataclass(frozen=True)
class KillRun:
    """What the run with kills has shown. Times in seconds; memory in bytes of a waiting task."""

    verdict: Verdict
    killed: dict[str, int]
    submit_s: float
    drain_s: float
    redis_bytes_per_task: float
    median_places: dict[str, float]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def kill_run(
    product: Product, count: int, gateways: int, hosts: int, say: Callable[[str], None]
) -> KillRun:
    """Queue ``count`` tasks, with a gateway killed meanwhile; start the hosts, and kill each kind
    of part while they drain the queue."""
    with fleet(product, gateways, hosts) as made, _listener() as (address, told):
        made.start(hosts=False)
        tasks = _tasks(count, address)
        before = made.redis.used_bytes()
        early, killer = _Killer(made, count, say, WHILE_QUEUEING), _Killer(made, count, say)
        clients = Clients(made.urls, on_done=killer.on_done)
        began = time.monotonic()
        asyncio.run(clients.submit(tasks, early.on_done))
        submit_s = time.monotonic() - began
        early.wait()
        per_task = (made.redis.used_bytes() - before) / count
        say(f"{count} tasks accepted in {submit_s:.0f} s")
        made.start_hosts()
        began = time.monotonic()
        asyncio.run(clients.collect(tasks))
        drain_s = time.monotonic() - began
        killer.wait()
        ended = successes(host.log for host in made.hosts)
        _wait_for_ends(tasks, told)
        return KillRun(
            verdict=judge(tasks, ended, told),
            killed=dict(Counter(made.killed)),
            submit_s=submit_s,
            drain_s=drain_s,
            redis_bytes_per_task=per_task,
            median_places=median_places(tasks, ended),
        )


@dataclass(frozen=True)
class Throughput:
    """``count`` tasks in ``seconds``, and the processor seconds of one task by kind of part."""

    product: str
    engine: str
    workers: int
    count: int
    seconds: float
    cpu_s: dict[str, float]

    @property
    def per_cpu_s(self) -> float:
        """Tasks for each processor second of all parts together, which other programs on the
        machine do not change."""
        return 1 / sum(self.cpu_s.values())

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"per_s": self.count / self.seconds, "per_cpu_s": self.per_cpu_s}


def throughput(product: Product, count: int, workers: int) -> Throughput:
    """``count`` tasks through one gateway and ``workers`` hosts, each with one worker that has
    converted a document before."""
    with fleet(product, 1, workers) as made:
        made.start(hosts=True)
        clients = Clients(made.urls)
        _through(clients, _tasks(4 * workers, None))
        before = made.cpu_s()
        began = time.monotonic()
        tasks = _tasks(count, None)
        _through(clients, tasks)
        seconds = time.monotonic() - began
        spent = {name: (after - before[name]) / count for name, after in made.cpu_s().items()}
        _require_all(tasks)
    return Throughput(product.name, "rq", workers, count, seconds, spent)


def local_throughput(product: Product, count: int) -> Throughput:
    """The same through one server with the local engine, which keeps its tasks in a folder."""
    with TemporaryDirectory(prefix="fleet-") as folder:
        settings = {"use_subprocess": "true", "scratch_path": f"{folder}/kept"}
        server = Gateway("server", product, Path(folder) / "server", **settings)
        try:
            server.start()
            clients = Clients([server.url])
            _through(clients, _tasks(4, None))
            before, began = server.cpu_s, time.monotonic()
            tasks = _tasks(count, None)
            _through(clients, tasks)
            seconds, spent = time.monotonic() - began, (server.cpu_s - before) / count
            _require_all(tasks)
        finally:
            server.stop()
    return Throughput(product.name, "local", 1, count, seconds, {"server": spent})


def redis_memory(product: Product, count: int, sizes: Sequence[int]) -> dict[int, float]:
    """Bytes in Redis of a waiting task, by the size of its document."""
    found = {}
    with fleet(product, 1, 0) as made:
        made.start(hosts=False)
        for size in sizes:
            before = made.redis.used_bytes()
            # As a PDF: what RQ stores of it is not smaller than the document.
            noise = random.Random(size).randbytes(size)  # noqa: S311 - nothing secret
            clients = Clients(made.urls, body=noise)
            asyncio.run(clients.submit(_tasks(count, None), lambda _: None))
            found[size] = (made.redis.used_bytes() - before) / count
    return found


class _Killer:
    """Kills parts at their time, in a thread, while clients go on."""

    def __init__(
        self,
        made: Fleet,
        count: int,
        say: Callable[[str], None],
        plan: Sequence[tuple[float, str]] = KILLS,
    ) -> None:
        self._made = made
        self._plan = [(int(share * count), what) for share, what in plan]
        self._say = say
        self._thread: threading.Thread | None = None

    def on_done(self, done: int) -> None:
        """So many tasks are through."""
        busy = self._thread is not None and self._thread.is_alive()
        if self._plan and done >= self._plan[0][0] and not busy:
            _, what = self._plan.pop(0)
            self._say(f"{done} tasks; {what} is killed")
            self._thread = threading.Thread(target=self._made.kill, args=(what,))
            self._thread.start()

    def wait(self) -> None:
        """Until the last part runs again."""
        if self._thread is not None:
            self._thread.join()


def _tasks(count: int, callback: str | None) -> list[Sent]:
    return [
        Sent(n, TENANTS[n % len(TENANTS)], None if n % CALLBACK_EVERY else callback)
        for n in range(count)
    ]


def _through(clients: Clients, tasks: list[Sent]) -> None:
    asyncio.run(clients.submit(tasks, lambda _: None))
    asyncio.run(clients.collect(tasks))


def _require_all(tasks: Sequence[Sent]) -> None:
    failed = [sent for sent in tasks if not sent.done]
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(tasks)} tasks failed: {failed[0].wrong}")


def _start_all(parts: Sequence[Part]) -> None:
    for part in parts:
        part.begin()
    for part in parts:
        part.wait_ready()


@contextmanager
def _listener() -> Iterator[tuple[str, Counter[str]]]:
    """An address for callbacks, and how many last events came to it, by task."""
    told: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = loads(self.rfile.read(int(self.headers["Content-Length"])))
            if event["progress"]["kind"] == "task_completed":
                told[event["task_id"]] += 1
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Nothing: a line for each event is noise."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", told
        finally:
            server.shutdown()
            thread.join()


def _wait_for_ends(tasks: Sequence[Sent], told: Counter[str], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    called = {sent.task_id for sent in tasks if sent.callback and sent.done}
    while called - set(told) and time.monotonic() < deadline:
        time.sleep(0.2)
