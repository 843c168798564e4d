"""Scanned pages per second, by number of concurrent documents, and the latency of probes then."""

from __future__ import annotations

from benchmarks.client import Client, health_probe
from benchmarks.plan import CONCURRENCIES, Bench, loaded
from benchmarks.servers import Product, Server

_STREAMS = 2  # with this many concurrent scans, the probe's answers are kept


def throughput(bench: Bench, product: Product, number: int) -> None:
    """Asynchronous tasks, polled, so that upstream's synchronous wait of 2 s does not count.

    At concurrency 1 both sides convert one task at a time: then one task may use all processors.
    """
    results, scan = bench.results, bench.inputs.scan
    for workers in sorted({1, bench.workers}):
        settings = loaded(product, workers)
        with Server(product, **settings) as server, Client(server.url) as client:
            client.load([bench.inputs.page] * 2 * workers, workers)  # loads models in each worker
            for concurrency in (c for c in CONCURRENCIES if (c == 1) == (workers == 1)):
                with health_probe(server.port) as answers:
                    load = client.load([scan] * max(concurrency, 2), concurrency)
                name = f"throughput.pages_per_s@{concurrency}"
                results.add(name, product.name, number, [load.pages_per_s])
                if concurrency == _STREAMS:
                    milliseconds = (seconds * 1000 for seconds in answers)
                    results.add("health.busy_ms", product.name, number, milliseconds)
