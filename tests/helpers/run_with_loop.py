"""Run the server on a chosen event loop: ``python run_with_loop.py LOOP PORT``.

``docling-serve run`` leaves the choice to uvicorn, which takes uvloop where it is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import uvicorn


def command_on(loop: str) -> Callable[[int], list[str]]:
    """The command of a server that runs on ``loop``, for a ``RunningServer``."""
    return lambda port: [__file__, loop, str(port)]


if __name__ == "__main__":
    uvicorn.run(
        "docling_serve.app:create_app",
        factory=True,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop=sys.argv[1],
        log_config=None,
    )
