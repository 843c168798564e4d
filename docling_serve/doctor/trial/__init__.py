"""Real servers of this installation, started to measure what their tasks take and free.

``examples.demo`` measures with the same parts.
"""
