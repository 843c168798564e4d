"""A server that sees the packages of the lite install and no others, with nothing set."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.helpers.api import missing_phrases, upload
from tests.helpers.lite_site import link_packages, without_other_packages
from tests.helpers.model_free_documents import WORD, model_free_documents
from tests.helpers.server import REPOSITORY, SUBPROCESS_MODE, RunningServer


@pytest.fixture(scope="module")
def lite_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    site = tmp_path_factory.mktemp("lite")
    link_packages(site)
    # The links lead to a folder that the sandbox of a worker would not let it read.
    return {
        "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(site))),
        "DOCLING_SERVE_SUBPROCESS_SANDBOX_ALLOW": sysconfig.get_path("purelib"),
    }


@pytest.fixture(scope="module")
def lite_server(serve: StartServer, lite_env: dict[str, str]) -> Iterator[RunningServer]:
    options = {"config": None, "command": without_other_packages}
    with serve(SUBPROCESS_MODE | lite_env, **options) as running:
        yield running


def _run(env: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        env={**os.environ, **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_scan_and_every_format_without_models_convert(lite_server: RunningServer) -> None:
    scan = lite_server.api.submit(upload("scan.png"))
    documents = model_free_documents()
    tasks = {
        name: lite_server.api.submit(upload(name, content)) for name, content in documents.items()
    }

    wrong = {}
    for name, task in tasks.items():
        document = lite_server.api.succeed(task)["document"]
        if WORD not in document["md_content"]:
            wrong[name] = document["md_content"]
    assert wrong == {}
    document = lite_server.api.succeed(scan)["document"]
    assert missing_phrases("scan.png", document["md_content"]) == []


@pytest.mark.parametrize(
    ("path", "form", "requirement"),
    [
        ("/v1/convert/file", {"pipeline": "vlm"}, "docling-serve[vlm]"),
        ("/v1/convert/file", {"do_picture_classification": "true"}, "docling-serve"),
        ("/v1/chunk/hybrid/file", {}, "docling-core[chunking]"),
    ],
)
def test_what_is_not_installed_is_refused(
    lite_server: RunningServer, path: str, form: dict[str, str], requirement: str
) -> None:
    reply = lite_server.api.http.post(path, files=[upload("page.html")], data=form)

    assert reply.status_code == 422
    assert f"pip install '{requirement}'" in reply.json()["detail"]


def test_what_is_not_installed_is_not_offered(lite_server: RunningServer) -> None:
    stages = lite_server.api.get("/v1/capabilities").json()["stages"]

    assert not {"picture_description", "code_formula", "chart_extraction"} & stages.keys()
    assert stages["layout"]["default"] == "embedded"


def test_chunks_by_structure_are_made(lite_server: RunningServer) -> None:
    reply = lite_server.api.http.post("/v1/chunk/hierarchical/file", files=[upload("page.html")])

    assert reply.status_code == 200, reply.text
    assert reply.json()["chunks"]


def test_a_thread_converts_too(lite_env: dict[str, str], tmp_path: Path) -> None:
    """With the mode off, the server itself imports docling."""
    code = (
        "from docling_serve.process.deferred_imports import defer_absent, is_loaded\n"
        "defer_absent()\n"
        "from docling_serve.conversion.conversion import Conversion\n"
        "from docling_serve.settings import DoclingServeSettings\n"
        "from docling_serve.settings.converter_config import converter_config\n"
        "Conversion(converter_config(DoclingServeSettings())).warm_up()\n"
        "print(is_loaded('torch'))\n"
    )

    done = _run(lite_env, tmp_path, "-c", code)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False"]


def test_config_check_names_the_install(lite_env: dict[str, str], tmp_path: Path) -> None:
    done = _run(lite_env, tmp_path, "-m", "docling_serve", "config", "check")

    assert done.returncode == 0, done.stderr
    assert "Lite install" in done.stdout
