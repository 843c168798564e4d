"""The demonstration behind ``make demo``: the same documents, with subprocess mode on and off.

Run it from the repository root: ``python -m examples.demo``.
"""
