"""The memory held after each of many tasks, and what remains when they are done."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from benchmarks.client import Client
from benchmarks.memory import MemoryMeter, Use
from benchmarks.plan import Bench, as_it_comes
from benchmarks.servers import Product, Server
from benchmarks.statistics import slope

_AT_A_TIME = 2  # one runs, one waits: so a worker continues with the next task
_SETTLE_SHARE = 4  # the first quarter of the tasks fills caches
_SAMPLE_EVERY_S = 0.5
OVER_TASKS = "memory over tasks"
OVER_TIME = "memory over time"
GPU_OVER_TIME = "memory of the GPUs over time"


def memory(bench: Bench, product: Product) -> None:
    """Scanned pages one after the other with default settings, then rest."""
    results, who, count = bench.results, product.name, bench.scale.memory_tasks
    after: list[tuple[float, float]] = []
    gateway: list[tuple[float, float]] = []
    with Server(product, **as_it_comes(product)) as server, Client(server.url) as client:
        meter, lock = MemoryMeter(server.pid), threading.Lock()

        def one_task(_: int) -> None:
            client.run(bench.inputs.page)
            with lock:
                use = meter.take()
                after.append((len(after) + 1, use.total))
                gateway.append((len(gateway) + 1, use.gateway))

        before = meter.settled()
        with _Sampled(meter) as over_time, ThreadPoolExecutor(_AT_A_TIME) as threads:
            list(threads.map(one_task, range(count)))
            rest = meter.settled(within_s=30, still_s=4)
    results.draw(OVER_TASKS, who, ("tasks done", "MB"), after)
    if product.is_ours:  # the other server is a single process
        results.draw(OVER_TASKS, f"{who}, server process", ("tasks done", "MB"), gateway)
    totals = [(at, use.total) for at, use in over_time.points]
    results.draw(OVER_TIME, who, ("seconds", "MB"), totals)
    if rest.gpu_devices:
        on_devices = [(at, sum(use.gpu_devices)) for at, use in over_time.points]
        results.draw(GPU_OVER_TIME, who, ("seconds", "MB"), on_devices)
        results.add("memory.before_gpu_mb", who, 1, [sum(before.gpu_devices)])
        results.add("memory.rest_gpu_mb", who, 1, [sum(rest.gpu_devices)])
    results.add("memory.rest_mb", who, 1, [rest.total])
    for name, points in (("tree", after), ("gateway", gateway)):
        # After the last tasks nothing waits, and the worker is exiting.
        grown = slope(points[len(points) // _SETTLE_SHARE : -_AT_A_TIME])
        if grown.margin < float("inf"):
            results.add(f"memory.{name}_slope_mb", who, 1, [grown.per_step])
            results.add(f"memory.{name}_slope_margin_mb", who, 1, [grown.margin])


class _Sampled:
    """Samples memory over time, in a thread of its own."""

    def __init__(self, meter: MemoryMeter) -> None:
        self.points: list[tuple[float, Use]] = []
        self._meter = meter
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> _Sampled:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _loop(self) -> None:
        started = time.monotonic()
        while not self._over.is_set():
            self.points.append((time.monotonic() - started, self._meter.take()))
            self._over.wait(_SAMPLE_EVERY_S)
