"""Two loads that strain the server process: a thousand small tasks, and one huge result."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

from benchmarks.client import Client, Options, health_probe
from benchmarks.inputs import pictures
from benchmarks.memory import MB, MemoryMeter
from benchmarks.plan import Bench, as_it_comes, loaded
from benchmarks.servers import Product, Server

_SENDERS = 8
# Each picture is in the answer twice, as text in base64.
_HUGE: Options = {"image_export_mode": "embedded", "to_formats": ["json", "html"]}


def queue(bench: Bench, product: Product) -> None:
    """Submit many small tasks at once, and wait for the last."""
    results, who, count = bench.results, product.name, bench.scale.queue_tasks
    documents = list(islice(cycle(bench.inputs.small), count))
    with Server(product, **loaded(product, 1)) as server, Client(server.url) as client:
        client.convert(bench.inputs.small[0])
        meter = MemoryMeter(server.pid)
        before = meter.take()
        started = time.perf_counter()
        with health_probe(server.port) as answers, ThreadPoolExecutor(_SENDERS) as threads:
            tasks = list(threads.map(client.submit, documents))
            accepted_s = time.perf_counter() - started
            for task in tasks:
                client.wait(task)
            done_s = time.perf_counter() - started
        kept = meter.take()
    results.add("queue.accepted_per_s", who, 1, [count / accepted_s])
    results.add("queue.done_per_s", who, 1, [count / done_s])
    results.add("queue.kept_mb", who, 1, [kept.total - before.total])
    results.add("queue.health_ms", who, 1, (seconds * 1000 for seconds in answers))


def huge_result(bench: Bench, product: Product) -> None:
    """Fetch a result of about 200 MB; conversion is not timed."""
    results, who = bench.results, product.name
    with Server(product, **as_it_comes(product)) as server, Client(server.url) as client:
        task = client.submit(pictures(bench.scale.pictures), _HUGE)
        client.wait(task)
        meter = MemoryMeter(server.pid)
        before = meter.settled().gateway
        with health_probe(server.port) as answers:
            started = time.perf_counter()
            size = client.fetch(task)
            seconds = time.perf_counter() - started
        grown = meter.take().gateway - before
    results.add("huge.mb", who, 1, [size / MB])
    results.add("huge.fetch_s", who, 1, [seconds])
    results.add("huge.grown_mb", who, 1, [grown])
    results.add("huge.health_ms", who, 1, (answer * 1000 for answer in answers))
