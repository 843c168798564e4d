"""A server that runs one hanging job and waits to be killed.

``python -m tests.faults.lonely_server START_METHOD DO FOLDER`` prints the pids of
its worker and of what the job started.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.helpers.pools import ScriptedJob, open_pool


async def _main(start_method: str, do: str, folder: Path) -> None:
    job = ScriptedJob.make(folder, do=do, ignore_sigterm=True, grandchild=True)
    async with open_pool(start_method=start_method) as pool:
        running = job.begin(pool, timeout_s=60)
        await job.introduced.wait()
        print(job.pid, job.facts["grandchild"], flush=True)
        await running


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
