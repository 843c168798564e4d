"""The program of the doctor's children: ``python -m docling_serve.doctor.probe QUESTION``.

The answer is one line of JSON on standard output. Output of libraries goes to standard error. The
child then waits until its standard input ends, so that the doctor can inspect what it holds.
Nothing is imported before the question is known: the worker that ``workers`` starts imports this
module again.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

#: Maps a question to the module whose ``answer()`` answers it, as dataclasses or plain data.
QUESTIONS = {
    "gpu": "docling_serve.doctor.probes.gpu",
    "onnxruntime": "docling_serve.doctor.probes.onnx_runtime",
    "engines": "docling_serve.doctor.probes.engines",
    "workers": "docling_serve.doctor.probes.workers",
    "mode": "docling_serve.doctor.probes.mode",
}


def main(question: str) -> None:
    """Answer ``question``, then wait for the end of standard input."""
    answer_to = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(answer_to, "w", encoding="utf-8") as out:

        def tell(answer: object) -> None:
            out.write(json.dumps(answer) + "\n")
            out.flush()

        importlib.import_module(QUESTIONS[question]).answer(tell)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
