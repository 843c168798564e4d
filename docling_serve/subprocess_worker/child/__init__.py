"""The worker's side: what runs in the child process."""
