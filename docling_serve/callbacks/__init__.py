"""Callbacks of a task: where they may go, and delivery until they arrive."""
