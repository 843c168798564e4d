"""Files that are uploaded for a later request."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from docling_serve.api.uploaded_files import NoSuchFile, UploadedFiles
from docling_serve.errors import QueueFull
from docling_serve.settings import DoclingServeSettings
from tests.helpers.eventually import eventually
from tests.helpers.rest_server import rest_server

FILE = {"file": ("a.md", b"# T", "text/markdown")}


async def _add(files: UploadedFiles, content: bytes = b"x", tenant: str = "a") -> str:
    return (await files.add(tenant, "a.md", "text/markdown", io.BytesIO(content))).file_id


async def test_room_is_bounded_and_given_back(tmp_path: Path) -> None:
    files = UploadedFiles(tmp_path / "f", max_bytes=8192, max_age_s=0)
    first = await _add(files, b"x" * 4096)
    await _add(files, b"")  # takes a block all the same
    with pytest.raises(QueueFull, match="eng_loc_max_queued_bytes"):
        await _add(files, b"")
    files.remove("a", first)
    await _add(files, b"x")
    files.close()


async def test_a_file_that_cannot_be_written_takes_no_room(tmp_path: Path) -> None:
    (tmp_path / "f").touch()  # no folder can be made there
    files = UploadedFiles(tmp_path / "f", max_bytes=4096, max_age_s=0)
    with pytest.raises(OSError, match="f"):
        await _add(files)
    (tmp_path / "f").unlink()
    await _add(files)
    files.close()


async def test_a_tenant_sees_its_own_files_only(tmp_path: Path) -> None:
    files = UploadedFiles(tmp_path / "f", max_bytes=0, max_age_s=0)
    own = await _add(files)
    for tenant, file_id in (("b", own), ("a", "unknown")):
        with pytest.raises(NoSuchFile):
            files.find(tenant, file_id)
        with pytest.raises(NoSuchFile):
            files.remove(tenant, file_id)
    assert files.find("a", own).path.read_bytes() == b"x"
    files.close()


async def test_a_file_is_removed_when_its_time_is_over(tmp_path: Path) -> None:
    files = UploadedFiles(tmp_path / "f", max_bytes=4096, max_age_s=0.001)
    await _add(files)
    await asyncio.to_thread(eventually, lambda: not [*(tmp_path / "f").iterdir()], within_s=60)
    await _add(files)  # its room is free again
    files.close()


async def test_nothing_is_left_at_the_end_or_by_a_killed_server(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    files = UploadedFiles(folder, max_bytes=0, max_age_s=1000)
    await _add(files)
    assert oct(folder.stat().st_mode)[-3:] == "700"
    UploadedFiles.of(DoclingServeSettings.model_construct(), folder)
    assert not folder.exists()
    files.close()  # what is gone already is no error
    assert list(tmp_path.iterdir()) == []


async def test_through_the_api_a_file_belongs_to_its_tenant(tmp_path: Path) -> None:
    async with rest_server(tmp_path, enable_mistral_api=True) as server:
        kept = (await server.client.post("/v1/files", files=FILE)).json()
        address = f"/v1/files/{kept['id']}"
        url = (await server.client.get(f"{address}/url")).json()["url"]
        own = await server.client.get(f"{address}/content")
        other = {"X-Tenant-Id": "other"}
        asked = [{"document_url": url}, {"file_id": kept["id"]}]
        refused = [
            await server.client.get(address, headers=other),
            await server.client.get(f"{address}/url", headers=other),
            await server.client.get(f"{address}/content", headers=other),
            await server.client.delete(address, headers=other),
            *[
                await server.client.post(
                    "/v1/ocr", json={"model": "m", "document": each}, headers=other
                )
                for each in asked
            ],
        ]
        deleted = await server.client.delete(address)
        gone = await server.client.delete(address)
        assert server.runner.jobs == []
    assert own.content == b"# T"
    assert own.headers["content-disposition"].startswith("attachment")
    assert url == f"http://server:8000{address}/content"
    assert {reply.status_code for reply in refused} == {404}
    assert deleted.json() == {"id": kept["id"], "object": "file", "deleted": True}
    assert gone.status_code == 404


async def test_only_files_for_ocr_are_taken_and_not_without_bound(tmp_path: Path) -> None:
    async with rest_server(
        tmp_path, enable_mistral_api=True, eng_loc_max_queued_bytes=4096
    ) as server:
        tuning = await server.client.post("/v1/files", files=FILE, data={"purpose": "fine-tune"})
        first = await server.client.post("/v1/files", files=FILE, data={"purpose": "ocr"})
        full = await server.client.post("/v1/files", files=FILE)
    assert tuning.status_code == 422
    assert first.status_code == 200
    assert full.status_code == 429
    assert full.json()["object"] == "error"
