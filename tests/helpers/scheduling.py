"""Which worker of pytest-xdist runs which tests."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

#: Files whose tests use one server in each mode. Each worker that runs one of them starts both
#: servers, which load torch and the OCR models: 20 s of processor time.
_ONE_SERVER = frozenset(
    f"tests/integration/test_{name}.py"
    for name in (
        "bad_input",
        "conversions",
        "known_clients",
        "official_client",
        "page_fanout",
        "put_target",
    )
)


class FilesTogether(LoadFileScheduling):  # type: ignore[misc]  # xdist has no annotations
    """A file at a time to each worker, as ``--dist loadfile`` does, and files that share a server
    to the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "the shared server" if file in _ONE_SERVER else file
