"""What the engines behind a Redis have in common."""
