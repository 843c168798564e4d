"""The figures a user feels first: start, idle memory, a small document, a page, a cold start.

    python -m benchmarks.basics [--rounds 5]

Starts servers of its own on free loopback ports, with the embedded OCR profile and no network, and
prints medians with their range. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ROOT / "examples" / "documents"
READY_WITHIN_S = 120.0


@contextmanager
def server(**settings: str) -> Iterator[tuple[httpx.Client, psutil.Process, float]]:
    """A client of a running server, its process, and the seconds from start to /ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "DOCLING_SERVE_CONFIG_FILE": str(ROOT / "examples" / "ocr-only.yaml"),
        **{f"DOCLING_SERVE_{name.upper()}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "docling_serve", "run", "--host", "127.0.0.1"]
    started = time.monotonic()
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
            while True:
                try:
                    if client.get("/ready").status_code == httpx.codes.OK:
                        break
                except httpx.TransportError:
                    pass
                if time.monotonic() - started > READY_WITHIN_S:
                    raise TimeoutError("the server did not become ready")
                time.sleep(0.01)
            yield client, psutil.Process(process.pid), time.monotonic() - started
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def convert(client: httpx.Client, name: str) -> tuple[float, float]:
    """Seconds until the answer, and seconds of it that were conversion."""
    with (DOCUMENTS / name).open("rb") as document:
        started = time.monotonic()
        reply = client.post("/v1/convert/file", files={"files": (name, document)})
    took = time.monotonic() - started
    reply.raise_for_status()
    return took, float(reply.json()["processing_time"])


def until_standby(client: httpx.Client) -> None:
    """Wait until a standby worker has done its imports."""
    while not any(w["state"] == "standby" for w in client.get("/v1/workers").json()["workers"]):
        time.sleep(0.05)


def show(what: str, values: list[float], unit: str) -> None:
    """One line: median and range."""
    middle = statistics.median(values)
    print(f"{what:<52} {middle:8.3f} {unit}  ({min(values):.3f} to {max(values):.3f})", flush=True)


def measure(rounds: int) -> None:
    """All of it, in the order of the docstring."""
    on = {"use_subprocess": "true", "enable_management_endpoints": "true"}
    ready, idle = [], []
    for _ in range(rounds):
        with server(**on) as (_, process, took):
            ready.append(took)
            idle.append(process.memory_info().rss / 1e6)
    show("start to /ready", ready, "s")
    show("idle RSS of the server process", idle, "MB")

    with server(**on, subprocess_prewarm="1") as (client, _, _):
        until_standby(client)
        convert(client, "notes.md")
        times = [convert(client, "notes.md") for _ in range(4 * rounds)]
    show("Markdown, sync, standby worker", [took for took, _ in times], "s")

    with server(**on, free_vram_on_idle="false", subprocess_idle_timeout="600") as (client, _, _):
        convert(client, "scan.png")
        times = [convert(client, "scan.png") for _ in range(2 * rounds)]
    show("OCR page, warm worker", [took for took, _ in times], "s")
    show("  of it not conversion", [took - work for took, work in times], "s")

    with server(use_subprocess="false", load_models_at_boot="false") as (client, _, _):
        convert(client, "scan.png")
        times = [convert(client, "scan.png") for _ in range(2 * rounds)]
    show("OCR page, mode off, models loaded", [took for took, _ in times], "s")

    for method in ("spawn", "forkserver"):
        with server(**on, subprocess_start_method=method) as (client, _, _):
            convert(client, "notes.md")  # the fork template is there after it
            first(
                f"first OCR page after idle, {method}", lambda: convert(client, "scan.png"), rounds
            )


def first(what: str, once: Callable[[], tuple[float, float]], rounds: int) -> None:
    """Every conversion is a first one: with nothing waiting, its worker has ended."""
    show(what, [once()[0] for _ in range(rounds)], "s")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    measure(parser.parse_args().rounds)


if __name__ == "__main__":
    main()
