"""What the engines based on Redis have in common."""
