"""The server's side: the pool, its scheduler, and the life of each worker."""
