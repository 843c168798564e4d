"""The images, built on a base made here and used as a deployment uses them: ``make images``."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.helpers.api import missing_phrases, upload
from tests.images import containers
from tests.images.containers import Container

GB = 1e9
DOCUMENTS = ("scan.png", "letter.docx", "notes.md")
#: What the images may take, and what a container needs to convert a scan without weights.
IMAGES: dict[str, tuple[float, dict[str, str]]] = {
    "lite": (0.9 * GB, {}),  # of which the base is 0.18
    "cpu": (2.5 * GB, {"DOCLING_SERVE_CONFIG_FILE": "/etc/docling-serve/embedded.yaml"}),
}


@pytest.mark.timeout(5400)
@pytest.mark.parametrize("target", IMAGES)
def test_an_image_serves_and_loses_nothing(
    target: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if not request.config.getoption("--images"):
        pytest.skip("builds an image, for minutes: make images")
    if (reason := containers.why_not()) is not None:
        pytest.skip(reason)
    limit, env = IMAGES[target]
    image = containers.build(target, tmp_path)
    size = containers.size(image)
    print(f"{image}: {size / GB:.2f} GB")

    with Container(image, tmp_path / "tasks", env) as container:
        container.start()
        _look_around(container)
        for name in DOCUMENTS:
            reply = container.api.convert(upload(name))
            assert reply.status_code == 200, reply.text
            assert missing_phrases(name, reply.json()["document"]["md_content"]) == []

        tasks = {container.api.submit(upload(name)): name for name in DOCUMENTS}
        assert container.end(signal.SIGKILL) == 128 + signal.SIGKILL
        container.remove()
        container.start()
        _all_are_there(container, tasks)

        tasks = {container.api.submit(upload(name)): name for name in DOCUMENTS}
        assert container.end(signal.SIGTERM) in (0, 128 + signal.SIGTERM)
        assert "shutting down" in container.log()
        container.remove()
        container.start()
        _all_are_there(container, tasks)
    assert size <= limit


def _look_around(container: Container) -> None:
    """No root, nothing to write to but the volume and /tmp, tini first."""
    assert {process.uids().real for process in container.processes()} == {containers.USER}
    assert container.execute("cat", "/proc/1/comm").strip() == "tini"
    (root,) = [
        line.split()
        for line in container.execute("cat", "/proc/mounts").splitlines()
        if line.split()[1] == "/"
    ]
    assert "ro" in root[3].split(",")
    assert "CapEff:\t0000000000000000" in container.execute("cat", "/proc/1/status")
    assert container.execute("docling-serve", "--version").startswith("docling-serve:")
    storage = "import boto3; print(boto3.client('s3', region_name='us-east-1').meta.service_model)"
    assert "s3" in container.execute("python", "-c", storage)


def _all_are_there(container: Container, tasks: dict[str, str]) -> None:
    for task, name in tasks.items():
        text = container.api.succeed(task)["document"]["md_content"]
        assert missing_phrases(name, text) == []
