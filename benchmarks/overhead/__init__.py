"""The cost of isolation, against its goals: ``python -m benchmarks.overhead``."""
