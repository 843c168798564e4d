"""Commands that talk to a running server: convert, and look at tasks and workers.

docling's own client is no substitute: importing it imports torch (3.0 s of processor time and 645
MiB, against 0.1 s and 30 MiB here), and it has no events, so it shows no pages.
"""
