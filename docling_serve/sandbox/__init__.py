"""What the kernel denies a worker, using system calls alone and without privileges."""
