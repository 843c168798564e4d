"""How long until it takes requests, and what it holds before the first."""

from __future__ import annotations

from benchmarks.memory import MemoryMeter
from benchmarks.plan import Bench, as_it_comes
from benchmarks.servers import Product, Server


def start(bench: Bench, product: Product, number: int) -> None:
    """Start with default settings; then read its memory at rest."""
    results = bench.results
    with Server(product, **as_it_comes(product)) as server:
        results.add("start.ready_s", product.name, number, [server.ready_s])
        use = MemoryMeter(server.pid).settled()
    results.add("idle.rss_mb", product.name, number, [use.total])
    results.add("idle.gateway_mb", product.name, number, [use.gateway])
    if use.gpu_server is not None:
        results.add("idle.gpu_mb", product.name, number, [use.gpu_server])
    if use.gpu_devices:
        results.add("idle.gpu_devices_mb", product.name, number, [sum(use.gpu_devices)])
