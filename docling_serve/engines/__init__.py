"""Engines, which queue tasks and run them: one module per engine, behind one protocol."""
