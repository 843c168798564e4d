"""Run a command that ends with its parent: ``python leashed.py command...``.

A test run that is cut off (a stuck test, Ctrl-C twice) must not leave servers behind.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - keeps the pid and the signal set above
