"""The reader through the real pynvml, on drivers that a stand-in for pynvml cannot play."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from docling_serve.vram.cuda_order import CudaDevices
from tests.helpers.eventually import longer_and_longer
from tests.helpers.fake_gpu import (
    GIB,
    NOT_SUPPORTED,
    FakeCard,
    FakeDriver,
    FakeGpu,
    FakeProcess,
)
from tests.helpers.fake_gpu.fixtures import NewFakeGpu

SMALL = FakeCard(1, total_bytes=8 * GIB, used_bytes=GIB, reserved_bytes=GIB // 2)
#: Of driver 470, the last for Kepler cards.
NOT_IN_470 = (
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
)
READ = """
import json
from docling_serve.vram.mode import decide_mode
from docling_serve.vram.nvml import GpuProbe
probe = GpuProbe(cache_s=0)
for _ in range(3):
    reading = probe.read()
print(json.dumps({
    "state": reading.state.value,
    "reason": reading.reason,
    "used": [device.used_bytes for device in reading.devices],
    "of_host": [device.of_host for device in reading.devices],
    "listed": {uuid: [[p.pid, p.used_bytes] for p in listed]
               for uuid, listed in reading.processes.items()},
    "auto": decide_mode("auto", probe).enabled,
}))
"""


def test_an_old_driver_is_read_and_auto_decides(new_fake_gpu: NewFakeGpu) -> None:
    gpu = new_fake_gpu(NOT_IN_470)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        gpu.play(FakeDriver((replace_processes(SMALL, FakeProcess(other.pid, GIB)),), "470.256.02"))

        read = json.loads(gpu.python(READ))

    assert read["state"] == "known"
    assert read["used"] == [2 * GIB + GIB // 2]  # version 1 counts what the driver keeps
    assert read["listed"] == {SMALL.uuid: [[other.pid, GIB]]}
    assert read["auto"] is True


def test_a_driver_without_any_list_of_processes_is_read(new_fake_gpu: NewFakeGpu) -> None:
    gpu = new_fake_gpu((*NOT_IN_470, "nvmlDeviceGetComputeRunningProcesses_v2"))
    gpu.play_cards(SMALL)

    read = json.loads(gpu.python(READ))

    assert (read["state"], read["listed"], read["auto"]) == ("known", {}, True)


def test_a_gpu_that_shares_the_hosts_memory_is_read(fake_gpu: FakeGpu) -> None:
    card = FakeCard(15, name="NVIDIA GB10", processes=(FakeProcess(7, GIB, lives_with=0),))
    no_memory = ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2")
    fake_gpu.play(FakeDriver((card,), answers=dict.fromkeys(no_memory, NOT_SUPPORTED)))

    read = json.loads(fake_gpu.python(READ))

    assert (read["state"], read["of_host"]) == ("known", [True])
    assert read["used"][0] > 0
    assert read["listed"] == {card.uuid: [[7, GIB]]}


def test_clients_of_a_multi_process_service_are_listed(fake_gpu: FakeGpu) -> None:
    server = FakeProcess(7, GIB // 4, lives_with=0)
    client = FakeProcess(8, GIB, lives_with=0, mps=True)
    fake_gpu.play_cards(replace_processes(SMALL, server, client))

    read = json.loads(fake_gpu.python(READ))

    assert read["listed"] == {SMALL.uuid: [[7, GIB // 4], [8, GIB]]}


def test_the_driver_is_opened_once_for_many_readings(fake_gpu: FakeGpu) -> None:
    fake_gpu.play_cards(SMALL)

    assert json.loads(fake_gpu.python(READ))["state"] == "known"

    assert len(fake_gpu.calls("nvmlDeviceGetCount_v2")) == 4  # three and one of "auto"
    assert len(fake_gpu.calls("nvmlInit")) == 1
    assert len(fake_gpu.calls("nvmlShutdown")) == 1  # "auto" leaves nothing open


ORDER = """
from docling_serve.vram.cuda_order import ask_cuda
from docling_serve.vram.nvml import GpuProbe
answer = ask_cuda()
probe = GpuProbe()
before = probe.read().order
probe.count_as_cuda([device.uuid for device in answer.devices])
print([[device.name for device in answer.devices], answer.error, before, probe.read().order])
"""
FAST = FakeCard(2, total_bytes=24 * GIB, name="Fast one")
SLOW = FakeCard(1, name="Slow one")


@pytest.mark.parametrize(
    ("environment", "shown", "by_nvml"),
    [
        ({}, (FAST, SLOW), (SLOW, FAST)),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, (SLOW, FAST), (SLOW, FAST)),
        ({"CUDA_VISIBLE_DEVICES": "0"}, (FAST,), (SLOW,)),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, (SLOW, FAST), (FAST, SLOW)),
        ({"CUDA_VISIBLE_DEVICES": SLOW.uuid}, (SLOW,), (SLOW,)),
    ],
)
def test_cuda_itself_says_what_cuda_0_is(
    fake_gpu: FakeGpu,
    environment: dict[str, str],
    shown: tuple[FakeCard, ...],
    by_nvml: tuple[FakeCard, ...],
) -> None:
    fake_gpu.play(FakeDriver((FAST, SLOW), cuda_order=(2, 1)))

    names = [card.name for card in shown]
    before, after = (tuple(card.uuid for card in cards) for cards in (by_nvml, shown))
    assert fake_gpu.python(ORDER, environment) == str([names, "", before, after])
    # Only the process that was started for it asked.
    assert len({call.pid for call in fake_gpu.calls("cuInit")}) == 1


def test_a_cuda_that_has_no_device_says_so(fake_gpu: FakeGpu) -> None:
    fake_gpu.play(FakeDriver((SLOW,)))
    code = "from docling_serve.vram.cuda_order import ask_cuda; print(ask_cuda())"

    assert fake_gpu.python(code) == str(CudaDevices(error="error 100 of cuInit"))


def test_a_cuda_that_does_not_answer_is_given_up(fake_gpu: FakeGpu) -> None:
    fake_gpu.play(FakeDriver((SLOW,), cuda_order=(1,), held=("cuInit",)))
    limits = longer_and_longer(0.5)
    while not fake_gpu.calls("cuInit"):
        ask = f"ask_cuda(limit_s={(limit_s := next(limits))})"
        code = f"from docling_serve.vram.cuda_order import ask_cuda; print({ask}.error)"
        assert fake_gpu.python(code) == f"CUDA did not answer within {limit_s:g} s"

    [call] = fake_gpu.calls("cuInit")
    assert not Path(f"/proc/{call.pid}").exists()


def replace_processes(card: FakeCard, *processes: FakeProcess) -> FakeCard:
    """The same card with these processes."""
    return FakeCard(**{**vars(card), "processes": processes})
