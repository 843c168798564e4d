"""One module per question a user asks. Each starts the servers that it needs, and stops them."""
