"""What both sides share: the channel, its messages, and a worker's configuration."""
