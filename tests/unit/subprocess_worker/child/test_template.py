"""What makes a fork template unfit, seen through the real torch on a fake driver."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.helpers.fake_gpu import FakeCard, FakeDriver, FakeGpu
from tests.helpers.fake_gpu.fixtures import BuiltLibraries
from tests.helpers.process_ends import killed_at_end, python

_IMPORTS_TORCH_AND_FORKS_TEMPLATES = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
import torch
from docling_serve.subprocess_worker.child.template import examine
for before in sys.stdin:
    if (template := os.fork()) == 0:
        exec(before)
        mapped = "libcuda.so" in Path("/proc/self/maps").read_text()
        if os.fork() == 0:
            seen = {"template": os.getppid(), "mapped": mapped, **asdict(examine())}
            print(json.dumps(seen), flush=True)
            os._exit(0)
        os.wait()
        os._exit(0)
    os.waitpid(template, 0)
"""


@dataclass
class Templates:
    """A process that has imported torch on a fake driver: what each test forks is as it was then,
    and no test pays for the import again."""

    gpu: FakeGpu
    process: subprocess.Popen[str]

    def seen_by_child(self, before: str = "pass") -> dict[str, Any]:
        """What a child of a template sees that has run ``before``, one line of Python."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(before, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        assert line, "the template ended"
        seen: dict[str, Any] = json.loads(line)
        return seen

    def asked_for_cuda(self, seen: dict[str, Any]) -> bool:
        """Whether that template, or the import of torch, called libcuda."""
        pids = {self.process.pid, seen["template"]}
        return any(call.pid in pids for call in self.gpu.calls("cuInit"))


@pytest.fixture(scope="module")
def templates(
    fake_libraries: BuiltLibraries, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Templates]:
    gpu = FakeGpu(tmp_path_factory.mktemp("gpu"), fake_libraries(()))
    gpu.play(FakeDriver(cards=(FakeCard(0),), cuda_order=(0,)))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CUDA_")}
    process = subprocess.Popen(
        python("-c", _IMPORTS_TORCH_AND_FORKS_TEMPLATES),
        env=gpu.environment(inherited),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with killed_at_end(process):
        yield Templates(gpu, process)


def test_a_template_that_has_imported_torch_is_fit_where_a_driver_is_installed(
    templates: Templates,
) -> None:
    """cuBLAS opens libcuda while torch is imported, and calls nothing in it."""
    templates.gpu.play(FakeDriver(cards=(FakeCard(0),), cuda_order=(0,)))

    seen = templates.seen_by_child()

    assert seen["mapped"]
    assert not seen["cuda"]
    assert not templates.asked_for_cuda(seen)


def test_asking_nvml_through_torch_leaves_a_template_fit(templates: Templates) -> None:
    templates.gpu.play(FakeDriver(cards=(FakeCard(0),), cuda_order=(0,)))

    seen = templates.seen_by_child("torch.cuda.device_count()")

    assert not seen["cuda"]
    assert not templates.asked_for_cuda(seen)


@pytest.mark.parametrize("devices", [(), (0,)], ids=["no device", "a device"])
def test_a_template_in_which_torch_asked_for_cuda_is_unfit(
    templates: Templates, devices: tuple[int, ...]
) -> None:
    templates.gpu.play(FakeDriver(cards=(FakeCard(0),), cuda_order=devices))

    seen = templates.seen_by_child("torch.cuda.is_available()")

    assert seen["cuda"]
    assert templates.asked_for_cuda(seen)
