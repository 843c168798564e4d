"""One module per question of a user. Each starts the servers that it needs, and stops them."""
