"""What concerns a whole process: its shutdown, its imports, its control group's limits."""
