"""The command line: the server's commands, and those that talk to a running server."""
