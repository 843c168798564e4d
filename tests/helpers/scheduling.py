"""Which worker of pytest-xdist runs which tests."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

#: Files whose tests use one server in each mode. Each worker that runs one of them starts both
#: servers, and many of them load torch and the OCR models: 20 s of processor time.
_ONE_SERVER = {
    f"tests/{file}.py": server
    for server, files in {
        "the shared server": (
            "integration/test_bad_input",
            "integration/test_conversions",
            "integration/test_known_clients",
            "integration/test_official_client",
            "integration/test_page_fanout",
            "integration/test_put_target",
        ),
        "the recorded server": ("contract/test_recordings", "contract/test_websocket_recording"),
    }.items()
    for file in files
}


class FilesTogether(LoadFileScheduling):  # type: ignore[misc]  # xdist has no annotations
    """A file at a time to each worker, as ``--dist loadfile`` does, and files that share a server
    to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return _ONE_SERVER.get(file, file)
