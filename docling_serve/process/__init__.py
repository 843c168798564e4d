"""What holds for a whole process: its end, its imports, its group's limits."""
