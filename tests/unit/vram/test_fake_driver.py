"""The fake driver itself, asked through the real pynvml, ctypes and the real torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from docling_serve.internals.docling_devices import torch_build
from tests.helpers.eventually import eventually
from tests.helpers.fake_gpu import (
    GIB,
    GPU_IS_LOST,
    FakeCard,
    FakeDriver,
    FakeGpu,
    FakeProcess,
)
from tests.helpers.fake_gpu.fixtures import NewFakeGpu

FAST = FakeCard(2, total_bytes=24 * GIB, name="Fast one")
SLOW = FakeCard(1, total_bytes=8 * GIB, used_bytes=GIB, reserved_bytes=GIB // 2, name="Slow one")

READ = """
import json, pynvml
pynvml.nvmlInit()
cards = []
for index in range(pynvml.nvmlDeviceGetCount()):
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
    listed = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    cards.append({
        "uuid": pynvml.nvmlDeviceGetUUID(handle),
        "name": pynvml.nvmlDeviceGetName(handle),
        "bus": pynvml.nvmlDeviceGetPciInfo(handle).busId,
        "total": memory.total, "used": memory.used, "free": memory.free,
        "listed": [[each.pid, each.usedGpuMemory] for each in listed],
        "v1": pynvml.nvmlDeviceGetMemoryInfo(handle).used,
    })
print(json.dumps({"driver": pynvml.nvmlSystemGetDriverVersion(), "cards": cards}))
"""

COUNT = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
found = [cuda.cuInit(0)]
count = ctypes.c_int()
if not found[0]:
    cuda.cuDeviceGetCount(ctypes.byref(count))
for ordinal in range(count.value):
    name = ctypes.create_string_buffer(96)
    cuda.cuDeviceGetName(name, 96, ordinal)
    found.append(name.value.decode())
print(found)
"""


def test_pynvml_reads_what_is_played(fake_gpu: FakeGpu) -> None:
    fake_gpu.play(FakeDriver((FAST, SLOW)))
    read = json.loads(fake_gpu.python(READ))
    assert read["driver"] == "580.95.05"
    assert [card["name"] for card in read["cards"]] == ["Slow one", "Fast one"]
    assert read["cards"][0] == {
        "uuid": SLOW.uuid,
        "name": "Slow one",
        "bus": "00000000:01:00.0",
        "total": 8 * GIB,
        "used": GIB,
        "free": 8 * GIB - GIB - GIB // 2,
        "listed": [],
        "v1": GIB + GIB // 2,
    }


def test_memory_of_a_process_counts_until_it_has_ended(fake_gpu: FakeGpu) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as held:
        foreign = FakeProcess(7, GIB, told=False, lives_with=held.pid)
        card = FakeCard(1, processes=(FakeProcess(held.pid, 2 * GIB), foreign))
        fake_gpu.play_cards(card)
        read = json.loads(fake_gpu.python(READ))["cards"][0]
        assert read["used"] == 3 * GIB
        assert read["listed"] == [[held.pid, 2 * GIB], [7, None]]
        held.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, held.pid, os.WEXITED | os.WNOWAIT)
        read = json.loads(fake_gpu.python(READ))["cards"][0]  # a zombie has given it back
    assert read["used"] == 0
    assert read["listed"] == []


def test_calls_answer_with_errors(fake_gpu: FakeGpu) -> None:
    fake_gpu.play(
        FakeDriver((FAST, SLOW), answers={("nvmlDeviceGetMemoryInfo_v2", FAST.uuid): GPU_IS_LOST})
    )
    with pytest.raises(AssertionError, match="GPU is lost"):
        fake_gpu.python(READ)


def test_an_old_driver_lacks_functions(new_fake_gpu: NewFakeGpu) -> None:
    old = new_fake_gpu(("nvmlDeviceGetComputeRunningProcesses_v3",))
    old.play_cards(FAST)
    with pytest.raises(AssertionError, match="NVMLLibraryMismatchError"):
        old.python(READ)


def test_a_held_call_returns_when_it_is_released(fake_gpu: FakeGpu) -> None:
    fake_gpu.play(FakeDriver((FAST,), held=("nvmlDeviceGetCount_v2",)))
    with subprocess.Popen(
        [sys.executable, "-c", READ],
        env=fake_gpu.environment(os.environ),
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        eventually(
            lambda: fake_gpu.calls("nvmlDeviceGetCount_v2"), within_s=60, what="the call has begun"
        )
        assert reader.poll() is None
        fake_gpu.play(FakeDriver((FAST,)))
        out, _ = reader.communicate(timeout=300)
    assert json.loads(out)["cards"][0]["uuid"] == FAST.uuid


@pytest.mark.parametrize(
    ("environment", "seen"),
    [
        ({}, [0, "Fast one", "Slow one"]),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [0, "Slow one", "Fast one"]),
        ({"CUDA_VISIBLE_DEVICES": "0"}, [0, "Fast one"]),
        ({"CUDA_VISIBLE_DEVICES": SLOW.uuid}, [0, "Slow one"]),
        ({"CUDA_VISIBLE_DEVICES": "1,7,0"}, [0, "Slow one"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, [100]),
    ],
)
def test_cuda_counts_in_an_order_of_its_own(
    fake_gpu: FakeGpu, environment: dict[str, str], seen: list[object]
) -> None:
    fake_gpu.play(FakeDriver((FAST, SLOW), cuda_order=(2, 1)))
    assert fake_gpu.python(COUNT, environment) == str(seen)


def test_torch_finds_no_device_and_the_log_says_who_asked(fake_gpu: FakeGpu) -> None:
    if not torch_build().get("cuda"):
        pytest.skip("torch of this environment is a build without CUDA")
    code = f"""
import torch
from pathlib import Path
calls = Path({str(fake_gpu.folder / "calls")!r})
print("cuInit" in calls.read_text() if calls.exists() else False)  # importing torch does not
print(torch.cuda.is_available(), torch.cuda._is_in_bad_fork())
"""
    told = fake_gpu.python(code, {"CUDA_VISIBLE_DEVICES": FAST.uuid})
    assert told.splitlines() == ["False", "False False"]
    [first, *_] = fake_gpu.calls("cuInit")
    assert first.visible == FAST.uuid
    assert "cuda" in first.caller


MAKE = """
import os
from docling_serve.conversion.imports import import_all, import_torch
from docling_serve.subprocess_worker.child.gpu_use import show_one_gpu, take_device_number
number = take_device_number(os.environ)
import_all(False)
import_torch()
from docling_serve.conversion.conversion import Conversion
conversion = Conversion({})
from docling.datamodel.accelerator_options import AcceleratorOptions
print(AcceleratorOptions().device)
"""
USE = f"""
show_one_gpu(os.environ, "{FAST.uuid}", number)
import torch
torch.cuda.is_available()
"""


def test_a_worker_first_calls_cuda_in_its_job_and_sees_the_granted_gpu(fake_gpu: FakeGpu) -> None:
    if not torch_build().get("cuda"):
        pytest.skip("torch of this environment is a build without CUDA")
    fake_gpu.play(FakeDriver((FAST, SLOW), cuda_order=(2, 1)))
    log = f"print(open({str(fake_gpu.folder / 'calls')!r}).read().count('cuInit'))"

    told = fake_gpu.python(f"{MAKE}\n{log}\n{USE}", {"DOCLING_DEVICE": "cuda:1"})

    assert told.splitlines()[-2:] == ["cuda", "0"]
    assert {call.visible for call in fake_gpu.calls("cuInit")} == {FAST.uuid}
