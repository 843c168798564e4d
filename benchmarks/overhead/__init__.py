"""What isolation costs, against its goals: ``python -m benchmarks.overhead``."""
