"""How this process runs tasks: the gate that each task passes, and what lies behind it."""
