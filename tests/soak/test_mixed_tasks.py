"""Many tasks of all kinds, faults at random: each accepted task ends exactly once, with the right
text or the right cause.

300 tasks with ``--soak``, a few of each fault without.
"""

from __future__ import annotations

import time

import pytest

from tests.conftest import FORKED, StartServer
from tests.helpers.eventually import eventually
from tests.helpers.server import ORPHAN_LIMIT_S, SUBPROCESS_MODE, WITH_FAULTY_OCR
from tests.soak.audit import Audit
from tests.soak.mixed_run import MixedRun
from tests.soak.plans import draw

SEED = 20
TASKS = {True: 300, False: 12}
CLIENTS = 6
TIMEOUT_S = {True: 40, False: 15}


@pytest.mark.timeout(3600)
async def test_each_task_ends_once_and_as_it_should(start_server: StartServer, soak: bool) -> None:
    server = start_server(
        SUBPROCESS_MODE
        | FORKED
        | WITH_FAULTY_OCR
        | {
            "DOCLING_SERVE_SUBPROCESS_MAX_WORKERS": "2",
            "DOCLING_SERVE_SUBPROCESS_TIMEOUT": str(TIMEOUT_S[soak]),
            "DOCLING_SERVE_ENABLE_MANAGEMENT_ENDPOINTS": "true",
        }
    )
    idle = server.idle_tree()
    started = time.monotonic()

    account = await MixedRun(server, CLIENTS).play(draw(TASKS[soak], SEED))

    audit = Audit(server, account)
    print(f"\n{TASKS[soak]} mixed tasks, seed {SEED}, {time.monotonic() - started:.0f} s")
    print(audit.report())
    eventually(lambda: server.tree() == idle, within_s=ORPHAN_LIMIT_S, what=server.commands)
    assert Audit(server, account).faults() == []
    assert server.api.get("/ready").status_code == 200
    server.api.get("/v1/clear/results", older_then=0)
    eventually(lambda: server.scratch_files() == [], within_s=ORPHAN_LIMIT_S)
