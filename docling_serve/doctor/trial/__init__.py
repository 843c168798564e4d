"""Real servers of this installation, started to measure what their tasks take and give back.

``examples.demo`` measures with the same parts.
"""
