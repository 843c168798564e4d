"""What queues tasks and runs them: one module per engine, behind one protocol."""
