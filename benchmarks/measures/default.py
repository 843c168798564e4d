"""The default configuration: only the mode is set here, and nothing on the other server."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.client import Client
from benchmarks.inputs import Document, Inputs
from benchmarks.memory import MemoryMeter, Use
from benchmarks.plan import CLIENTS, Bench, as_it_comes, nothing_kept, watched
from benchmarks.servers import Product, Server

# Single requests, as measures and rows name them.
MARKDOWN, DOCX, PAGE = "markdown", "docx", "page"
KINDS = (MARKDOWN, DOCX, PAGE)
LEAN = "a process without torch"
FULL = "one with torch"

_AT_REST_S = 3.0
_AT_REST_WITHIN_S = 45.0
_SPACING_S = 2.0
_PAUSE_BEFORE_SPACED_S = 10.0
_CPU_WITHIN_S = 40.0


def documents(inputs: Inputs) -> dict[str, Document]:
    """A document of each kind; of office documents the DOCX, if the user's own include one."""
    letters = [one for one in inputs.office if Path(one.name).suffix.lower() == ".docx"]
    return {
        MARKDOWN: inputs.small[0],
        DOCX: (letters or list(inputs.office))[0],
        PAGE: inputs.page,
    }


def alone(bench: Bench, product: Product, number: int) -> None:
    """Start, memory at rest, and single requests after a pause; then memory again.

    After each pause the same request is sent twice, the second as soon as the first is answered.
    """
    results, who = bench.results, product.name
    with Server(product, **as_it_comes(product)) as server, Client(server.url) as client:
        results.add("start.ready_s", who, number, [server.ready_s])
        meter = MemoryMeter(server.pid)
        _at_rest(bench, meter, who, number, "idle")
        for pause in bench.scale.pauses:
            for kind, document in documents(bench.inputs).items():
                time.sleep(pause)
                first, again = client.convert(document), client.convert(document)
                results.add(f"alone.{kind}_s@{pause}", who, number, [first.wall_s])
                results.add(f"again.{kind}_s@{pause}", who, number, [again.wall_s])
        _at_rest(bench, meter, who, number, "after")


def _at_rest(bench: Bench, meter: MemoryMeter, who: str, number: int, when: str) -> None:
    use = _settled(meter)
    results = bench.results
    results.add(f"{when}.rss_mb", who, number, [use.total])
    proportional = meter.proportional()
    if proportional is not None:
        results.add(f"{when}.pss_mb", who, number, [proportional])
    if use.gpu_server is not None:
        results.add(f"{when}.gpu_mb", who, number, [use.gpu_server])
    if use.gpu_devices:
        results.add(f"{when}.gpu_devices_mb", who, number, [sum(use.gpu_devices)])


def spaced(bench: Bench, product: Product) -> None:
    """Two requests back to back, then one every two seconds; kind by kind, after one of each.

    A request that falls due before the previous answer arrives is sent right after it.
    """
    with Server(product, **as_it_comes(product)) as server, Client(server.url) as client:
        for kind, document in documents(bench.inputs).items():
            client.convert(document)
            time.sleep(_PAUSE_BEFORE_SPACED_S)
            answers = [client.convert(document).wall_s]
            began = time.monotonic()
            for count in range(bench.scale.spaced + 1):
                time.sleep(max(0.0, began + count * _SPACING_S - time.monotonic()))
                answers.append(client.convert(document).wall_s)
            bench.results.add(f"spaced.{kind}_s", product.name, 1, answers)


def small_tasks(bench: Bench, product: Product, number: int) -> None:
    """A small Markdown document many times: one by one, then by many clients at once.

    The processor time is that of the server process, in which the other server also converts.
    """
    results, scale, who = bench.results, bench.scale, product.name
    document = bench.inputs.small[0]
    with Server(product, **as_it_comes(product)) as server, Client(server.url) as client:
        client.convert(document)
        _settled(MemoryMeter(server.pid))
        server_process = psutil.Process(server.pid)

        def one_by_one() -> int:
            count, deadline = 0, time.monotonic() + _CPU_WITHIN_S
            while count < scale.cpu_tasks and time.monotonic() < deadline:
                client.convert(document)
                count += 1
            return count

        def by_clients() -> int:
            with ThreadPoolExecutor(CLIENTS) as threads:
                return len(list(threads.map(client.convert, [document] * scale.sync_tasks)))

        alone_ms, _ = cost(server_process, one_by_one)
        sync_ms, sync_per_s = cost(server_process, by_clients)
        started = time.perf_counter()
        hand_in_and_fetch(client, [document] * scale.queue_tasks, CLIENTS)
        done_per_s = scale.queue_tasks / (time.perf_counter() - started)
    results.add("cpu.alone_ms", who, number, [alone_ms])
    results.add("cpu.clients_ms", who, number, [sync_ms])
    results.add("clients.sync_per_s", who, number, [sync_per_s])
    results.add("clients.done_per_s", who, number, [done_per_s])


def cost(process: psutil.Process, do: Callable[[], int]) -> tuple[float, float]:
    """Milliseconds of processor time of ``process`` per operation, and operations per second."""
    before, started = process.cpu_times(), time.perf_counter()
    count = do()
    after, seconds = process.cpu_times(), time.perf_counter() - started
    spent = after.user + after.system - before.user - before.system
    return 1000 * spent / count, count / seconds


def hand_in_and_fetch(client: Client, wanted: Sequence[Document], clients: int) -> None:
    """The clients submit all documents, and read all results once the last task has finished.

    One of them waits, task by task: many polling clients would slow what they wait for.
    """
    with ThreadPoolExecutor(clients) as threads:
        tasks = list(threads.map(client.submit, wanted))
        for task in tasks:
            client.wait(task)
        list(threads.map(client.fetch, tasks))


def nothing_at_rest(bench: Bench) -> None:
    """Memory where no process is kept, before a request of each kind and after them."""
    who = bench.ours.name
    with Server(bench.ours, **nothing_kept()) as server, Client(server.url) as client:
        meter = MemoryMeter(server.pid)
        bench.results.add("off.before_mb", who, 1, [_settled(meter).total])
        for document in documents(bench.inputs).values():
            client.convert(document)
        bench.results.add("off.after_mb", who, 1, [_settled(meter).total])


def starts(bench: Bench) -> None:
    """Seconds until a spawned worker is ready, a lean one and one that also imports torch; in turn,
    from the worker's own sums."""
    wanted = documents(bench.inputs)
    full = nothing_kept() | {"subprocess_preload_torch": "true"}
    for number in range(1, bench.scale.first + 1):
        for what, settings in ((LEAN, nothing_kept()), (FULL, full)):
            with Server(bench.ours, **watched(settings)) as server, Client(server.url) as client:
                client.convert(wanted[MARKDOWN])
                parts = client.get("/v1/workers").json()["metrics"]["overhead_by_part"]
            bench.results.add("spawn.s", what, number, [parts["spawn"] + parts["import"]])


def _settled(meter: MemoryMeter) -> Use:
    return meter.settled(within_s=_AT_REST_WITHIN_S, still_s=_AT_REST_S)
