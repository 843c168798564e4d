from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from ctypes.util import find_library
from pathlib import Path

import pytest

from docling_serve.vram.nvml import GpuDevice, GpuProbe, GpuProcess, GpuState
from docling_serve.vram.nvml_library import NvmlLibrary, load_nvml
from tests.helpers.stand_in_nvml import (
    DRIVER_NOT_LOADED,
    GIB,
    GPU_IS_LOST,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    NOT_SUPPORTED,
    UNKNOWN,
    StandInGpu,
    StandInNvml,
    StandInNvmlError,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def probe_of(nvml: StandInNvml, visible: str | None = None) -> GpuProbe:
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    return GpuProbe(nvml, environ=environ, cache_s=0)


def test_reads_memory_and_processes_by_uuid() -> None:
    gpu = StandInGpu(
        "GPU-a", 24 * GIB, 2 * GIB, "RTX", reserved_bytes=GIB, processes=((7, GIB), (8, None))
    )
    nvml = StandInNvml([gpu])

    reading = probe_of(nvml).read()

    assert reading.state is GpuState.KNOWN
    assert reading.devices == (GpuDevice(0, "GPU-a", "RTX", 24 * GIB, 2 * GIB, 21 * GIB),)
    assert reading.processes == {"GPU-a": (GpuProcess(7, GIB), GpuProcess(8, None))}
    assert reading.device("GPU-a") is reading.devices[0]
    assert reading.device("GPU-b") is None
    assert reading.listed_pids({8, 9}) == {8}
    assert nvml.open_count == 1


def test_the_library_stays_open_until_the_probe_is_closed() -> None:
    nvml = StandInNvml([StandInGpu("GPU-a")])
    probe = probe_of(nvml)

    for _ in range(3):
        assert probe.read().state is GpuState.KNOWN
    assert (nvml.inits, nvml.open_count) == (1, 1)

    probe.close()
    probe.close()
    assert nvml.open_count == 0
    assert probe.read().state is GpuState.KNOWN
    assert nvml.inits == 2


def test_an_old_driver_is_read_with_version_1() -> None:
    gpu = StandInGpu("GPU-a", 24 * GIB, 2 * GIB, reserved_bytes=GIB)

    reading = probe_of(StandInNvml([gpu], has_memory_v2=False)).read()

    assert [device.used_bytes for device in reading.devices] == [3 * GIB]


@pytest.mark.parametrize("code", [LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED])
def test_without_a_driver_there_is_no_gpu(code: int) -> None:
    probe = probe_of(StandInNvml(init=StandInNvmlError(code)))

    assert probe.read().state is GpuState.NONE
    assert probe.visible_devices() == ()


def test_without_the_library_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    reading = GpuProbe().read()

    assert reading.state is GpuState.NONE
    assert "nvidia-ml-py" in reading.reason


def test_a_driver_without_gpus_is_no_gpu() -> None:
    assert probe_of(StandInNvml()).read().state is GpuState.NONE


@pytest.mark.parametrize("code", [UNKNOWN, NO_PERMISSION])
def test_a_driver_that_fails_is_unknown_and_not_zero(code: int) -> None:
    probe = probe_of(StandInNvml([StandInGpu("GPU-a")], init=StandInNvmlError(code)))

    reading = probe.read()

    assert reading.state is GpuState.UNKNOWN
    assert str(StandInNvmlError(code)) in reading.reason
    assert probe.visible_devices() is None


def test_a_driver_that_comes_back_is_known_again() -> None:
    error = StandInNvmlError(UNKNOWN)
    nvml = StandInNvml([StandInGpu("GPU-a")], init=[None, error, error, None])
    probe = probe_of(nvml)

    assert [probe.read().state for _ in range(3)] == [
        GpuState.KNOWN,
        GpuState.UNKNOWN,  # also when it was opened anew
        GpuState.KNOWN,
    ]
    assert nvml.open_count == 1


def test_a_driver_that_was_replaced_is_opened_anew_at_once() -> None:
    nvml = StandInNvml([StandInGpu("GPU-a")], init=[None, StandInNvmlError(UNKNOWN), None])
    probe = probe_of(nvml)

    assert [probe.read().state for _ in range(2)] == [GpuState.KNOWN, GpuState.KNOWN]
    assert (nvml.inits, nvml.open_count) == (2, 1)


def test_memory_that_cannot_be_read_is_unknown() -> None:
    gpu = StandInGpu("GPU-a", used_bytes=StandInNvmlError(NO_PERMISSION))
    nvml = StandInNvml([gpu])

    reading = probe_of(nvml).read()

    assert reading.state is GpuState.UNKNOWN
    assert reading.unreadable == ("GPU-a: Insufficient Permissions",)
    assert nvml.open_count == 0


def test_a_gpu_without_memory_of_its_own_has_the_hosts(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(
        "MemTotal:       127600748 kB\nMemFree:  1 kB\nMemAvailable:   118566368 kB\n"
    )
    gpu = StandInGpu("GPU-a", used_bytes=StandInNvmlError(NOT_SUPPORTED), processes=((7, GIB),))

    reading = GpuProbe(StandInNvml([gpu]), environ={}, root=tmp_path).read()

    total, free = 127600748 * 1024, 118566368 * 1024
    assert reading.devices == (
        GpuDevice(0, "GPU-a", "Stand-in GPU", total, total - free, free, of_host=True),
    )
    assert reading.processes == {"GPU-a": (GpuProcess(7, GIB),)}


@pytest.mark.parametrize("code", [LIBRARY_NOT_FOUND, DRIVER_NOT_LOADED])
def test_a_gpu_without_its_library_is_unknown(code: int, tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    probe = GpuProbe(StandInNvml(init=StandInNvmlError(code)), environ={}, root=tmp_path)
    assert probe.read(max_age_s=0).state is GpuState.NONE

    (tmp_path / "dev" / "nvidiactl").touch()
    (tmp_path / "dev" / "nvidia-uvm").touch()
    assert probe.read(max_age_s=0).state is GpuState.NONE
    (tmp_path / "dev" / "nvidia0").touch()
    reading = probe.read(max_age_s=0)

    assert reading.state is GpuState.UNKNOWN
    assert "driver capability 'utility'" in reading.reason


def test_one_lost_gpu_does_not_hide_the_others() -> None:
    lost = StandInGpu("GPU-a", used_bytes=StandInNvmlError(GPU_IS_LOST))
    closed = StandInGpu("GPU-b", opens=False)

    reading = probe_of(StandInNvml([lost, closed, StandInGpu("GPU-c")])).read()

    assert reading.state is GpuState.KNOWN
    assert [(device.index, device.uuid) for device in reading.devices] == [(2, "GPU-c")]
    assert reading.unreadable == ("GPU-a: GPU is lost", "GPU 1: Unknown Error")


def test_a_process_list_without_permission_is_missing_not_empty() -> None:
    gpu = StandInGpu("GPU-a", processes=StandInNvmlError(NO_PERMISSION))

    reading = probe_of(StandInNvml([gpu])).read()

    assert reading.state is GpuState.KNOWN
    assert "GPU-a" not in reading.processes
    assert reading.listed_pids({1}) == frozenset()


def test_cuda_visible_devices_selects_and_orders() -> None:
    nvml = StandInNvml([StandInGpu("GPU-aa"), StandInGpu("GPU-bb"), StandInGpu("GPU-cc")])

    reading = probe_of(nvml, "GPU-cc,GPU-a").read()

    assert [(device.index, device.uuid) for device in reading.devices] == [
        (2, "GPU-cc"),
        (0, "GPU-aa"),
    ]


def test_hidden_gpus_are_no_gpu() -> None:
    reading = probe_of(StandInNvml([StandInGpu("GPU-aa")]), "").read()

    assert reading.state is GpuState.NONE
    assert "CUDA_VISIBLE_DEVICES" in reading.reason


def test_mig_devices_stand_in_place_of_their_gpu() -> None:
    whole = StandInGpu(
        "GPU-aa",
        used_bytes=StandInNvmlError(NO_PERMISSION),
        mig=[StandInGpu("MIG-11", 10 * GIB), StandInGpu("MIG-22", 20 * GIB)],
    )
    nvml = StandInNvml([whole, StandInGpu("GPU-bb")])

    everything = probe_of(nvml).read()
    second = probe_of(nvml, "1").read()

    assert [device.uuid for device in everything.devices] == ["MIG-11", "MIG-22", "GPU-bb"]
    assert everything.unreadable == ()
    assert [device.total_bytes for device in second.devices] == [20 * GIB]


def test_a_mig_device_we_may_not_open_is_reported() -> None:
    whole = StandInGpu("GPU-aa", mig=[StandInGpu("MIG-11", opens=False)])

    reading = probe_of(StandInNvml([whole])).read()

    assert reading.state is GpuState.UNKNOWN
    assert "Insufficient Permissions" in reading.reason


def test_mig_mode_without_devices_is_no_gpu() -> None:
    assert probe_of(StandInNvml([StandInGpu("GPU-aa", mig=[])])).read().state is GpuState.NONE


def test_an_unlisted_mig_device_is_opened_by_uuid() -> None:
    part = StandInGpu("MIG-99", 10 * GIB, listed=False)

    known = probe_of(StandInNvml([part]), "MIG-99").read()
    wrong = probe_of(StandInNvml([part]), "MIG-00").read()

    assert [(device.index, device.uuid) for device in known.devices] == [(-1, "MIG-99")]
    assert wrong.state is GpuState.UNKNOWN
    assert "MIG-00: Not Found" in wrong.reason


def test_a_reading_is_kept_for_a_second() -> None:
    clock = Clock()
    nvml = StandInNvml([StandInGpu("GPU-a", used_bytes=[1, 2, 3])])
    probe = GpuProbe(nvml, environ={}, clock=clock)

    def used(max_age_s: float | None = None) -> int:
        return probe.read(max_age_s).devices[0].used_bytes

    assert used() == 1
    clock.now += 0.9
    assert used() == 1
    assert used(max_age_s=0) == 2
    clock.now += 0.9
    assert used() == 2
    clock.now += 0.2
    assert used() == 3
    assert nvml.readings == 3


def test_a_driver_that_hangs_does_not_hang_the_others() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        assert go_on.wait(timeout=60)

    probe = GpuProbe(
        StandInNvml([StandInGpu("GPU-a")], on_init=hang), environ={}, lock_wait_s=0.001
    )
    first = threading.Thread(target=probe.read)
    first.start()
    try:
        assert entered.wait(timeout=60)
        reading = probe.read()
    finally:
        go_on.set()
        first.join()

    assert reading.state is GpuState.UNKNOWN
    assert "does not answer" in reading.reason
    assert probe.read().state is GpuState.KNOWN


def test_the_real_library_has_all_we_call() -> None:
    real = load_nvml()
    used = [name for name in vars(NvmlLibrary) if name.lower().startswith("nvml")]

    assert len(used) > 10
    assert [name for name in used if not hasattr(real, name)] == []
    assert [name for name in used if not hasattr(StandInNvml(), name)] == []


def test_the_numbers_of_the_stand_in_are_the_real_ones() -> None:
    real, played = load_nvml(), StandInNvml()
    numbers = [
        name for name in vars(NvmlLibrary) if name.startswith("NVML_") or name == "nvmlMemory_v2"
    ]

    assert {name: getattr(played, name) for name in numbers} == {
        name: getattr(real, name) for name in numbers
    }


def test_a_machine_without_the_driver_library_has_no_gpu() -> None:
    if find_library("nvidia-ml") is not None:
        pytest.skip("this machine has NVIDIA's driver library")

    reading = GpuProbe(environ={}).read()

    assert reading.state is GpuState.NONE
    assert "NVML Shared Library Not Found" in reading.reason


@pytest.mark.skipif(
    find_library("nvidia-ml") is None or not Path("/dev/nvidiactl").exists(),
    reason="needs an NVIDIA GPU",
)
def test_a_real_gpu_is_read() -> None:
    reading = GpuProbe().read()

    assert reading.state is GpuState.KNOWN, reading.reason
    for device in reading.devices:
        assert device.uuid.startswith(("GPU-", "MIG-"))
        assert 0 <= device.used_bytes < device.total_bytes
    assert reading.listed_pids({os.getpid()}) == frozenset(), "reading made a CUDA context"


def test_reading_imports_neither_torch_nor_cuda() -> None:
    code = (
        "import sys; from docling_serve.vram.nvml import GpuProbe;"
        "assert 'pynvml' not in sys.modules; GpuProbe().read();"
        "bad = {'torch', 'onnxruntime'} & set(sys.modules); assert not bad, bad;"
        "assert 'libcuda' not in open('/proc/self/maps').read()"
    )
    root = Path(importlib.import_module("docling_serve").__path__[0]).parent

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
