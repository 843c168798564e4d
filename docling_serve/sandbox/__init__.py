"""What the kernel is asked to deny a worker, without privileges and with system calls alone."""
