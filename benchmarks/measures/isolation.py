"""What a process of its own costs a task, by the way the process starts."""

from __future__ import annotations

from contextlib import ExitStack

from benchmarks.client import Client
from benchmarks.memory import poll_until
from benchmarks.plan import Bench, fresh, in_process, loaded
from benchmarks.servers import Product, Server
from benchmarks.stages import events, stages

IN_PROCESS = "in the server process (mode off)"
WARM = "warm worker"
STANDBY = "fresh process, spawn + standby"
FORKSERVER = "fresh process, forkserver"
SPAWN = "fresh process, spawn"
_READY_WITHIN_S = 120.0
_SLICE_PAGES = 5


def isolation(bench: Bench) -> None:
    """The same scan in each way, in turn, so that drift of the machine affects all alike."""
    with ExitStack() as stack:
        ways = {
            IN_PROCESS: open_way(stack, bench.ours, in_process()),
            WARM: open_way(stack, bench.ours, loaded(bench.ours, 1)),
            STANDBY: open_way(stack, bench.ours, fresh("spawn", 1)),
            FORKSERVER: open_way(stack, bench.ours, fresh("forkserver")),
        }
        for client in ways.values():
            client.convert(bench.inputs.page)  # the first loads models, or makes the template
        for number in range(1, bench.scale.isolation + 1):
            for way, client in ways.items():
                wait_at_rest(client, way)
                seconds = client.convert(bench.inputs.scan).wall_s
                bench.results.add("isolation.scan_s", way, number, [seconds])


def first_after_idle(bench: Bench) -> None:
    """A scanned page when no worker is running, and where its time goes."""
    for way, settings in (
        (SPAWN, fresh("spawn")),
        (STANDBY, fresh("spawn", 1)),
        (FORKSERVER, fresh("forkserver")),
    ):
        told = {**settings, "log_format": "json", "log_level": "DEBUG"}  # log each worker move
        with Server(bench.ours, **told) as server, Client(server.url) as client:
            client.convert(bench.inputs.page)
            for number in range(1, bench.scale.first + 1):
                wait_at_rest(client, way)
                seen = len(server.log)
                seconds = client.convert(bench.inputs.page).wall_s
                bench.results.add("first.page_s", way, number, [seconds])
                wait_at_rest(client, way)
                for name, spent in stages(events(server.log[seen:])).items():
                    bench.results.add(f"stage.{name}", way, number, spent)


def fanout(bench: Bench) -> None:
    """The long scan with one worker, and with its pages shared among several."""
    for workers, pages in ((1, 0), (bench.workers, 0), (bench.workers, _SLICE_PAGES)):
        settings = {**loaded(bench.ours, workers), "subprocess_page_fanout": str(pages)}
        name = f"{workers} worker{'s' * (workers > 1)}, fan-out {pages or 'off'}"
        with Server(bench.ours, **settings) as server, Client(server.url) as client:
            client.load([bench.inputs.page] * 2 * workers, workers)
            load = client.load([bench.inputs.long_scan], 1)
            bench.results.add("fanout.pages_per_s", name, 1, [load.pages_per_s])


def open_way(stack: ExitStack, product: Product, settings: dict[str, str]) -> Client:
    server = stack.enter_context(Server(product, **settings))
    return stack.enter_context(Client(server.url))


def wait_at_rest(client: Client, way: str) -> None:
    """Where every task has a new process: the last one has exited, the next one is ready."""
    wanted = {STANDBY: {"standby"}, FORKSERVER: set(), SPAWN: set()}.get(way)

    def at_rest() -> bool:
        workers = client.get("/v1/workers").json()["workers"]
        return {worker["state"] for worker in workers} == wanted

    if wanted is not None:
        poll_until(at_rest, _READY_WITHIN_S, f"{way}: at rest")
