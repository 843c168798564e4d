"""The server's side: the pool, its scheduler, and the lifecycle of each worker."""
