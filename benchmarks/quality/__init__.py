"""How well documents are recognised: headings, reading order, tables, text, as figures.

Run it from the repository root: ``python -m benchmarks.quality --help``.
"""
