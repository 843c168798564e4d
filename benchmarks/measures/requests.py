"""What one client sees: small documents, a scanned page, a probe on an otherwise idle server."""

from __future__ import annotations

import time
from itertools import cycle, islice

from benchmarks.client import Client, health_probe
from benchmarks.plan import Bench, loaded
from benchmarks.servers import Product, Server

_PROBE_EVERY_S = 0.02


def latency(bench: Bench, product: Product, number: int) -> None:
    """Synchronous requests one after the other, with models loaded on both sides.

    Upstream converts two tasks at a time by default, this build one; one client keeps one busy.
    """
    results, inputs, scale, who = bench.results, bench.inputs, bench.scale, product.name
    with Server(product, **loaded(product, 1)) as server, Client(server.url) as client:
        for document in (*inputs.small, *inputs.office, inputs.page, inputs.page):
            client.convert(document)
        small = [client.convert(one) for one in islice(cycle(inputs.small), scale.small)]
        office = [client.convert(one) for one in islice(cycle(inputs.office), scale.office)]
        pages = [client.convert(inputs.page) for _ in range(scale.pages)]
        with health_probe(server.port) as answers:
            time.sleep(scale.health * _PROBE_EVERY_S)
    results.add("small.ms", who, number, (timing.wall_s * 1000 for timing in small))
    results.add("office.ms", who, number, (timing.wall_s * 1000 for timing in office))
    results.add("page.s", who, number, (timing.wall_s for timing in pages))
    results.add("page.rest_ms", who, number, (timing.rest_s * 1000 for timing in pages))
    results.add("health.idle_ms", who, number, (seconds * 1000 for seconds in answers))
