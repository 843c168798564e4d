"""What this build costs and saves compared with docling-serve 1.38.2, on this machine.

Run it from the repository root: ``make bench``, or ``python -m benchmarks --help``.
"""
