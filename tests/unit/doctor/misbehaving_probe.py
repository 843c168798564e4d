"""A probe whose questions name the ways in which a child can fail to answer."""

from __future__ import annotations

import json
import os
import signal
import sys


def main(question: str) -> None:
    """Misbehave as ``question`` says."""
    print("the last words", file=sys.stderr, flush=True)
    if question == "hangs":
        signal.pause()
    elif question == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif question == "raises":
        raise RuntimeError("no such device")
    elif question == "talks":
        sys.stderr.write("x" * 1_000_000)
        print(json.dumps({"pid": os.getpid()}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
