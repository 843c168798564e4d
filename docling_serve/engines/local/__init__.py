"""The local engine: tasks of this machine, recorded in a journal."""
