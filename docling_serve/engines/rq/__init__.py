"""The rq engine: tasks in Redis, run by ``docling-serve rq-worker``."""
