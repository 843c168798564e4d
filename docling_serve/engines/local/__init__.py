"""The local engine: tasks of this machine, in a journal."""
