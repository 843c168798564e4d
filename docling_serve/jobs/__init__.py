"""A job as plain data: what engines hand over, and what workers and threads convert."""
